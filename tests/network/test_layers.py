"""The parts of the frame, against PyTorch's own operators and hand calculation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolformer.network.layers import (
    ACTIVATIONS,
    ChannelMLP,
    DropPath,
    LayerNormChannel,
    PatchEmbedding,
    Scale,
    StarReLU,
    init_linear,
    make_norm,
)

TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-12, "atol": 1e-12}}
DTYPES = list(TOLERANCE)


def randomised(module: nn.Module) -> nn.Module:
    """Give a norm an affine part that shows: at its start it is 1 and 0."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


@pytest.mark.parametrize("dtype", DTYPES)
def test_modified_layer_norm_is_over_channels_and_tokens_with_eps_1e_5(dtype):
    # Variance near eps, so that another eps shows.
    x = 0.01 * torch.randn(2, 6, 3, 5, dtype=dtype)
    norm = randomised(make_norm(6)).to(dtype)
    mean, var = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), correction=0, keepdim=True)
    expected = norm.weight.view(-1, 1, 1) * (x - mean) / (var + 1e-5).sqrt() + norm.bias.view(-1, 1, 1)
    torch.testing.assert_close(norm(x), expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_channel_is_torchs_layer_norm_at_each_token(dtype):
    x = 0.01 * torch.randn(2, 6, 3, 5, dtype=dtype)
    norm = randomised(LayerNormChannel(6)).to(dtype)
    expected = F.layer_norm(x.movedim(1, -1), (6,), norm.weight, norm.bias, eps=1e-5).movedim(-1, 1)
    torch.testing.assert_close(norm(x), expected, **TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("name", "kind"),
    [("group", nn.GroupNorm), ("layer", LayerNormChannel), ("batch", nn.BatchNorm2d), ("none", nn.Identity)],
)
def test_each_norm_starts_as_weight_one_and_bias_zero(name, kind):
    norm = make_norm(4, kind=name)
    assert isinstance(norm, kind)
    starts = {parameter: values.unique().tolist() for parameter, values in norm.named_parameters()}
    assert starts == ({} if name == "none" else {"weight": [1], "bias": [0]})


@pytest.mark.parametrize("name", ["group", "layer", "batch"])
def test_a_norm_without_bias_is_the_norm_with_bias_zero(name):
    x = torch.randn(2, 6, 3, 5)
    norm, bare = (make_norm(6, kind=name, eps=1e-6, bias=bias) for bias in (True, False))
    assert [parameter for parameter, _ in bare.named_parameters()] == ["weight"]
    with torch.no_grad():
        for each in (norm, bare):
            each.weight.copy_(torch.arange(6.0))
    torch.testing.assert_close(bare(x), norm(x))
    assert bare.eps == 1e-6


def test_star_relu_is_a_scaled_and_shifted_square():
    act = StarReLU()
    x = torch.tensor([-2.0, 0.0, 3.0])
    assert act(x).tolist() == [0, 0, 9]
    with torch.no_grad():
        act.scale.fill_(0.5)
        act.bias.fill_(-1)
    assert act(x).tolist() == [-1, -1, 3.5]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gelu", lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),  # exact, not by tanh
        ("relu", lambda x: max(x, 0.0)),
        ("silu", lambda x: x / (1 + math.exp(-x))),
    ],
)
def test_each_activation_is_its_formula(name, expected):
    points = [-3.0, -1.0, -0.1, 0.0, 0.7, 2.0]
    found = ACTIVATIONS[name]()(torch.tensor(points, dtype=torch.float64))
    torch.testing.assert_close(found.tolist(), [expected(x) for x in points], rtol=1e-12, atol=1e-12)


def test_layer_scale_multiplies_each_channel_by_its_factor():
    scale = Scale(3, 1e-5)
    assert scale.scale.tolist() == pytest.approx([1e-5] * 3)
    with torch.no_grad():
        scale.scale.copy_(torch.tensor([1.0, 2.0, -3.0]))
    assert torch.equal(scale(torch.ones(2, 3, 4, 5))[1, :, 2, 3], torch.tensor([1.0, 2.0, -3.0]))


def test_drop_path_drops_whole_samples_and_scales_what_it_keeps():
    rate, samples = 0.3, 20_000
    dropped = DropPath(rate).train()(torch.ones(samples, 2, 1, 3))
    per_sample = dropped.flatten(1)
    assert torch.equal(per_sample, per_sample[:, :1].expand_as(per_sample))
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - rate)])
    # Five standard deviations of a binomial.
    kept = float((per_sample[:, 0] > 0).float().mean())
    assert kept == pytest.approx(1 - rate, abs=5 * math.sqrt(rate * (1 - rate) / samples))


@pytest.mark.parametrize(("rate", "training"), [(0.9, False), (0.0, True)])
def test_drop_path_does_nothing_in_evaluation_or_at_rate_zero(rate, training):
    x = torch.randn(64, 2, 3, 3)
    assert torch.equal(DropPath(rate).train(training)(x), x)


def test_channel_mlp_is_two_linear_layers_at_each_token():
    mlp = ChannelMLP(6, 4.0, nn.GELU).double()
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    for layer in (mlp.fc1, mlp.fc2):
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    assert mlp.fc1.weight.shape == (24, 6, 1, 1)
    hidden = F.gelu(F.linear(x.movedim(1, -1), mlp.fc1.weight.flatten(1), mlp.fc1.bias))
    expected = F.linear(hidden, mlp.fc2.weight.flatten(1), mlp.fc2.bias).movedim(-1, 1)
    torch.testing.assert_close(mlp(x), expected, **TOLERANCE[torch.float64])


# sail-sg/poolformer: truncated normal of std 0.02 and bias 0 for the MLP and linear layers only; the
# patch embeddings keep PyTorch's default, uniform up to 1 / sqrt(fan in), biases too.
@pytest.mark.parametrize("layer", [nn.Linear(256, 400), nn.Conv2d(256, 400, 1)], ids=["linear", "convolution"])
def test_linear_layers_start_normal_with_std_002_and_bias_zero(layer):
    init_linear(layer)
    assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    # Cut at 2, not at two standard deviations: 0.3 % of a normal lies beyond three of them.
    assert float((layer.weight.detach().abs() > 0.06).float().mean()) == pytest.approx(0.0027, rel=0.2)
    assert layer.bias.count_nonzero() == 0


def test_a_linear_layer_without_bias_can_be_drawn():
    layer = nn.Linear(64, 64, bias=False)
    init_linear(layer)
    assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_channel_mlp_starts_as_linear_layers_do():
    mlp = ChannelMLP(128, 4.0, nn.GELU)
    for layer in (mlp.fc1, mlp.fc2):
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
        assert layer.bias.count_nonzero() == 0


@pytest.mark.parametrize(
    ("in_channels", "kernel_size", "bound", "std"),
    [(3, 7, 1 / math.sqrt(147), 0.0475), (64, 3, 1 / 24, 0.0241)],
    ids=["stem", "downsampling"],
)
def test_patch_embeddings_start_as_torch_starts_convolutions(in_channels, kernel_size, bound, std):
    conv = PatchEmbedding(in_channels, 128, kernel_size=kernel_size, stride=2, padding=1).conv
    assert float(conv.weight.detach().abs().max()) == pytest.approx(bound, rel=0.01)
    assert float(conv.weight.detach().std()) == pytest.approx(std, rel=0.02)
    assert 0.9 * bound < float(conv.bias.detach().abs().max()) <= bound
    assert conv.bias.count_nonzero() == 128
