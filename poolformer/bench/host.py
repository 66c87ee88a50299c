"""`poolformer bench host`: what a block costs the processor that launches it, whatever its device then computes."""

import argparse
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..commands.arguments import CommandParser, number
from ..errors import ConfigError
from ..kernels import availability
from ..network.block import Block
from ..network.fused import fuse
from ..network.metaformer import MetaFormer
from . import measure

_WAYS = ("separate", "fused")
_CHANNELS = 8


def main(argv: list[str]) -> int:
    """Measure how long a block's forward and backward pass keep a processor in training: separate, and fused.

    In bf16 autocast, with stochastic depth, on maps of 2x2 tokens and 8 channels, which are next to no work for a GPU:
    it is not waited for. Without a GPU the CPU computes what is not one of Triton's kernels; these are not called, so
    that what launching them takes is left out. Processor time, medians of rounds in turns.
    """
    parser = CommandParser("poolformer bench host", description=main.__doc__)
    parser.add_argument("--rounds", type=number(int, "an integer from 1 up", least=1), default=25, help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    options = parser.parse_args(argv)
    if not availability.has_triton():
        raise ConfigError("fused operators launch kernels with Triton: pip install triton")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _one_thread(), _launching_nothing(device):
        steps = [_step(way, device) for way in _WAYS]
        # As on a CPU, whatever the device: nothing is waited for.
        times = measure.interleaved(steps, rounds=options.rounds, device=torch.device("cpu"), clock=time.process_time)
    _report({way: 1e3 * statistics.median(own) for way, own in zip(_WAYS, times, strict=True)}, device, options)
    return 0


def _step(way: str, device: torch.device) -> Callable[[], None]:
    network = MetaFormer(depths=(1, 1, 1, 1), dims=(_CHANNELS,) * 4, num_classes=2, drop_path_rate=0.1)
    if way == "fused":
        fuse(network, device.type)
    network.to(device).to(memory_format=torch.channels_last)
    block = [module for module in network.modules() if isinstance(module, Block)][-1]  # the first drops nothing
    x = torch.randn(2, _CHANNELS, 2, 2, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
    gradient, learned = torch.randn_like(x), [x, *block.parameters()]

    def step() -> None:
        for each in learned:
            each.grad = None
        with torch.autocast(device.type, torch.bfloat16):
            y: Tensor = block(x)
        y.backward(gradient)

    return step


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _launching_nothing(device: torch.device) -> Iterator[None]:
    """On a CPU, have fused operators take the way to Triton's kernels, and these do nothing."""
    if device.type != "cpu":
        yield
        return
    from triton.runtime import KernelInterface

    from ..kernels import channel_mix_triton, moments_triton, pool_mix_triton

    modules = channel_mix_triton, moments_triton, pool_mix_triton
    kernels = [
        (module, name, value)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, KernelInterface)
    ]
    try:
        for module, name, _ in kernels:
            setattr(module, name, _Nothing())
        with availability.as_if_interpreted():
            yield
    finally:
        for module, name, value in kernels:
            setattr(module, name, value)


class _Nothing:
    def __getitem__(self, grid: object) -> Callable[..., None]:
        return lambda *arguments, **options: None


def _report(ms: dict[str, float], device: torch.device, options: argparse.Namespace) -> None:
    launched = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    where = {"processor": processor(), "device": launched, "torch": torch.__version__}
    if options.json:
        print(json.dumps({**where, "host_ms": ms}, indent=1))
        return
    print(f"{where['processor']}, {launched or 'without launches of Triton kernels'}, torch {torch.__version__}")
    for way, found in ms.items():
        print(f"{way:9}{found:6.2f} ms a block")


def processor() -> str:
    """Return the name of the processor, as far as the system says it."""
    described = Path("/proc/cpuinfo")
    named: Any = described.is_file() and re.search(r"^model name\s*: (.*)", described.read_text(), re.MULTILINE)
    return named[1].strip() if named else platform.processor() or "CPU"
