"""The fused operators equal their definitions in plain PyTorch: outputs, gradients, statistics.

Triton's kernels run compiled where there is a GPU, in its interpreter on the CPU otherwise (conftest.py). The C++ for
CPUs is compiled when it was not yet; where it cannot be, its tests are skipped.
"""

import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from poolformer import create_backbone
from poolformer.bench.measure import saved_bytes
from poolformer.kernels import availability, cpu
from poolformer.kernels import channel_mix as channel_mix_module
from poolformer.kernels import pool_mix as pool_mix_module
from poolformer.kernels.channel_mix import channel_mix
from poolformer.kernels.pool_mix import pool_mix
from poolformer.network.folding import fold
from poolformer.network.fused import Fused, fuse

EXHAUSTIVE = pytest.mark.exhaustive
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


@pytest.fixture(params=["kernels", "cpp", "plain"])
def way(request, monkeypatch) -> str:
    """Triton's kernels, C++ for CPUs, or the same closed form in PyTorch, which others have."""
    if request.param == "kernels":
        pytest.importorskip("triton")
        return request.param
    if request.param == "cpp":
        if DEVICE != "cpu":
            pytest.skip("the tensors are on a GPU")
        request.getfixturevalue("cpp")
        return request.param
    monkeypatch.setattr(availability, "_INTERPRETS", False)
    monkeypatch.setattr(availability, "_cpp_types", frozenset())
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


@pytest.mark.slow
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


@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_of_weights_lie_as_the_weights_do(way, transposed):
    """DDP's buckets are laid out like the weights, here of a network that was made channels last."""
    values, gradients = inputs(OPERATORS["mlp"], SHAPE, torch.float32), []
    for name in ("w1", "w2"):
        values[name] = values[name].contiguous(memory_format=torch.channels_last)
        if transposed:
            values[name] = values[name].transpose(0, 1).contiguous().transpose(0, 1)
        values[name].requires_grad_()
    for function in (channel_mix, channel_mix_module.definition):
        y = function(**values, eps=1e-5)
        gradients.append(torch.autograd.grad(y, (values["w1"], values["w2"]), torch.sin(7 * values["x"])))
    for name, ours, exact in zip(("w1", "w2"), *gradients, strict=True):
        assert ours.stride() == values[name].stride()
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)


TRANSFORMS = {
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x.cos(),))[1],
    "jacfwd": lambda f, x: torch.func.jacfwd(f)(x),
    "vjp": lambda f, x: torch.func.vjp(f, x)[1](x.cos()),
    "grad": lambda f, x: torch.func.grad(lambda x: f(x).square().sum())(x),
    "hessian": lambda f, x: torch.func.hessian(lambda x: f(x).square().sum())(x),
    "vmap": lambda f, x: torch.func.vmap(f)(torch.stack([x, 2 * x])),
    "gradients of each": lambda f, x: torch.func.vmap(torch.func.grad(lambda x: f(x).square().sum()))(x[None]),
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # which tangents call
@pytest.mark.parametrize("transform", TRANSFORMS)
@each_operator
def test_transforms_of_torch_func_give_what_the_definition_gives(operator, transform):
    values = inputs(operator, (2, 4, 2, 3), torch.float32)
    x = values.pop("x")

    def result(function: Callable[..., Tensor]) -> Tensor:
        return TRANSFORMS[transform](lambda x: function(x, **values, eps=1e-5), x)

    torch.testing.assert_close(result(operator.fused), result(operator.definition), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # which tangents call
@pytest.mark.parametrize("name", ["x", "weight"])
@each_operator
def test_a_dual_number_keeps_its_tangent(operator, name):
    values, tangents = inputs(operator, SHAPE, torch.float32), []
    for function in (operator.fused, operator.definition):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(values[name], values[name].cos())
            tangents.append(forward_ad.unpack_dual(function(**{**values, name: dual}, eps=1e-5)).tangent)
    torch.testing.assert_close(*tangents, rtol=1e-4, atol=1e-4)


@each_operator
def test_a_second_derivative_is_refused(way, operator):
    values = inputs(operator, SHAPE, torch.float32)
    for name, value in values.items():
        value.requires_grad_(name != "keep")
    y = operator.fused(**values, eps=1e-5)
    (gradient,) = torch.autograd.grad(y.square().sum(), values["x"], create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        gradient.sum().backward()


@each_operator
def test_without_scale_and_stochastic_depth(way, operator):
    values = inputs(operator, SHAPE, torch.float32)
    del values["scale"], values["keep"]
    torch.testing.assert_close(operator.fused(**values, eps=1e-5), operator.definition(**values, eps=1e-5))


def test_pooling_without_a_bias(way):
    values = {**inputs(OPERATORS["pool"], SHAPE, torch.float32), "bias": None, "pool_size": 3, "eps": 1e-5}
    torch.testing.assert_close(pool_mix(**values), pool_mix_module.definition(**values))


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # in PyTorch's own check
@pytest.mark.parametrize(("name", "registered"), [("pool", "pool_mix"), ("mlp", "channel_mix")])
@pytest.mark.parametrize("namespace", ["poolformer", "poolformer_cpu"])
def test_the_operators_keep_pytorchs_contract(request, namespace, name, registered):
    if namespace == "poolformer_cpu":
        request.getfixturevalue("cpp")
    values = inputs(OPERATORS[name], (2, 8, 5, 6), torch.float32)
    keep, values["x"] = values.pop("keep"), values["x"].contiguous(memory_format=torch.channels_last)
    x, *learned, scale = (each.requires_grad_() for each in values.values())
    arguments = {
        "pool_mix": (x, scale, keep, 1e-5, 3),
        "channel_mix": (x, *learned, scale, keep, 1e-5, torch.float32, 2),
    }
    operators = getattr(torch.ops, namespace)
    found = torch.library.opcheck(getattr(operators, registered), arguments[registered])
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
def test_what_is_kept_for_the_backward_pass(way, name, dtype, shares):
    if (way, name, dtype) == ("cpp", "mlp", torch.bfloat16) and dtype in cpu.load():
        shares = 0.5  # fc1 is always computed again; on a CPU without such products, nothing is
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
@pytest.mark.parametrize(
    "again", [pytest.param(False, id="kept", marks=EXHAUSTIVE), pytest.param(True, id="recomputed")]
)
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
@pytest.mark.parametrize(
    "again", [pytest.param(False, id="kept"), pytest.param(True, id="recomputed", marks=EXHAUSTIVE)]
)
def test_a_fused_network_is_compiled_in_one_graph(way, again):
    network = create_backbone("poolformer_tiny", num_classes=10, drop_path_rate=0.0).to(DEVICE)
    images = torch.randn(2, 3, 16, 16, device=DEVICE)
    fuse(network)
    network.set_grad_checkpointing(again)
    gradients = []
    torch._dynamo.reset()
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
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True)(images)
        torch.testing.assert_close(compiled, network(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "share", "slope"), [(torch.float32, 3e-7, 1e-6), (torch.bfloat16, 1e-5, 5e-5)], ids=str
)
def test_gelu_in_cpp_is_right_everywhere(cpp, dtype, share, slope):
    """Biases of fc1 are what GELU is taken of, where fc1 has no weights; fc2 changes nothing."""
    if dtype not in cpu.load():
        pytest.skip(f"this CPU has no products in {dtype}")
    ends = torch.tensor([-1e30, -1e4, -5.5, -5.0, -0.0, 0.0, 5.0, 5.5, 1e4, 1e30])
    b1 = torch.cat([torch.linspace(-9, 9, 1990), ends]).requires_grad_()
    of_channels, w1, w2 = torch.zeros(2000), torch.zeros(2000, 2000, 1, 1), torch.eye(2000)[:, :, None, None]
    parameters = {"weight": of_channels, "bias": of_channels, "w1": w1, "w2": w2, "b2": of_channels}
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        found = channel_mix(torch.zeros(1, 2000, 1, 1), b1=b1, **parameters, eps=1.0).flatten()
    found.sum().backward()
    exact = b1.detach().double().requires_grad_()
    expected = torch.nn.functional.gelu(exact)
    expected.sum().backward()
    rounding = torch.finfo(dtype).eps / 2
    within = b1.detach().clamp(-5.5, 5.5).abs()  # what the share is multiplied by, where it is not zero or one
    assert ((found - expected).abs() <= share * within + rounding * expected.abs()).all()
    torch.testing.assert_close(b1.grad, exact.grad.float(), rtol=0, atol=slope)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@each_operator
def test_what_is_no_number_stays_none_in_cpp(cpp, operator, precision, value):
    """A run whose numbers break is ended because its loss says so."""
    values = inputs(operator, SHAPE, torch.float32)
    values["x"][0, 3, 4, 5] = value
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        found = operator.fused(**values, eps=1e-5)
    assert not found[0].isfinite().any()
    assert found[1].isfinite().all()


@pytest.mark.parametrize("name", ["weight", "bias", "w1", "b1", "w2", "b2", "scale", "keep"])
def test_cpp_refuses_parameters_of_other_sizes(cpp, name):
    """Where PyTorch's own operators would; these read memory by themselves."""
    values = inputs(OPERATORS["mlp"], SHAPE, torch.float32)
    values[name] = values[name][:-1]
    with pytest.raises(RuntimeError, match="numbers, not"):
        channel_mix(**values, eps=1e-5)


def test_more_threads_compute_the_same_in_cpp(cpp):
    """Up to the order in which gradients of weights are summed."""
    found, before = [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            found.append(results(channel_mix, inputs(OPERATORS["mlp"], (3, 40, 13, 11), torch.float32)))
        finally:
            torch.set_num_threads(before)
    for others in found[1:]:
        for name, expected in found[0].items():
            torch.testing.assert_close(others[name], expected, msg=name)


@pytest.mark.parametrize("channels", [33, 40])
def test_an_odd_number_of_channels_is_left_to_pytorch_in_bf16(cpp, channels):
    assert availability.runs_cpp(torch.ones(1), torch.float32, channels)
    in_bf16 = channels == 40 and torch.bfloat16 in cpu.load()
    assert availability.runs_cpp(torch.ones(1), torch.bfloat16, channels) == in_bf16
    assert not availability.runs_cpp(torch.ones(1).double(), torch.float64, channels)


def test_without_a_compiler_there_is_no_cpp_and_the_log_says_why(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not cpu.load.__wrapped__()
    assert "no-such-compiler" in caplog.text
    assert not list(tmp_path.rglob("*.so"))


def test_a_library_that_is_not_whole_is_compiled_again(monkeypatch, tmp_path):
    asked = []

    def load_library(path: str) -> None:
        asked.append(Path(path).read_bytes())
        if asked[-1] != b"whole":
            raise OSError("file too short")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpu, "_compile", lambda compiler, sources, library: None)
    for content in (b"torn", b"whole"):
        monkeypatch.setattr(cpu, "_run", lambda command, content=content: _output(command).write_bytes(content))
        if content == b"torn":
            cpu._library()
    monkeypatch.setattr(torch.ops, "load_library", load_library)
    cpu._load()
    assert asked == [b"torn", b"whole"]


@pytest.fixture
def compiled(monkeypatch, tmp_path) -> Path:
    """A library in a cache, compiled by nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpu, "_compile", lambda compiler, sources, library: None)
    monkeypatch.setattr(cpu, "_run", lambda command: _output(command).write_bytes(b"whole"))
    library = cpu._library()
    monkeypatch.setattr(cpu, "_run", lambda command: _output(command).write_bytes(b"compiled again"))
    assert cpu._library().read_bytes() == b"whole"
    return library


def _cut(library: Path) -> None:
    library.write_bytes(b"who")


def _flipped(library: Path) -> None:
    library.write_bytes(b"wholf")


def _without_digest(library: Path) -> None:
    cpu._digest_file(library).unlink()


def _digest_is_no_text(library: Path) -> None:
    cpu._digest_file(library).write_bytes(b"\xff")


def _writable_by_others(library: Path) -> None:
    library.chmod(0o666)


def _digest_writable_by_others(library: Path) -> None:
    cpu._digest_file(library).chmod(0o666)


def _of_another_user(library: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(library, 12345, -1)


@pytest.mark.skipif(os.name != "posix", reason="of owners as POSIX has them")
@pytest.mark.parametrize(
    "change",
    [
        _cut,
        _flipped,
        _without_digest,
        _digest_is_no_text,
        _writable_by_others,
        _digest_writable_by_others,
        _of_another_user,
    ],
)
def test_a_library_that_is_not_as_it_was_compiled_is_not_loaded(compiled, change):
    change(compiled)
    assert cpu._library().read_bytes() == b"compiled again"
    assert cpu._is_as_compiled(compiled)


@pytest.mark.skipif(os.name != "posix", reason="of owners as POSIX has them")
def test_a_library_is_compiled_once_also_where_new_files_are_the_groups_too(compiled, request):
    request.addfinalizer(functools.partial(os.umask, os.umask(0o002)))  # as Red Hat and Ubuntu set it
    compiled.unlink()
    assert cpu._library().read_bytes() == b"compiled again"
    assert cpu._is_as_compiled(compiled)


@pytest.mark.skipif(os.name != "posix", reason="of owners as POSIX has them")
def test_a_folder_that_others_can_write_is_not_used(compiled, monkeypatch, tmp_path, caplog):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    monkeypatch.setattr(cpu.caches, "private_cache", lambda: private)
    compiled.parent.chmod(0o777)
    assert cpu._library() == private / "poolformer" / compiled.name
    assert "is not used: others can write it" in caplog.text
    assert "chmod go-w" in caplog.text


def test_a_mount_from_which_nothing_can_be_run_is_said_and_nothing_compiled_again(compiled, monkeypatch, caplog):
    def load_library(path: str) -> None:
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr(torch.ops, "load_library", load_library)
    assert not cpu.load.__wrapped__()
    assert caplog.text.count("noexec") == 1
    assert compiled.read_bytes() == b"whole"


def _output(command: list[str]) -> Path:
    return Path(command[command.index("-o") + 1])


def test_what_a_compiler_refuses_is_quoted_in_the_log_and_not_kept(monkeypatch, tmp_path, caplog):
    compiler = tmp_path / "refuses"
    compiler.write_text("#!/bin/sh\necho 'error: no such standard' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", str(compiler))
    assert not cpu.load.__wrapped__()
    assert "error: no such standard" in caplog.text
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.slow
@pytest.mark.parametrize("precision", [torch.float32, pytest.param(torch.bfloat16, marks=EXHAUSTIVE)], ids=str)
def test_inductor_leaves_cpp_as_it_is(cpp, precision):
    network = create_backbone("poolformer_tiny", num_classes=10, drop_path_rate=0.0)
    images, gradients = torch.randn(4, 3, 32, 32), []
    fuse(network.to(memory_format=torch.channels_last))
    torch._dynamo.reset()
    for called in (network, torch.compile(network, fullgraph=True)):
        network.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            called(images).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    rounding = 1e-4 if precision == torch.float32 else 5e-2
    for compiled, plain in zip(*gradients, strict=True):
        assert (compiled - plain).abs().max() <= rounding * plain.abs().max().clamp(min=1e-3)


@pytest.mark.slow
def test_an_exported_network_runs_where_the_cpp_is_not(cpp, tmp_path):
    network, images = create_backbone("poolformer_tiny", num_classes=10).eval(), torch.randn(2, 3, 16, 16)
    fuse(network)
    program = torch.export.export(network, (images,))
    assert "poolformer_cpu.channel_mix.default" in str(program)
    torch.export.save(program, tmp_path / "fused.pt2")
    torch.save((images, network(images).detach()), tmp_path / "expected.pt")
    code = """if True:
        import torch, poolformer.network.fused
        images, expected = torch.load("expected.pt")
        found = torch.export.load("fused.pt2").module()(images).detach()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    """
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr


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
def test_a_fused_network_keeps_less_than_half_and_recomputed_a_quarter(way, precision):
    if way == "kernels" and DEVICE == "cpu":
        pytest.skip("Triton's interpreter would take a quarter of a minute")
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
    if (
        way == "cpp" and precision == torch.bfloat16 and precision in cpu.load()
    ):  # in which fc1 is always computed again
        assert kept[1] == kept[2]


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
