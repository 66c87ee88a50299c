"""A network of fused operators is the network that it was."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from poolformer import create_backbone
from poolformer.bench.measure import saved_bytes
from poolformer.kernels import cpu
from poolformer.network.block import Block, BlockOptions
from poolformer.network.folding import fold
from poolformer.network.fused import Fused, fuse
from poolformer.network.layers import make_norm
from poolformer.network.metaformer import MetaFormer, Patch

pytestmark = pytest.mark.usefixtures("exact_products")
EXHAUSTIVE = pytest.mark.exhaustive


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TAKES_LONG = "takes long in Triton's interpreter: pytest --exhaustive"


def two_blocks(**options) -> MetaFormer:
    """A network in which a stage has a block and the others none: each more is seconds of a compiler or interpreter."""
    stem = Patch(kernel_size=3, stride=1, padding=1)
    return MetaFormer(
        depths=(1, 0, 0, 1), dims=(16, 32, 32, 32), num_classes=10, layer_scale_init=1.0, stem=stem, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "again", [pytest.param(False, id="kept", marks=EXHAUSTIVE), pytest.param(True, id="recomputed")]
)
@pytest.mark.parametrize(
    ("options", "fused"),
    [({}, Fused(2, 2)), ({"mixer": "attention"}, Fused(0, 2)), ({"norm": "layer"}, Fused(0, 2))],
    ids=["pooling", "attention", "norm of tokens"],
)
def test_a_fused_network_trains_like_another(way, options, fused, again, interpreted):
    if interpreted and options:  # of which no kernel is that pooling has not
        pytest.skip(TAKES_LONG)
    plain, other = (two_blocks(drop_path_rate=0.2, **options) for _ in "ab")
    for name, parameter in plain.named_parameters():
        if "scale" in name:
            torch.nn.init.uniform_(parameter, 0.2, 0.6)
    other.load_state_dict(plain.state_dict())
    assert fuse(other) == fused
    other.set_grad_checkpointing(again)
    images, logits = torch.randn(2, 3, 9, 10), []
    for network in (plain, other):
        torch.manual_seed(3)  # of stochastic depth
        logits.append(network.to(DEVICE)(images.to(DEVICE)))
        logits[-1].square().sum().backward()
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-5)
    for (name, ours), theirs in zip(other.named_parameters(), plain.parameters(), strict=True):
        if options or not name.endswith("norm1.bias"):  # before pooling zero but for rounding
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=2e-3, atol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "again", [pytest.param(False, id="kept"), pytest.param(True, id="recomputed", marks=EXHAUSTIVE)]
)
def test_a_fused_network_is_compiled_in_one_graph(way, again, interpreted):
    if interpreted:  # kernels/test_tracing.py compiles each operator, and its gradients
        pytest.skip(TAKES_LONG)
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
    network = two_blocks().to(DEVICE).eval()
    images = torch.randn(1, 3, 16, 16, device=DEVICE)
    fuse(network)
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True)(images)
        torch.testing.assert_close(compiled, network(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [torch.float32, pytest.param(torch.bfloat16, marks=EXHAUSTIVE)], ids=str)
def test_inductor_leaves_cpp_as_it_is(cpp, precision):
    network = two_blocks()
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
    network, images = two_blocks().eval(), torch.randn(2, 3, 16, 16)
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


@pytest.mark.slow
def test_a_fused_network_is_exported_for_any_batch():
    pytest.importorskip("triton")
    network = two_blocks().eval().to(DEVICE)
    images = torch.randn(2, 3, 16, 16, device=DEVICE)
    expected = network(images[:1]).detach()
    fuse(network)
    program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert all(f"poolformer.{operator}.default" in str(program) for operator in ("pool_mix", "channel_mix"))
    torch.testing.assert_close(program.module()(images[:1]).detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_a_norm_that_was_folded_is_not_fused(norm):
    network, images = (
        fold(create_backbone("poolformer_tiny", num_classes=10, norm=norm).eval()),
        torch.randn(1, 3, 16, 16),
    )
    expected = network(images)
    assert fuse(network).channel_mixing == 0
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({}, Fused(12, 12)),
        ({"mixer": "identity"}, Fused(0, 12)),
        ({"norm": "layer"}, Fused(0, 12)),
        ({"norm": "none"}, Fused(0, 0)),
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


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_a_block_without_biases_is_fused(cpp, kind):
    options = BlockOptions(
        norm=partial(make_norm, kind=kind, bias=False),
        act=nn.GELU,
        mlp_ratio=2.0,
        mlp_bias=False,
        layer_scale_init=0.1,
        residual_scale_init=None,
        residual=True,
        channel_mlp=True,
    )
    block, x = Block(8, nn.Identity(), options, 0.0), torch.randn(2, 8, 3, 5)
    expected = torch.autograd.grad(block(x).square().sum(), list(block.parameters()))
    assert fuse(block) == Fused(0, 1)
    fused = torch.autograd.grad(block(x).square().sum(), list(block.parameters()))
    for (name, _), ours, theirs in zip(block.named_parameters(), fused, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4, msg=name)


def test_a_norm_of_each_token_is_left_alone_on_a_gpu():
    with torch.device("meta"):
        assert fuse(create_backbone("poolformer_s12", norm="layer"), "cuda") == Fused(0, 0)
