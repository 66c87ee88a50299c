"""`poolformer bench model` and `poolformer bench train`."""

import argparse
import inspect
import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..commands.arguments import CommandParser, side
from ..counts import counted
from ..errors import ConfigError
from ..run import host_memory
from . import engines as bench_engines
from . import measure
from .candidates import ENGINES, PRECISIONS, Candidate, Step, parse, steps_of

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
    freeze (compile with constant weights), max_autotune, graphs (as --model.cuda_graphs), and the engines onnxruntime
    and openvino, which are given the inference form that 'poolformer export' writes. All have the weights of the first
    one wherever names and shapes agree.

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
    candidates = [parse(text, training=subject == "train") for text in options.candidate or _CANDIDATES]
    for way in {way for candidate in candidates for way in candidate.ways if way in ENGINES}:
        bench_engines.check(way, device, PRECISIONS[options.precision])
    with _without_tf32():
        limits = measure.limits(device, PRECISIONS[options.precision])
        steps = steps_of(candidates, options, device, limits, training=subject == "train")
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
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="(%(default)s)")
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
        f"{hardware}, {counted(machine['threads'], 'thread')}, torch {torch.__version__}: "
        f"{limits.flops / 1e9:,.0f} GFLOP/s, {limits.bytes / 1e9:,.1f} GB/s in {options.precision}\n"
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
