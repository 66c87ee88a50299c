"""The fused operators equal their definitions in plain PyTorch: outputs, gradients, statistics.

Triton's kernels run compiled where there is a GPU, in its interpreter on the CPU otherwise (conftest.py).
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from poolformer import create_backbone
from poolformer.errors import OptionsError
from poolformer.kernels import pool_mix as pool_mix_module
from poolformer.kernels.fuse import fuse
from poolformer.kernels.pool_mix import definition, pool_mix

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Samples, channels, height, width, window: whole and ragged tiles, one token, more window than map.
SHAPES = [(2, 40, 9, 10, 3), (1, 5, 7, 3, 5), (3, 33, 1, 1, 3), (1, 8, 5, 6, 7)]
ERRORS = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 1e-2}


@pytest.fixture(params=["kernels", "plain"])
def way(request, monkeypatch) -> str:
    """Triton's kernels, or the same closed form in PyTorch, which devices without Triton have."""
    if request.param == "plain":
        monkeypatch.setattr(pool_mix_module, "_runs_kernels", lambda x: False)
    else:
        pytest.importorskip("triton")
    return request.param


def inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """An image far from zero mean, a norm's weight and bias, a layer scale, and what stochastic depth draws."""
    torch.manual_seed(0)
    samples, channels, height, width, _ = shape
    x = 2 * torch.randn(samples, channels, height, width, dtype=torch.float64) + 3
    weight, bias, scale = torch.rand(channels) + 0.5, torch.randn(channels), torch.rand(channels)
    keep = torch.tensor([1.25, 0.0, 1.25])[:samples]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return x.to(DEVICE, dtype), *(each.to(DEVICE, wide) for each in (weight, bias, scale, keep))


def results(function, shape: tuple[int, ...], values: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """Output, and gradients of x, weight and scale."""
    x, weight, bias, scale = (each.detach().requires_grad_() for each in values[:4])
    y = function(x, weight, bias, scale=scale, keep=values[4], pool_size=shape[4], eps=1e-5)
    gradient = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(y)
    yield y.detach()
    yield from torch.autograd.grad(y, (x, weight, scale), gradient)


@pytest.mark.parametrize("dtype", ERRORS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_and_gradients_are_those_of_the_definition(way, shape, dtype):
    values = inputs(shape, dtype)
    expected = results(definition, shape, tuple(each.double() for each in inputs(shape, torch.float64)))
    for got, exact in zip(results(pool_mix, shape, values), expected, strict=True):
        error = (got.double() - exact).abs().max() / exact.abs().max().clamp(min=1e-6)
        assert error <= ERRORS[dtype]


def test_gradients_are_the_derivatives(way):
    shape = (2, 3, 4, 5, 3)
    x, weight, bias, scale, keep = inputs(shape, torch.float64)

    def function(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        return pool_mix(x, weight, bias, scale=scale, keep=keep, pool_size=3, eps=1e-5)

    assert torch.autograd.gradcheck(function, tuple(each.requires_grad_() for each in (x, weight, scale)))


def test_the_bias_has_a_gradient_of_zero():
    """DDP waits for the gradient of every parameter; Adam would blow up rounding errors."""
    x, weight, bias, *_ = inputs(SHAPES[0], torch.float32)
    bias.requires_grad_()
    pool_mix(x, weight, bias, pool_size=3, eps=1e-5).sum().backward()
    assert torch.equal(bias.grad, torch.zeros_like(bias))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_any_layout_is_taken_and_channels_last_comes_out(way, layout):
    x, weight, bias, scale, keep = inputs(SHAPES[0], torch.float32)
    options = {"scale": scale, "keep": keep, "pool_size": 3, "eps": 1e-5}
    y = pool_mix(x.contiguous(memory_format=layout)[:, :, ::2], weight, bias, **options)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, definition(x[:, :, ::2], weight, bias, **options))


def test_without_scale_bias_and_stochastic_depth(way):
    x, weight, *_ = inputs(SHAPES[0], torch.float32)
    y = pool_mix(x, weight, None, pool_size=3, eps=1e-5)
    torch.testing.assert_close(y, definition(x, weight, None, pool_size=3, eps=1e-5))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # in PyTorch's own check
def test_the_operators_keep_pytorchs_contract():
    x, a, _, _, keep = inputs((2, 8, 5, 6, 3), torch.float32)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    found = torch.library.opcheck(torch.ops.poolformer.pool_mix, (x, a.requires_grad_(), keep, 1e-5, 3))
    assert set(found.values()) == {"SUCCESS"}


def test_only_the_input_is_kept_for_the_backward_pass():
    x, weight, bias, scale, _ = inputs((2, 64, 16, 16, 3), torch.float32)
    weight.requires_grad_()
    x = x.contiguous(memory_format=torch.channels_last)
    kept: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.update({tensor.data_ptr(): tensor.nbytes}) or tensor, lambda tensor: tensor
    ):
        pool_mix(x, weight, bias, scale=scale, pool_size=3, eps=1e-5)
    assert sum(kept.values()) < 1.02 * x.nbytes


# ---- in a network


@pytest.mark.slow
def test_a_fused_network_trains_like_another(way):
    plain, fused = (create_backbone("poolformer_tiny", num_classes=10, drop_path_rate=0.2) for _ in range(2))
    for name, parameter in plain.named_parameters():
        if "scale" in name:
            torch.nn.init.uniform_(parameter, 0.2, 0.6)
    fused.load_state_dict(plain.state_dict())
    assert fuse(fused) == 5
    images, logits = torch.randn(2, 3, 16, 16), []
    for network in (plain, fused):
        torch.manual_seed(3)  # of stochastic depth
        logits.append(network.to(DEVICE)(images.to(DEVICE)))
        logits[-1].square().sum().backward()
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-5)
    for (name, ours), theirs in zip(fused.named_parameters(), plain.parameters(), strict=True):
        if not name.endswith("norm1.bias"):  # zero but for rounding
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=2e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("options", "blocks"),
    [
        ({"mixer": "identity"}, 0),
        ({"norm": "layer"}, 0),
        ({"residual": False}, 0),
        ({"mixer": ["pooling", "pooling", "attention", "attention"]}, 4),
        ({"layer_scale_init": 0.0}, 12),
    ],
    ids=str,
)
def test_blocks_that_are_made_otherwise_stay_as_they_are(options, blocks):
    with torch.device("meta"):
        assert fuse(create_backbone("poolformer_s12", **options)) == blocks


def test_without_triton_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr("poolformer.kernels.fuse.has_triton", lambda: False)
    with pytest.raises(OptionsError, match=r"need Triton, .*: pip install triton"):
        fuse(create_backbone("poolformer_tiny"))
