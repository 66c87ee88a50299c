"""What is special about a built-in mixer; what all mixers have in common is tested in tests/testing."""

import pytest
import torch
import torch.nn.functional as F

from poolformer.backbones import create_backbone
from poolformer.errors import OptionsError, ResolutionError
from poolformer.network.mixer_spec import resolve
from poolformer.recipe import parameter_groups


def build(name: str, dim: int = 4, resolution: tuple[int, int] = (3, 5)) -> torch.nn.Module:
    return resolve(name)[0].build(dim, resolution=resolution)


def test_pooling_is_the_average_of_the_tokens_around_minus_the_token():
    x = torch.arange(9.0).view(1, 1, 3, 3)
    mixed = build("pooling", 1)(x)
    assert mixed[0, 0, 1, 1] == 4 - 4
    assert mixed[0, 0, 0, 0] == (0 + 1 + 3 + 4) / 4 - 0  # outside the map nothing counts


def test_random_matrix_mixes_tokens_by_rows_that_sum_to_one():
    mixer, x = build("random_matrix"), torch.randn(2, 4, 3, 5)
    matrix = mixer.random_matrix
    torch.testing.assert_close(matrix.sum(1), torch.ones(15))
    expected = torch.einsum("nm,bmc->bnc", matrix, x.flatten(2).transpose(1, 2))  # X' = W_R X, X (N, C)
    torch.testing.assert_close(mixer(x).flatten(2).transpose(1, 2), expected)
    # Softmax of [0, 1): no weight is more than e times another one of its row.
    assert (matrix.amax(1) / matrix.amin(1)).max() <= torch.e


def test_random_matrices_are_frozen_saved_and_one_for_each_block():
    model = create_backbone("poolformer_tiny", mixer="random_matrix", image_size=16, num_classes=10)
    matrices = {name: value for name, value in model.state_dict().items() if "random_matrix" in name}
    assert len(matrices) == 5
    assert not torch.equal(*[value for name, value in matrices.items() if name.startswith("stages.2")])
    trained = {id(parameter) for group in parameter_groups(model, 0.05) for parameter in group["params"]}
    assert not any(id(p) in trained for name, p in model.named_parameters() if "random_matrix" in name)


def test_spatial_fc_is_one_linear_layer_over_the_tokens():
    mixer, x = build("spatial_fc"), torch.randn(2, 4, 3, 5)
    assert mixer.fc.bias is None
    torch.testing.assert_close(mixer(x), F.linear(x.flatten(2), mixer.fc.weight).view(2, 4, 3, 5))


@pytest.mark.parametrize("name", ["random_matrix", "spatial_fc"])
def test_a_mixer_of_one_size_says_so(name):
    message = f"{name} is built for 3x5 tokens and got 5x3: images must have the size .* --data.image_size"
    with pytest.raises(ResolutionError, match=message):
        build(name)(torch.zeros(1, 4, 5, 3))


def test_separable_conv_widens_filters_each_channel_and_narrows():
    mixer, x = build({"name": "separable_conv", "kernel_size": 3}), torch.randn(2, 4, 3, 5)
    wide = torch.einsum("oi,bihw->bohw", mixer.pwconv1.weight[:, :, 0, 0], x)
    wide = mixer.act1.scale * wide.clamp(min=0) ** 2 + mixer.act1.bias
    padded, filters = F.pad(wide, (1, 1, 1, 1)), mixer.dwconv.weight[:, 0]
    filtered = sum(
        filters[:, i, j, None, None] * padded[:, :, i : i + 3, j : j + 5] for i in range(3) for j in range(3)
    )
    expected = torch.einsum("oi,bihw->bohw", mixer.pwconv2.weight[:, :, 0, 0], filtered)
    torch.testing.assert_close(mixer(x), expected)
    assert not any(name.endswith("bias") for name in mixer.state_dict() if "act1" not in name)


@pytest.mark.parametrize("option", [{"expansion_ratio": 0.1}, {"kernel_size": 4}, {"act": "tanh"}], ids=str)
def test_separable_conv_refuses_what_makes_no_mixer(option):
    with pytest.raises(OptionsError, match=next(iter(option))):
        build({"name": "separable_conv", **option})
