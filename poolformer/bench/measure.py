"""Measuring beside one another: turns in rotated order, ratios within a round, intervals by rank.

A machine drifts by 20 % within minutes; what ran right after one another is compared, nothing else.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

_LONG_PRODUCT_S = 0.05
_TURN_S = 0.3


class Ratio(NamedTuple):
    """How many times as fast as the baseline: median of the rounds, and its 95 % interval, which takes six rounds."""

    median: float
    low: float | None
    high: float | None


class Limits(NamedTuple):
    """What a device can do at most, as measured on it.

    Attributes:
        flops: Floating-point operations a second of a large matrix product.
        bytes: Bytes a second of a large copy, read and written.
    """

    flops: float
    bytes: float


def interleaved(
    steps: Sequence[Callable[[], object]],
    *,
    rounds: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Time steps in turns and return seconds a step: a list for each, with an entry for each round.

    A turn repeats its step for a third of a second. Every round starts with another one, so that none is always
    the first after a pause.
    """
    repeats = [_repeats(step, device) for step in steps]
    times: list[list[float]] = [[] for _ in steps]
    for number in range(rounds):
        for offset in range(len(steps)):
            index = (number + offset) % len(steps)
            times[index].append(_seconds(steps[index], repeats[index], device, clock))
    return times


def _repeats(step: Callable[[], object], device: torch.device) -> int:
    step()  # what is compiled or cached at the first call
    return max(1, round(_TURN_S / _seconds(step, 2, device)))


def _seconds(
    step: Callable[[], object], repeats: int, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    _wait_for(device)
    started_s = clock()
    for _ in range(repeats):
        step()
    _wait_for(device)
    return (clock() - started_s) / repeats


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def speed_up(times: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Compare two lists of times of the same rounds.

    The interval reaches from one ratio to another, by their ranks: it asks nothing of how they are distributed.
    """
    from scipy.stats import quantile_test  # 1 s

    ratios = [base / own for own, base in zip(times, baseline, strict=True)]
    interval = quantile_test(ratios, p=0.5).confidence_interval(0.95)
    low, high = (None if math.isnan(end) else float(end) for end in interval)
    return Ratio(statistics.median(ratios), low, high)


def saved_bytes(forward: Callable[[], Tensor], model: nn.Module) -> int:
    """Bytes that a forward pass keeps for the backward pass, beside the parameters and buffers."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()  # held, or its storages could be used again
    total = sum(kept.values())
    del output
    return total


def limits(device: torch.device, dtype: torch.dtype) -> Limits:
    """Measure a device's matrix products and copies, the best of several each."""
    left, right = _factors(device, dtype)
    source = torch.zeros(2**30 if device.type == "cuda" else 2**26, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_s, copy_s = (
        min(min(times) for times in interleaved([step], rounds=5, device=device))
        for step in (lambda: left @ right, lambda: target.copy_(source))
    )
    return Limits(flops=2 * len(left) ** 3 / product_s, bytes=2 * source.nbytes / copy_s)


def _factors(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return large square matrices, smaller ones where a product takes long: in a type that a CPU computes by loops."""
    side, largest = 256, 8192 if device.type == "cuda" else 2048
    while True:
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        torch.mm(left, right)  # what is set up at the first call
        if side == largest or _seconds(lambda: left @ right, 1, device) > _LONG_PRODUCT_S:  # noqa: B023
            return left, right
        side *= 2


def shortest_s(model: nn.Module, images: Tensor, limits: Limits) -> float:
    """Seconds that one forward pass takes at least: each convolution and linear layer by itself, nothing else.

    A layer costs its operations or its bytes (input, weights and output once), whichever takes longer.
    """
    costs: list[float] = []

    def cost(layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        operations = 2 * output.numel() * layer.weight[0].numel()
        moved = sum(each.nbytes for each in (*inputs, layer.weight, output))
        costs.append(max(operations / limits.flops, moved / limits.bytes))

    hooks = [layer.register_forward_hook(cost) for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(costs)


def peak_bytes(run: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, int | None]:
    """Run a step, and return its result and how much GPU memory it takes at most, on top of what is held before.

    Args:
        run: The step.
        device: On which it runs; of a CPU the memory is not known.
    """
    if device.type != "cuda":
        return run(), None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = run()
    torch.cuda.synchronize(device)
    return result, torch.cuda.max_memory_allocated(device) - before
