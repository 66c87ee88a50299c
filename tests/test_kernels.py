"""The fused operators equal their definitions in plain PyTorch: outputs, gradients, statistics.

Triton's kernels run compiled where there is a GPU, in its interpreter on the CPU otherwise (conftest.py).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.utils.flop_counter import FlopCounterMode

from poolformer import create_backbone
from poolformer.folding import fold
from poolformer.kernels import channel_mix as channel_mix_module
from poolformer.kernels import channel_mix_plain
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
    """A fused operator, its definition, and the shapes of its parameters for C channels, by their names."""

    fused: Callable[..., Tensor]
    definition: Callable[..., Tensor]
    parameters: Callable[[int], dict[str, tuple[int, ...]]]


def _pool(size: int) -> Operator:
    fused, definition = (functools.partial(each, pool_size=size) for each in (pool_mix, pool_mix_module.definition))
    return Operator(fused, definition, lambda channels: {"weight": (channels,), "bias": (channels,)})


def _mlp(*, recompute: bool) -> Operator:
    def parameters(channels: int) -> dict[str, tuple[int, ...]]:
        one, two = channels, 2 * channels
        layers = {"w1": (two, one, 1, 1), "b1": (two,), "w2": (one, two, 1, 1), "b2": (one,)}
        return {"weight": (one,), "bias": (one,), **layers}

    return Operator(functools.partial(channel_mix, recompute=recompute), channel_mix_module.definition, parameters)


OPERATORS = {
    "pool": _pool(3),
    "mlp": _mlp(recompute=False),
    "mlp_again": _mlp(recompute=True),
}
each_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    """No TF32 where a GPU has it."""
    if DEVICE == "cuda":
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(params=["kernels", "plain"])
def way(request, monkeypatch) -> str:
    """Triton's kernels, or the same closed form in PyTorch, which devices without Triton have."""
    if request.param == "plain":
        for module in (pool_mix_module, channel_mix_module):
            monkeypatch.setattr(module, "runs_kernels", lambda x: False)
    else:
        pytest.importorskip("triton")
    return request.param


def inputs(operator: Operator, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Tensor]:
    """An image far from zero mean, parameters of any size but zero, a layer scale, and what stochastic depth draws."""
    torch.manual_seed(0)
    x = 2 * torch.randn(shape, dtype=torch.float64) + 3
    parameters = {
        name: torch.randn(sizes) / sizes[1 if len(sizes) > 1 else 0] ** 0.5
        for name, sizes in operator.parameters(shape[1]).items()
    }
    parameters["weight"] = parameters["weight"].abs() + 0.5
    others = {**parameters, "scale": torch.rand(shape[1]), "keep": torch.tensor([1.25, 0.0, 1.25])[: len(x)]}
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return {"x": x.to(DEVICE, dtype), **{name: each.to(DEVICE, wide) for name, each in others.items()}}


def results(function: Callable[..., Tensor], values: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a function adds to its input, as ``"branch"``, and gradients of its input and parameters by their names."""
    learned = {name: each.detach().requires_grad_() for name, each in values.items() if name != "keep"}
    y = function(**learned, keep=values["keep"], eps=1e-5)
    gradient = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(y)
    gradients = dict(zip(learned, torch.autograd.grad(y, learned.values(), gradient), strict=True))
    if len(learned) == 4:  # before pooling the norm's bias has none but for rounding
        del gradients["bias"]
    return {"branch": y.detach() - values["x"], **gradients}


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
    found = results(operator.fused, inputs(operator, shape, dtype))
    exact = {name: each.double() for name, each in inputs(operator, shape, torch.float64).items()}
    for name, expected in results(operator.definition, exact).items():
        largest = (exact["x"] if name == "branch" else expected).abs().max().clamp(min=1e-6)
        assert (found[name].double() - expected).abs().max() / largest <= ERRORS[dtype], name


def test_the_branch_of_a_bf16_map_is_as_exact_as_that_of_its_definition(way):
    """A mean far from zero, which statistics in bf16 would miss by a tenth of the standard deviation."""
    if way == "kernels" and DEVICE == "cpu":
        pytest.skip("Triton's interpreter cuts off what a GPU rounds")
    values = {name: each.bfloat16() for name, each in inputs(OPERATORS["mlp"], SHAPE, torch.float32).items()}
    values["x"] = (values["x"] * 0.1 + 30).bfloat16()
    exact = results(channel_mix_module.definition, {name: each.double() for name, each in values.items()})["branch"]

    def error(function: Callable[..., Tensor]) -> float:
        return (results(function, values)["branch"].double() - exact).square().mean().sqrt().item()

    assert error(channel_mix) <= 1.1 * error(channel_mix_module.definition)


def test_gradients_of_a_bf16_map_far_from_zero_are_as_exact_as_its_statistics(way):
    if way == "kernels" and DEVICE == "cpu":
        pytest.skip("Triton's interpreter cuts off what a GPU rounds")
    values = {name: each.bfloat16() for name, each in inputs(OPERATORS["pool"], SHAPE, torch.float32).items()}
    values["x"] = (values["x"] * 0.1 + 30).bfloat16()
    exact = results(OPERATORS["pool"].definition, {name: each.double() for name, each in values.items()})["weight"]
    found = results(OPERATORS["pool"].fused, values)["weight"].double()
    assert (found - exact).abs().max() <= 0.01 * exact.abs().max()


@each_operator
def test_gradients_are_the_derivatives(way, operator):
    values = inputs(operator, (2, 3, 4, 5), torch.float64)
    keep = values.pop("keep")

    def function(*learned: Tensor) -> Tensor:
        return operator.fused(**dict(zip(values, learned, strict=True)), keep=keep, eps=1e-5)

    assert torch.autograd.gradcheck(function, tuple(each.requires_grad_() for each in values.values()))


def test_the_bias_before_pooling_has_a_gradient_of_zero():
    """DDP waits for the gradient of every parameter; Adam would blow up rounding errors."""
    values = inputs(OPERATORS["pool"], SHAPE, torch.float32)
    values["bias"].requires_grad_()
    pool_mix(**values, pool_size=3, eps=1e-5).sum().backward()
    assert torch.equal(values["bias"].grad, torch.zeros_like(values["bias"]))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@each_operator
def test_any_layout_is_taken_and_channels_last_comes_out(way, operator, layout):
    values = inputs(operator, SHAPE, torch.float32)
    x = values.pop("x")
    y = operator.fused(x.contiguous(memory_format=layout)[:, :, ::2], **values, eps=1e-5)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, operator.definition(x[:, :, ::2], **values, eps=1e-5))


def test_gradients_of_weights_lie_as_the_weights_do():
    """DDP's buckets are laid out like the weights, here of a network that was made channels last."""
    values = inputs(OPERATORS["mlp"], SHAPE, torch.float32)
    for name in ("w1", "w2"):
        values[name] = values[name].contiguous(memory_format=torch.channels_last).requires_grad_()
    channel_mix(**values, eps=1e-5).sum().backward()
    assert all(values[name].grad.stride() == values[name].stride() for name in ("w1", "w2"))


@each_operator
def test_without_scale_and_stochastic_depth(way, operator):
    values = inputs(operator, SHAPE, torch.float32)
    del values["scale"], values["keep"]
    torch.testing.assert_close(operator.fused(**values, eps=1e-5), operator.definition(**values, eps=1e-5))


def test_pooling_without_a_bias(way):
    values = {**inputs(OPERATORS["pool"], SHAPE, torch.float32), "bias": None, "pool_size": 3, "eps": 1e-5}
    torch.testing.assert_close(pool_mix(**values), pool_mix_module.definition(**values))


@each_operator
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast_an_operator_does_what_its_definition_does(way, operator, dtype):
    values = inputs(operator, SHAPE, torch.float32)
    expected = results(operator.definition, values)
    with torch.autocast(DEVICE, dtype):
        found = results(operator.fused, values)
    assert {each.dtype for each in found.values()} == {torch.float32}
    for name, exact in expected.items():
        torch.testing.assert_close(found[name], exact, rtol=0.05, atol=0.02 * exact.abs().max().item(), msg=name)


@each_operator
def test_autocast_leaves_float64_as_it_is(way, operator):
    values = inputs(operator, SHAPE, torch.float64)
    expected = results(operator.definition, values)
    with torch.autocast(DEVICE, torch.bfloat16):
        assert operator.definition(**values, eps=1e-5).dtype == torch.float64
        found = results(operator.fused, values)
    for name, exact in expected.items():
        torch.testing.assert_close(found[name], exact, msg=name)


@pytest.mark.filterwarnings(r"ignore:var_mean\(\)")  # over no samples, of which PyTorch looks at the quotient
@each_operator
def test_an_empty_batch_stays_one(way, operator):
    values = inputs(operator, SHAPE, torch.float32)
    values["x"], values["keep"] = values["x"][:0], values["keep"][:0]
    found = results(operator.fused, values)
    assert found.pop("x").shape == found.pop("branch").shape == (0, *SHAPE[1:])
    assert not any(gradient.any() for gradient in found.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_tiny_layer_scale_is_not_lost_under_autocast(way, dtype):
    values = inputs(OPERATORS["mlp"], SHAPE, torch.float32)
    values["scale"] = torch.full_like(values["scale"], 1e-6)
    exact = results(channel_mix_module.definition, values)["w1"]
    with torch.autocast(DEVICE, dtype):
        # What the loss is multiplied by in float16 training, or the gradients would be lost in any case.
        found = results(lambda **each: 1024 * channel_mix(**each), values)["w1"] / 1024
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.02 * exact.abs().max().item())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # in PyTorch's own check
@pytest.mark.parametrize(("name", "registered"), [("pool", "pool_mix"), ("mlp", "channel_mix")])
def test_the_operators_keep_pytorchs_contract(name, registered):
    pytest.importorskip("triton")
    values = inputs(OPERATORS[name], (2, 8, 5, 6), torch.float32)
    keep, values["x"] = values.pop("keep"), values["x"].contiguous(memory_format=torch.channels_last)
    x, *learned, scale = (each.requires_grad_() for each in values.values())
    arguments = {
        "pool_mix": (x, scale, keep, 1e-5, 3),
        "channel_mix": (x, *learned, scale, keep, 1e-5, torch.float32, False),
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
        ("mlp_again", torch.float16, 1.0),  # x
    ],
    ids=str,
)
def test_what_is_kept_for_the_backward_pass(name, dtype, shares):
    values = inputs(OPERATORS[name], (2, 32, 24, 24), torch.float32)
    x = values.pop("x").contiguous(memory_format=torch.channels_last).requires_grad_()
    layer = torch.nn.ParameterDict({name: each for name, each in values.items() if name != "keep"})

    def forward() -> Tensor:
        with torch.autocast(DEVICE, dtype, enabled=dtype != torch.float32):
            return OPERATORS[name].fused(x, **layer, eps=1e-5)

    assert saved_bytes(forward, layer) == pytest.approx(shares * x.nbytes, rel=0.02)


def test_operations_are_counted_as_those_of_the_definition():
    pytest.importorskip("triton")
    values = inputs(OPERATORS["mlp"], SHAPE, torch.float32)
    counts = []
    for function in (channel_mix_module.definition, channel_mix, functools.partial(channel_mix, recompute=True)):
        with FlopCounterMode(display=False) as counter:
            results(function, values)
        counts.append(counter.get_total_flops())
    assert counts[1] == counts[0]
    assert counts[2] == counts[0] * 7 / 6


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
def test_a_fused_network_is_compiled_in_one_graph(way, again):
    network = create_backbone("poolformer_tiny", num_classes=10, drop_path_rate=0.0).to(DEVICE)
    images = torch.randn(2, 3, 16, 16, device=DEVICE)
    fuse(network)
    network.set_grad_checkpointing(again)
    gradients = []
    for called in (network, torch.compile(network, backend="aot_eager", fullgraph=True)):
        network.zero_grad()
        called(images).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for compiled, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, plain)


@pytest.mark.slow
def test_a_fused_network_is_compiled_in_one_graph_for_evaluation(way):
    """torch 2.9 takes another path through an autograd.Function without gradients."""
    network = create_backbone("poolformer_tiny", num_classes=10).to(DEVICE).eval()
    images = torch.randn(2, 3, 16, 16, device=DEVICE)
    fuse(network)
    with torch.no_grad():
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True)(images)
        torch.testing.assert_close(compiled, network(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@each_operator
def test_inductor_makes_the_same_of_an_operator(monkeypatch, operator, dtype):
    """Without Triton, as on a CPU, a compiler looks into an operator and computes GELU by other means."""
    for module in (pool_mix_module, channel_mix_module):
        monkeypatch.setattr(module, "runs_kernels", lambda x: False)
    values = inputs(operator, SHAPE, dtype)
    exact = {name: each.double() for name, each in inputs(operator, SHAPE, torch.float64).items()}
    torch._dynamo.reset()
    found = results(torch.compile(operator.fused, fullgraph=True), values)
    for name, expected in results(operator.definition, exact).items():
        largest = (exact["x"] if name == "branch" else expected).abs().max().clamp(min=1e-6)
        assert (found[name].double() - expected).abs().max() / largest <= ERRORS[dtype], name


def test_gelu_is_compiled_to_a_quotient_that_is_right_everywhere():
    """Without erf, which is slow on a CPU."""
    operations = []

    def backend(module: torch.fx.GraphModule, _: list[Tensor]) -> Callable:
        operations.extend(str(node.target) for node in module.graph.nodes)
        return module

    ends = torch.tensor([-1e30, -1e4, -5.5, -0.0, 0.0, 5.5, 1e4])
    x = torch.cat([torch.linspace(-9, 9, 20001), ends])
    torch._dynamo.reset()
    gelu, share = torch.compile(channel_mix_plain._gelu, backend=backend, fullgraph=True)(x)
    assert operations
    assert not any("erf" in operation for operation in operations)
    torch.testing.assert_close(share, torch.special.ndtr(x.double()).float(), rtol=0, atol=3e-7)
    torch.testing.assert_close(gelu, torch.nn.functional.gelu(x), rtol=3e-7, atol=1.5e-6)
    assert (gelu[x < 0] <= 0).all()


@pytest.mark.slow
def test_a_compiled_network_keeps_no_more_for_the_backward_pass_than_a_fused_one_has_to(monkeypatch):
    """A compiler that finds a product or GELU of the forward pass again would keep it rather than compute it."""
    for module in (pool_mix_module, channel_mix_module):
        monkeypatch.setattr(module, "runs_kernels", lambda x: False)
    network = create_backbone("poolformer_tiny", num_classes=10, drop_path_rate=0.0)
    network, images = network.to(memory_format=torch.channels_last), torch.randn(4, 3, 64, 64)

    def kept() -> int:
        """Bytes that the compiled forward pass hands to the backward pass, weights apart."""
        found = []

        def forward_compiler(module: torch.fx.GraphModule, _: list[Tensor]) -> Callable:
            inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
            outputs = {node for node in module.graph.output_node().args[0] if node not in inputs}
            values = [node.meta["val"] for node in outputs if isinstance(node.meta.get("val"), Tensor)]
            found.append(sum(value.nbytes for value in values))
            return make_boxed_func(module.forward)

        torch._dynamo.reset()
        backend = aot_autograd(
            fw_compiler=forward_compiler,
            bw_compiler=lambda module, _: make_boxed_func(module.forward),
            partition_fn=min_cut_rematerialization_partition,
        )
        torch.compile(network, backend=backend, fullgraph=True)(images).square().sum().backward()
        return sum(found)

    separate = kept()
    fuse(network)
    fused = kept()
    network.set_grad_checkpointing()
    assert fused < 0.65 * separate
    assert kept() < 0.3 * separate


def test_a_fused_network_is_exported_for_any_batch():
    pytest.importorskip("triton")
    network = create_backbone("poolformer_tiny", num_classes=10).eval().to(DEVICE)
    images = torch.randn(2, 3, 16, 16, device=DEVICE)
    expected = network(images[:1]).detach()
    fuse(network)
    program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert all(f"poolformer.{operator}.default" in str(program) for operator in ("pool_mix", "channel_mix"))
    torch.testing.assert_close(program.module()(images[:1]).detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_a_fused_network_keeps_less_than_half_and_recomputed_a_quarter(monkeypatch, precision):
    if DEVICE == "cpu":  # the interpreter would take a quarter of a minute
        monkeypatch.setattr(pool_mix_module, "runs_kernels", lambda x: False)
        monkeypatch.setattr(channel_mix_module, "runs_kernels", lambda x: False)
    network = create_backbone("poolformer_xs12", num_classes=10).to(DEVICE, memory_format=torch.channels_last)
    images, kept = torch.randn(4, 3, 48, 48, device=DEVICE), []

    def forward() -> Tensor:
        with torch.autocast(DEVICE, precision, enabled=precision != torch.float32):
            return network(images)

    for change in (lambda: None, lambda: fuse(network), network.set_grad_checkpointing):
        change()
        kept.append(saved_bytes(forward, network))
    assert kept[1] < 0.47 * kept[0]
    assert kept[2] < 0.27 * kept[0]


@pytest.mark.parametrize("again", [False, True], ids=["kept", "recomputed"])
def test_a_fused_network_has_shapes_on_meta(way, again):
    """Where sizes and operations are counted without computing anything."""
    with torch.device("meta"):
        network, images = create_backbone("poolformer_tiny", num_classes=10), torch.empty(2, 3, 16, 16)
    fuse(network)
    network.set_grad_checkpointing(again)
    logits = network(images)
    assert (logits.shape, logits.device.type) == ((2, 10), "meta")
    logits.sum().backward()
    assert all(parameter.grad.shape == parameter.shape for parameter in network.parameters())


def test_a_fused_network_can_be_folded():
    network, images = create_backbone("poolformer_tiny", num_classes=10).eval(), torch.randn(2, 3, 16, 16)
    expected = network(images)
    fuse(network)
    torch.testing.assert_close(fold(network)(images), expected, rtol=1e-4, atol=1e-5)


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
