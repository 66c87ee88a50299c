"""The fused operators equal their definitions in plain PyTorch: outputs, gradients, statistics.

Triton's kernels run compiled where there is a GPU, in its interpreter on the CPU otherwise (conftest.py). The C++ for
CPUs is compiled when it was not yet; where it cannot be, its tests are skipped.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from poolformer.bench.measure import saved_bytes
from poolformer.kernels import availability, cpu
from poolformer.kernels import channel_mix as channel_mix_module
from poolformer.kernels import pool_mix as pool_mix_module
from poolformer.kernels.channel_mix import channel_mix
from poolformer.kernels.pool_mix import pool_mix

pytestmark = pytest.mark.usefixtures("exact_products")
EXHAUSTIVE = pytest.mark.exhaustive
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Samples, channels, height, width: whole and ragged tiles, one token.
SHAPE, *ODD_SHAPES = (2, 40, 9, 10), (1, 5, 7, 3), (3, 33, 1, 1)
SMALL = (2, 8, 4, 5)  # a tile for each sample: where the shape is not what is looked at
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
def test_output_and_gradients_are_those_of_the_definition(way, operator, shape, dtype, interpreted):
    if interpreted and dtype != torch.float32 and (dtype, shape) != (torch.bfloat16, SHAPE):
        pytest.skip("takes long in Triton's interpreter: pytest --exhaustive")
    found = results(operator.fused, inputs(operator, shape, dtype))
    exact = {name: each.double() for name, each in inputs(operator, shape, torch.float64).items()}
    for name, expected in results(operator.definition, exact).items():
        largest = (exact["x"] if name == "branch" else expected).abs().max().clamp(min=1e-6)
        # Triton's interpreter cuts off what a GPU rounds, the weights too: twice the error.
        cut_off = 2 if (way, DEVICE, dtype) == ("kernels", "cpu", torch.bfloat16) else 1
        assert (found[name].double() - expected).abs().max() / largest <= cut_off * ERRORS[dtype], name


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


@pytest.mark.slow
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
    values = inputs(OPERATORS["pool"], SMALL, torch.float32)
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
    values, gradients = inputs(OPERATORS["mlp"], SMALL, torch.float32), []
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
    values = inputs(operator, SMALL, torch.float32)
    for name, value in values.items():
        value.requires_grad_(name != "keep")
    y = operator.fused(**values, eps=1e-5)
    (gradient,) = torch.autograd.grad(y.square().sum(), values["x"], create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        gradient.sum().backward()


@each_operator
def test_without_scale_and_stochastic_depth(way, operator):
    values = inputs(operator, SMALL, torch.float32)
    del values["scale"], values["keep"]
    torch.testing.assert_close(operator.fused(**values, eps=1e-5), operator.definition(**values, eps=1e-5))


def test_pooling_without_a_bias(way):
    values = {**inputs(OPERATORS["pool"], SMALL, torch.float32), "bias": None, "pool_size": 3, "eps": 1e-5}
    torch.testing.assert_close(pool_mix(**values), pool_mix_module.definition(**values))


@pytest.mark.slow
@each_operator
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_under_autocast_an_operator_does_what_its_definition_does(way, operator, dtype):
    values = inputs(operator, SMALL, torch.float32)
    expected = results(operator.definition, values)
    with torch.autocast(DEVICE, dtype):
        found = results(operator.fused, values)
    assert {each.dtype for each in found.values()} == {torch.float32}
    for name, exact in expected.items():
        torch.testing.assert_close(found[name], exact, rtol=0.05, atol=0.02 * exact.abs().max().item(), msg=name)


@each_operator
def test_autocast_leaves_float64_as_it_is(way, operator):
    values = inputs(operator, SMALL, torch.float64)
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
    values = inputs(OPERATORS["mlp"], SMALL, torch.float32)
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
    values = inputs(OPERATORS[name], SMALL, torch.float32)
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


@pytest.mark.slow
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


@each_operator
def test_parameters_of_other_sizes_are_refused_and_their_strides_do_not_count(operator, way):
    """Kernels and C++ read memory by themselves."""
    values = inputs(operator, SMALL, torch.float32)
    expected = operator.fused(**values, eps=1e-5)
    for name, value in values.items():
        if name == "x" or not isinstance(value, Tensor):
            continue
        with pytest.raises(RuntimeError, match="numbers, not"):
            operator.fused(**values | {name: value[:-1]}, eps=1e-5)
        strided = torch.stack([value.detach(), value.detach()], -1)[..., 0]
        assert operator.fused(**values | {name: strided}, eps=1e-5).equal(expected), name


@each_operator
def test_a_backward_pass_under_autocast_is_that_of_its_forward_pass(operator, way):
    values = inputs(operator, SMALL, torch.float32)
    tensors = {
        name: each.requires_grad_() for name, each in values.items() if name != "keep" and isinstance(each, Tensor)
    }
    y = operator.fused(**values, eps=1e-5).square().sum()
    expected = torch.autograd.grad(y, [*tensors.values()], retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(y, [*tensors.values()])
    for name, one, other in zip(tensors, expected, found, strict=True):
        assert one.equal(other), name


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
