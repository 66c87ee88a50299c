"""The fused operators equal their definitions in plain PyTorch: outputs, gradients, statistics.

Triton's kernels run compiled where there is a GPU, in its interpreter on the CPU otherwise (conftest.py).
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from poolformer import create_backbone
from poolformer.errors import OptionsError
from poolformer.kernels import channel_mix as channel_mix_module
from poolformer.kernels import pool_mix as pool_mix_module
from poolformer.kernels.channel_mix import channel_mix
from poolformer.kernels.fuse import Fused, fuse
from poolformer.kernels.pool_mix import pool_mix
from poolformer.measure import saved_bytes

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Samples, channels, height, width: whole and ragged tiles, one token.
SHAPE, *ODD_SHAPES = (2, 40, 9, 10), (1, 5, 7, 3), (3, 33, 1, 1)
ERRORS = {torch.float64: 1e-14, torch.float32: 2e-6, torch.bfloat16: 2e-2}


class Operator(NamedTuple):
    """A fused operator, its definition, and the shapes of its parameters for C channels."""

    fused: Callable[..., Tensor]
    definition: Callable[..., Tensor]
    parameters: Callable[[int], list[tuple[int, ...]]]


def _pool(size: int) -> Operator:
    fused, definition = (functools.partial(each, pool_size=size) for each in (pool_mix, pool_mix_module.definition))
    return Operator(fused, definition, lambda channels: [(channels,)] * 2)


def _mlp(*, recompute: bool) -> Operator:
    def parameters(channels: int) -> list[tuple[int, ...]]:
        one, two = channels, 2 * channels
        return [(one,), (one,), (two, one), (two,), (one, two), (one,)]

    return Operator(functools.partial(channel_mix, recompute=recompute), channel_mix_module.definition, parameters)


OPERATORS = {
    "pool": _pool(3),
    "mlp": _mlp(recompute=False),
    "mlp_again": _mlp(recompute=True),
}
each_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


@pytest.fixture(params=["kernels", "plain"])
def way(request, monkeypatch) -> str:
    """Triton's kernels, or the same closed form in PyTorch, which devices without Triton have."""
    if request.param == "plain":
        for module in (pool_mix_module, channel_mix_module):
            monkeypatch.setattr(module, "runs_kernels", lambda x: False)
    else:
        pytest.importorskip("triton")
    return request.param


def inputs(operator: Operator, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """An image far from zero mean, parameters of any size but zero, a layer scale, and what stochastic depth draws."""
    torch.manual_seed(0)
    x = 2 * torch.randn(shape, dtype=torch.float64) + 3
    weight, *others = (torch.randn(each) / each[-1] ** 0.5 for each in operator.parameters(shape[1]))
    keep = torch.tensor([1.25, 0.0, 1.25])[: len(x)]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    parameters = (weight.abs() + 0.5, *others, torch.rand(shape[1]), keep)
    return x.to(DEVICE, dtype), *(each.to(DEVICE, wide) for each in parameters)


def results(function: Callable[..., Tensor], values: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """Output, and gradients of x, the parameters and the layer scale."""
    x, *parameters, scale = (each.detach().requires_grad_() for each in values[:-1])
    y = function(x, *parameters, scale=scale, keep=values[-1], eps=1e-5)
    gradient = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(y)
    yield y.detach()
    for index, each in enumerate(torch.autograd.grad(y, (x, *parameters, scale), gradient)):
        if index != 2 or len(parameters) > 2:  # before pooling the norm's bias has none but for rounding
            yield each


@pytest.mark.parametrize("dtype", ERRORS, ids=str)
@pytest.mark.parametrize(
    ("operator", "shape"),
    [
        *((operator, SHAPE) for operator in OPERATORS.values()),
        *((OPERATORS[name], shape) for name in ("pool", "mlp") for shape in ODD_SHAPES),
        (_pool(7), (1, 8, 5, 6)),  # the window reaches over the whole map
    ],
    ids=[*OPERATORS, *(f"{name}-{shape}" for name in ("pool", "mlp") for shape in ODD_SHAPES), "pool_7"],
)
def test_output_and_gradients_are_those_of_the_definition(way, operator, shape, dtype):
    found = [*results(operator.fused, inputs(operator, shape, dtype))]
    expected = [*results(operator.definition, tuple(each.double() for each in inputs(operator, shape, torch.float64)))]
    for got, exact in zip(found, expected, strict=True):
        error = (got.double() - exact).abs().max() / exact.abs().max().clamp(min=1e-6)
        assert error <= ERRORS[dtype]


@each_operator
def test_gradients_are_the_derivatives(way, operator):
    values = inputs(operator, (2, 3, 4, 5), torch.float64)

    def function(*values: Tensor) -> Tensor:
        return operator.fused(*values[:-1], scale=values[-1], keep=keep, eps=1e-5)

    *values, keep = values
    assert torch.autograd.gradcheck(function, tuple(each.requires_grad_() for each in values))


def test_the_bias_before_pooling_has_a_gradient_of_zero():
    """DDP waits for the gradient of every parameter; Adam would blow up rounding errors."""
    x, weight, bias, *_ = inputs(OPERATORS["pool"], SHAPE, torch.float32)
    bias.requires_grad_()
    pool_mix(x, weight, bias, pool_size=3, eps=1e-5).sum().backward()
    assert torch.equal(bias.grad, torch.zeros_like(bias))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@each_operator
def test_any_layout_is_taken_and_channels_last_comes_out(way, operator, layout):
    x, *parameters, scale, keep = inputs(operator, SHAPE, torch.float32)
    options = {"scale": scale, "keep": keep, "eps": 1e-5}
    y = operator.fused(x.contiguous(memory_format=layout)[:, :, ::2], *parameters, **options)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, operator.definition(x[:, :, ::2], *parameters, **options))


@each_operator
def test_without_scale_and_stochastic_depth(way, operator):
    x, *parameters, _, _ = inputs(operator, SHAPE, torch.float32)
    torch.testing.assert_close(operator.fused(x, *parameters, eps=1e-5), operator.definition(x, *parameters, eps=1e-5))


def test_pooling_without_a_bias(way):
    x, weight, *_ = inputs(OPERATORS["pool"], SHAPE, torch.float32)
    y = pool_mix(x, weight, None, pool_size=3, eps=1e-5)
    torch.testing.assert_close(y, pool_mix_module.definition(x, weight, None, pool_size=3, eps=1e-5))


@each_operator
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast_an_operator_does_what_its_definition_does(way, operator, dtype):
    values = inputs(operator, SHAPE, torch.float32)
    with torch.autocast(DEVICE, dtype):
        found, expected = ([*results(each, values)] for each in (operator.fused, operator.definition))
    assert [each.dtype for each in found] == [torch.float32] * len(found)
    for got, other in zip(found, expected, strict=True):
        torch.testing.assert_close(got, other, rtol=0.05, atol=0.05 * other.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_tiny_layer_scale_is_not_lost_under_autocast(way, dtype):
    x, *parameters, _, keep = inputs(OPERATORS["mlp"], SHAPE, torch.float32)
    scale = torch.full((x.shape[1],), 1e-5, device=DEVICE)
    exact = [*results(channel_mix_module.definition, (x, *parameters, scale, keep))]
    with torch.autocast(DEVICE, dtype):
        found = [*results(channel_mix, (x, *parameters, scale, keep))]
    torch.testing.assert_close(found[6], exact[6], rtol=0.05, atol=0.05 * exact[6].abs().max().item())
    assert exact[6].abs().max() > 0


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # in PyTorch's own check
@pytest.mark.parametrize(("name", "registered"), [("pool", "pool_mix"), ("mlp", "channel_mix")])
def test_the_operators_keep_pytorchs_contract(name, registered):
    x, *parameters, scale, keep = inputs(OPERATORS[name], (2, 8, 5, 6), torch.float32)
    x, *parameters, scale = (each.requires_grad_() for each in (x, *parameters, scale))
    x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    arguments = {
        "pool_mix": (x, scale, keep, 1e-5, 3),
        "channel_mix": (x, *parameters, scale, keep, 1e-5, torch.float32, False),
    }
    found = torch.library.opcheck(getattr(torch.ops.poolformer, registered), arguments[registered])
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize(
    ("name", "dtype", "shares"),
    [
        ("pool", torch.float32, 1.0),  # x
        ("mlp", torch.float32, 1.0 + 2.0),  # n(x), and twice the channels before GELU
        ("mlp", torch.bfloat16, 0.5 + 1.0),
        ("mlp_again", torch.bfloat16, 0.5),
    ],
    ids=str,
)
def test_what_is_kept_for_the_backward_pass(name, dtype, shares):
    operator = OPERATORS[name]
    x, *parameters, scale, _ = inputs(operator, (2, 32, 24, 24), torch.float32)
    layer = torch.nn.ParameterList([*parameters, scale])
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()

    def forward() -> Tensor:
        with torch.autocast(DEVICE, dtype, enabled=dtype != torch.float32):
            return operator.fused(x, *layer[:-1], scale=layer[-1], eps=1e-5)

    assert saved_bytes(forward, layer) == pytest.approx(shares * x.nbytes, rel=0.02)


# ---- in a network


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize(
    ("mixer", "fused"), [("pooling", Fused(5, 5)), ("attention", Fused(0, 5))], ids=["pooling", "attention"]
)
def test_a_fused_network_trains_like_another(way, mixer, fused, again):
    plain, other = (create_backbone("poolformer_tiny", num_classes=10, drop_path_rate=0.2, mixer=mixer) for _ in "ab")
    for name, parameter in plain.named_parameters():
        if "scale" in name:
            torch.nn.init.uniform_(parameter, 0.2, 0.6)
    other.load_state_dict(plain.state_dict())
    assert fuse(other) == fused
    other.set_grad_checkpointing(again)
    images, logits = torch.randn(2, 3, 16, 16), []
    for network in (plain, other):
        torch.manual_seed(3)  # of stochastic depth
        logits.append(network.to(DEVICE)(images.to(DEVICE)))
        logits[-1].square().sum().backward()
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-5)
    for (name, ours), theirs in zip(other.named_parameters(), plain.parameters(), strict=True):
        if not (mixer == "pooling" and name.endswith("norm1.bias")):  # zero but for rounding
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=2e-3, atol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True], ids=["kept", "recomputed"])
def test_a_fused_network_is_compiled_in_one_graph(again):
    network, images = create_backbone("poolformer_tiny", num_classes=10, drop_path_rate=0.0), torch.randn(2, 3, 16, 16)
    fuse(network)
    network.set_grad_checkpointing(again)
    gradients = []
    for called in (network, torch.compile(network, backend="aot_eager", fullgraph=True)):
        network.zero_grad()
        called(images).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for compiled, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, plain)


def test_a_fused_network_is_exported_for_any_batch():
    network, images = create_backbone("poolformer_tiny", num_classes=10).eval(), torch.randn(2, 3, 16, 16)
    expected = network(images[:1]).detach()
    fuse(network)
    program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert all(f"poolformer.{operator}.default" in str(program) for operator in ("pool_mix", "channel_mix"))
    torch.testing.assert_close(program.module()(images[:1]).detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_a_fused_network_keeps_less_than_half(monkeypatch, precision):
    if DEVICE == "cpu":  # the interpreter would take a quarter of a minute
        monkeypatch.setattr(pool_mix_module, "runs_kernels", lambda x: False)
        monkeypatch.setattr(channel_mix_module, "runs_kernels", lambda x: False)
    images, kept = torch.randn(4, 3, 48, 48, device=DEVICE), []
    for fused in (False, True):
        network = create_backbone("poolformer_xs12", num_classes=10).to(DEVICE, memory_format=torch.channels_last)
        if fused:
            fuse(network)

        def forward(network=network) -> Tensor:
            with torch.autocast(DEVICE, precision, enabled=precision != torch.float32):
                return network(images)

        kept.append(saved_bytes(forward, network))
    assert kept[1] < 0.47 * kept[0]


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({}, Fused(12, 12)),
        ({"mixer": "identity"}, Fused(0, 12)),
        ({"norm": "layer"}, Fused(0, 0)),
        ({"residual": False}, Fused(0, 0)),
        ({"act": "relu"}, Fused(12, 0)),
        ({"channel_mlp": False}, Fused(12, 0)),
        ({"mixer": ["pooling", "pooling", "attention", "attention"]}, Fused(4, 12)),
        ({"layer_scale_init": 0.0}, Fused(12, 12)),
    ],
    ids=str,
)
def test_halves_that_are_made_otherwise_stay_as_they_are(options, fused):
    with torch.device("meta"):
        assert fuse(create_backbone("poolformer_s12", **options)) == fused


def test_without_triton_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr("poolformer.kernels.fuse.has_triton", lambda: False)
    with pytest.raises(OptionsError, match=r"need Triton, .*: pip install triton"):
        fuse(create_backbone("poolformer_tiny"))
