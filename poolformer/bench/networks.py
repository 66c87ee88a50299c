"""`poolformer bench model` and `poolformer bench train`."""

import argparse
import copy
import inspect
import json
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones import create_backbone
from ..commands.arguments import CommandParser, side
from ..errors import ConfigError, OptionsError, suggestion
from ..network.fused import fuse, fusing_pays
from ..network.recomputing import recompute
from ..recipe import parameter_groups
from ..run import host_memory
from . import engines as bench_engines
from . import measure

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
# What can stand behind a name: how the network itself is changed, the keywords of torch.compile, other engines.
_COMPILED: dict[str, dict[str, Any]] = {
    "compile": {},
    "freeze": {"options": {"freezing": True}},
    "max_autotune": {"mode": "max-autotune"},
}
_ENGINES = {"onnxruntime": bench_engines.onnxruntime, "openvino": bench_engines.openvino}
_WAYS = ("channels_last", "fused", "recompute", *_COMPILED, *_ENGINES)
_CANDIDATES = (
    "timm/poolformer_s12:channels_last+compile",
    "timm/poolformer_s12",
    "timm/poolformer_s12:channels_last",
    "poolformer_s12:channels_last",
    "poolformer_s12:channels_last+compile",
)


def model(argv: list[str]) -> int:
    """Measure how fast networks are in inference, beside one another.

    A candidate is a backbone, as in --model.backbone, and how it is run: poolformer_s12, timm/resnet50:channels_last,
    poolformer_s12:channels_last+compile. Behind the colon stand channels_last, fused (as --model.fused), compile,
    freeze (compile with constant weights), max_autotune, and the engines onnxruntime and openvino, which are given the
    inference form that 'poolformer export' writes. All have the weights of the first one wherever names and shapes
    agree.

    Candidates take turns. Ratios are those of turns in the same round to the first candidate: their median and its
    95 % interval, which takes six rounds. Images/s and limit are of the best turn. fp32 is without TF32, on a GPU too.
    On a CPU all candidates keep freed memory for the next step, as 'poolformer fit' has it.
    Error: largest difference to the same network in float64 as a share of its largest output. Limit: share of the
    speed that the device's matrix products and memory, measured too, would allow its convolutions and linear layers.
    It adds up what each layer computes and moves by itself: an engine that keeps what lies between two layers in the
    cache, or has another algorithm for products, may exceed 100 %; else something ran while the device was measured.

      poolformer bench model
      poolformer bench model timm/poolformer_s36 poolformer_s36:channels_last --precision bf16
    """
    return _main("model", model, argv)


def train(argv: list[str]) -> int:
    """Measure how fast networks are trained, beside one another: forward, loss, backward, AdamW.

    Candidates are written as for 'poolformer bench model', without freeze and engines; recompute is --model.recompute.
    bf16 is autocast; fp32 is without TF32; stochastic depth is off. Error: of the gradient of the weights of the first
    convolution or linear layer, against the same network in float64. Saved: what the forward pass keeps for the
    backward pass, divided by the images; in bf16 also copies of the weights, which weigh less in larger batches; empty
    for compiled networks, which keep it elsewhere. Limit: as in inference, for three times the work.

      poolformer bench train --precision bf16
    """
    return _main("train", train, argv)


class Candidate(NamedTuple):
    """A network and how it is run."""

    name: str
    backbone: str
    ways: list[str]


class Step(NamedTuple):
    """What is measured of a candidate.

    Attributes:
        run: One step; returns what `Step.exact` is compared with.
        exact: The same in float64.
        saved: Bytes an image that are kept for the backward pass; None where that is not known.
        shortest_s: Seconds a step by the device's limits.
    """

    run: Callable[[], Tensor]
    exact: Tensor
    saved: float | None
    shortest_s: float


def _main(subject: str, described: Callable, argv: list[str]) -> int:
    options = _parser(subject, described).parse_args(argv)
    threads = 1 if options.num_threads is None else options.num_threads
    if min(options.batch_size, options.image_size, options.rounds, threads) < 1:
        raise ConfigError("--batch_size, --image_size, --rounds and --num_threads: at least 1")
    device = _device(options.device)
    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        host_memory.keep_freed()  # as in training
    candidates = [_parse(text, training=subject == "train") for text in options.candidate or _CANDIDATES]
    for way in {way for candidate in candidates for way in candidate.ways if way in _ENGINES}:
        bench_engines.check(way, device, _PRECISIONS[options.precision])
    with _without_tf32():
        limits = measure.limits(device, _PRECISIONS[options.precision])
        steps = _steps(candidates, options, device, limits, training=subject == "train")
        times = measure.interleaved([step.run for step in steps], rounds=options.rounds, device=device)
        rows = [
            _row(candidate, step, own, times[0], options.batch_size)
            for candidate, step, own in zip(candidates, steps, times, strict=True)
        ]
    _report(rows, limits, device, options, training=subject == "train")
    return 0


def _parser(subject: str, described: Callable) -> argparse.ArgumentParser:
    parser = CommandParser(
        f"poolformer bench {subject}",
        description=inspect.getdoc(described),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("candidate", nargs="*", metavar="CANDIDATE", help="the first one is the baseline of the ratios")
    parser.add_argument("--precision", choices=_PRECISIONS, default="fp32", help="(%(default)s)")
    parser.add_argument("--batch_size", type=int, default=16, help="images of a step (%(default)s)")
    parser.add_argument("--image_size", type=side, default=224, help="side of the images in pixels (%(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each candidate (%(default)s)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; the GPU where there is one")
    parser.add_argument("--num_threads", type=int, help="of the CPU; one a core by default")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _device(name: str | None) -> torch.device:
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        device = torch.device(name or ("cuda" if found else "cpu"))
    except RuntimeError as error:
        raise ConfigError(f"--device {name}: cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and (device.index or 0) >= found):
        raise ConfigError(f"--device {name}: there is no such device here")
    return device


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Have fp32 mean one thing on a GPU, where PyTorch's own default is TF32 in convolutions, but not in products."""
    # Not by fp32_precision, which is newer: Inductor asks for allow_tf32, and PyTorch refuses to tell after a mixture.
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)


def _parse(text: str, *, training: bool) -> Candidate:
    backbone, colon, behind = text.partition(":")
    ways = behind.split("+") if colon else []
    not_here = {"freeze", *_ENGINES} if training else {"recompute"}
    known = [way for way in _WAYS if way not in not_here]
    for way in ways:
        if way not in _WAYS:
            raise ConfigError(f"{text}: there is no {way!r}.{suggestion(way, known)} Known: {', '.join(known)}")
    engines = [way for way in ways if way in _ENGINES]
    if not training and "recompute" in ways:
        raise ConfigError(f"{text}: nothing is computed again without a backward pass")
    if training and ("freeze" in ways or engines):
        raise ConfigError(f"{text}: {'frozen weights' if not engines else engines[0]} cannot be trained")
    if len([way for way in ways if way in _COMPILED]) > 1:
        raise ConfigError(f"{text}: one of {', '.join(_COMPILED)}")
    if engines and len(ways) > 1:
        raise ConfigError(f"{text}: {engines[0]} chooses layout and kernels itself")
    return Candidate(text, backbone, ways)


def _steps(
    candidates: list[Candidate],
    options: argparse.Namespace,
    device: torch.device,
    limits: measure.Limits,
    *,
    training: bool,
) -> list[Step]:
    torch.manual_seed(0)
    images = torch.randn(options.batch_size, 3, options.image_size, options.image_size, device=device)
    networks = [_build(candidate.backbone, options.image_size).to(device).train(training) for candidate in candidates]
    _share_weights(networks)
    make = _training_step if training else _inference_step
    steps = []
    for network, candidate in zip(networks, candidates, strict=True):
        _say(f"preparing {candidate.name}")
        if "fused" in candidate.ways and not any(fuse(copy.deepcopy(network))):
            raise ConfigError(f"{candidate.name}: there is no fused operator for the blocks of this network")
        if "fused" in candidate.ways and not fusing_pays(device.type, _PRECISIONS[options.precision]):
            gpu = device.type == "cuda"
            what = "Triton: pip install triton" if gpu else f"C++ that compiles, and {options.precision} products"
            raise ConfigError(f"{candidate.name}: fused operators need {what}")
        steps.append(make(network, candidate.ways, images, _PRECISIONS[options.precision], limits))
    _say(f"measuring in {options.rounds} rounds")
    return steps


def _say(what: str) -> None:
    """Tell who waits at a terminal what takes so long."""
    if sys.stderr.isatty():
        print(f"{what} ...", file=sys.stderr)


def _build(name: str, image_size: int) -> nn.Module:
    """Build a network without stochastic depth, whose draws would look like errors."""
    try:
        return create_backbone(name, num_classes=1000, image_size=image_size, drop_path_rate=0.0)
    except OptionsError:  # it knows none
        return create_backbone(name, num_classes=1000, image_size=image_size)


def _share_weights(networks: list[nn.Module]) -> None:
    """Draw layer scales anew, which hide every error as they start, and give the first network's weights to all."""
    with torch.no_grad():
        for network in networks:
            for name, parameter in network.named_parameters():
                if "scale" in name:
                    parameter.uniform_(0.2, 0.6)
        source = networks[0].state_dict()
        for network in networks[1:]:
            for name, tensor in network.state_dict().items():
                if name in source and source[name].shape == tensor.shape:
                    tensor.copy_(source[name])


def _run_as(network: nn.Module, ways: list[str], images: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return the network as it is to be called, and images in its layout."""
    if "fused" in ways:
        fuse(network)
    if "recompute" in ways:
        recompute(network)
    if "channels_last" in ways:
        network, images = network.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    for way in ways:
        if way in _COMPILED:
            return torch.compile(network, **_COMPILED[way]), images
    return network, images


def _inference_step(
    network: nn.Module, ways: list[str], images: Tensor, dtype: torch.dtype, limits: measure.Limits
) -> Step:
    with torch.no_grad():
        exact = network.double()(images.double())
    engine = _ENGINES[ways[0]](network.float(), images, dtype) if ways and ways[0] in _ENGINES else None
    network, images = network.to(dtype), images.to(dtype)
    shortest_s = measure.shortest_s(network, images, limits)
    if engine:
        return Step(engine, exact, None, shortest_s)
    called, images = _run_as(network, ways, images)

    def run() -> Tensor:
        with torch.no_grad():
            return called(images)

    return Step(run, exact, None, shortest_s)


def _training_step(
    network: nn.Module, ways: list[str], images: Tensor, dtype: torch.dtype, limits: measure.Limits
) -> Step:
    targets = torch.rand(len(images), 1000, device=images.device).softmax(1)
    # Not the first parameter, which can be a class token.
    first = next(layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear))

    def loss_of(called: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        autocast = torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32 == images.dtype)
        with autocast:
            return F.cross_entropy(called(images), targets.to(images.dtype))

    network.double()
    exact = torch.autograd.grad(loss_of(network, images.double()), first)[0].clone()
    network.float()
    shortest_s = 3 * measure.shortest_s(network, images, limits)
    called, images = _run_as(network, ways, images)
    compiled = called is not network
    saved = None if compiled else measure.saved_bytes(partial(loss_of, called, images), network) / len(images)
    optimizer = torch.optim.AdamW(parameter_groups(network, 0.05), lr=0.0)  # the error is that of the same weights

    def run() -> Tensor:
        optimizer.zero_grad()
        loss_of(called, images).backward()
        optimizer.step()
        assert first.grad is not None
        return first.grad

    return Step(run, exact, saved, shortest_s)


def _row(
    candidate: Candidate, step: Step, times: list[float], baseline: list[float], batch_size: int
) -> dict[str, Any]:
    best_s = min(times)
    result, peak_bytes = measure.peak_bytes(step.run, step.exact.device)
    difference = (result.double() - step.exact).abs().max() / step.exact.abs().max()
    return {
        "candidate": candidate.name,
        "images_per_s": batch_size / best_s,
        **measure.speed_up(times, baseline)._asdict(),
        "error": difference.item(),
        "saved_bytes": step.saved,
        "peak_bytes": peak_bytes,
        "of_limit": step.shortest_s / best_s,
        "seconds": times,
    }


def _report(
    rows: list[dict[str, Any]],
    limits: measure.Limits,
    device: torch.device,
    options: argparse.Namespace,
    *,
    training: bool,
) -> None:
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    machine = {"device": hardware, "threads": torch.get_num_threads(), "torch": torch.__version__, **limits._asdict()}
    if options.json:
        print(json.dumps({"options": vars(options), "machine": machine, "results": rows}, indent=1))
        return
    width = max(len(row["candidate"]) for row in rows)
    print(
        f"{hardware}, {machine['threads']} threads, torch {torch.__version__}: {limits.flops / 1e9:,.0f} GFLOP/s, "
        f"{limits.bytes / 1e9:,.1f} GB/s in {options.precision}\n"
    )
    saves = f"{'saved MiB':>11}" if training else ""
    print(f"{'':{width}}{'images/s':>10}{'ratio':>8}  {'95 %':<14}{'error':>9}{'limit':>7}{saves}")
    for row in rows:
        saved = "" if row["saved_bytes"] is None else f"{row['saved_bytes'] / 2**20:11.1f}"
        interval = "-" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
        print(
            f"{row['candidate']:{width}}{row['images_per_s']:10.1f}{row['median']:8.2f}  {interval:<14}"
            f"{row['error']:9.1e}{row['of_limit']:7.0%}{saved}"
        )
