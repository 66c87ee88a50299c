"""The draws of a step, each keyed by an image's place in the step: not by the process or batch that it came to.

So a run that is resumed draws what it would have drawn, and as many images a step on another number of processes, or in
accumulated batches, are the same run.
"""

import hashlib
import math
import random
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import torch

_IMAGES_A_DRAW = 128
"""Images that mixup and CutMix draw for at once: as many as a process of the authors' has (sail-sg/poolformer)."""


class StepPart(NamedTuple):
    """A batch as a part of the images of an optimiser's step.

    The images of a step have places 0 to ``total - 1``. They are dealt in pairs, a place and its mirror image, since
    mixup and CutMix mix a batch with its reverse: to every process, and every batch that it accumulates, alike.

    Attributes:
        size: Images B of the batch.
        micro_batch: Which batch of the step it is.
        micro_batches: Batches of the step, over all processes.
        seed: Of the run.
        step: Number of the step in the run.
    """

    size: int
    micro_batch: int = 0
    micro_batches: int = 1
    seed: int = 0
    step: int = 0

    @classmethod
    def anywhere(cls, size: int) -> "StepPart":
        """Return a batch that is a step of its own, with a seed drawn by Python."""
        return cls(size, seed=random.getrandbits(32))

    @property
    def total(self) -> int:
        """Images of the step."""
        return self.size * self.micro_batches

    @property
    def places(self) -> np.ndarray:
        """Places of the batch's images in the step, int64 (B,)."""
        return _dealt(self.size, self.micro_batch, self.micro_batches)[0]

    @property
    def mixed_together(self) -> tuple[tuple[int, slice], ...]:
        """Rows that share a draw of mixup or CutMix, with the number of the draw in the step."""
        return _dealt(self.size, self.micro_batch, self.micro_batches)[1]

    def key(self, *purpose: str | int) -> int:
        """Return a seed of the step's own for a purpose."""
        return derived_seed(self.seed, self.step, *purpose)


@lru_cache
def _dealt(size: int, micro_batch: int, micro_batches: int) -> tuple[np.ndarray, tuple[tuple[int, slice], ...]]:
    if size % 2:  # which is not mixed
        return micro_batch + micro_batches * np.arange(size), ((0, slice(0, size)),)
    total, pairs = size * micro_batches, micro_batch + micro_batches * np.arange(size // 2)
    draws = _nearest_divisor(total // 2, total / _IMAGES_A_DRAW)
    places, together, start = [], [], 0
    for draw in np.unique(pairs % draws).tolist():
        firsts = pairs[pairs % draws == draw]
        places += [firsts, total - 1 - firsts[::-1]]
        together.append((draw, slice(start, start + 2 * len(firsts))))
        start += 2 * len(firsts)
    return np.concatenate(places), tuple(together)


def _nearest_divisor(number: int, wanted: float) -> int:
    divisors = [each for each in range(1, number + 1) if number % each == 0]
    return min(divisors, key=lambda each: abs(math.log(each / wanted)))


def derived_seed(*place: str | int) -> int:
    """Return a seed of 32 bits that is a function of a place, such as (seed, epoch, batch, rank)."""
    return int.from_bytes(hashlib.blake2b(repr(place).encode(), digest_size=4).digest(), "big")


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)
    seed_torch(seed)


@cache
def _has_other_accelerator() -> bool:
    accelerator = torch.accelerator.current_accelerator()
    return accelerator is not None and accelerator.type != "cuda"


def seed_torch(seed: int) -> None:
    """Seed PyTorch where this process draws, as `torch.manual_seed` does; it costs a thousandth of it.

    That one also notes the call for every kind of device that nobody has used yet, with the stack as text.
    """
    if _has_other_accelerator():
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
