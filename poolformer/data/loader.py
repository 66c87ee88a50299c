"""A loader whose batches are a function of (seed, epoch): the same for any number of threads, ranks or restarts."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .keyed import shuffled
from .sources import Source
from .threads import in_order
from .transforms import Transform

CHUNK = 8
"""Samples a thread takes at once."""


class UnaugmentedBatch(NamedTuple):
    """A training batch whose RandAugment is left to the device; see device_augment.py."""

    images: Tensor
    """uint8 (B, 3, S, S)."""
    labels: Tensor
    """int64 (B,)."""
    draws: np.ndarray
    """What to do to each image, float64 (B, operations, 3); no tensor, as the host must know it."""


class Loader:
    """Batches of uint8 images (B, 3, S, S) and int64 labels (B,), made by threads, each in memory of its own.

    Lightning calls `set_epoch`, saves `state_dict` and restores it, so that a run goes on in mid-epoch with the
    sample after the last. Epochs may be left early; nothing stays behind. An exception in a thread is raised by the
    iteration, as itself.

    Args:
        source: the samples.
        transforms: from the epoch to the transform of its samples.
        batch_size: images of this rank.
        workers: threads.
        shuffle: for training: the order is drawn from (seed, epoch), and every rank gets equally many whole batches,
            the rest of the samples being left out this epoch. Otherwise samples come in their own order, each to
            exactly one rank. Ranks then differ by at most one sample but never in the number of their batches, since
            DDP waits for all of them at each: so a last batch may hold one image more than batch_size.
        seed: of the order.
        rank, world: which of how many processes this is.
    """

    batch_sampler = None  # Lightning looks here before it calls sampler.set_epoch

    def __init__(
        self,
        source: Source,
        transforms: Callable[[int], Transform],
        *,
        batch_size: int,
        workers: int,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.source, self.transforms = source, transforms
        self.batch_size, self.workers, self.shuffle, self.seed = batch_size, workers, shuffle, seed
        self.rank, self.world = rank, world
        self.epoch = 0
        self._done = 0
        self._resume: tuple[int, int] | None = None
        self._pin = torch.cuda.is_available()

    @property
    def sampler(self) -> "Loader":
        """Itself: Lightning calls `loader.sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of iterations whose first batch is not made yet."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """Where the iteration is: {"epoch": ..., "batch": batches handed out}."""
        return {"epoch": self.epoch, "batch": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on after `state`: the next iteration of that epoch leaves out the batches already handed out."""
        self.epoch, self._done = state["epoch"], state["batch"]
        self._resume = (state["epoch"], state["batch"])

    def __len__(self) -> int:
        everywhere = len(self.source.labels) // self.world
        return everywhere // self.batch_size if self.shuffle else math.ceil(everywhere / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor] | UnaugmentedBatch]:
        # The body runs at the first batch, not here: Lightning calls iter() before it says which epoch it is.
        epoch, first = self.epoch, 0
        if self._resume is not None:
            if self._resume[0] == epoch and self._resume[1] < len(self):
                first = self._resume[1]
            self._resume = None
        self._done = first
        ahead = 2 * max(
            self.workers, math.ceil(self.batch_size / CHUNK)
        )  # of chunks: two batches, or two for each thread
        for chunk in in_order(self._fill, self._chunks(epoch, first), workers=self.workers, ahead=ahead):
            if chunk.is_last:
                self._done += 1
                yield chunk.batch

    def order(self, epoch: int) -> np.ndarray:
        """The samples of an epoch on this rank, in order, int64."""
        samples = len(self.source.labels)
        if not self.shuffle:
            return np.arange(self.rank, samples, self.world)
        share = len(self) * self.batch_size
        return shuffled(samples, seed=self.seed, epoch=epoch)[self.rank : share * self.world : self.world]

    def batch_indices(self, batch: int) -> list[int]:
        """The samples of a batch of this epoch, by number."""
        return self._batch(self.order(self.epoch), batch).tolist()

    def _batch(self, order: np.ndarray, batch: int) -> np.ndarray:
        start = batch * self.batch_size
        return order[start:] if batch == len(self) - 1 else order[start : start + self.batch_size]

    def _chunks(self, epoch: int, first: int) -> Iterator["_Chunk"]:
        order, transform = self.order(epoch), self.transforms(epoch)
        size = transform.image_size
        for batch in range(first, len(self)):
            samples = self._batch(order, batch)
            images = torch.empty((len(samples), 3, size, size), dtype=torch.uint8, pin_memory=self._pin)
            labels = torch.from_numpy(self.source.labels[samples])
            draws = [None] * len(samples)
            for place in range(0, len(samples), CHUNK):
                is_last = place + CHUNK >= len(samples)
                yield _Chunk(epoch, transform, samples[place : place + CHUNK], images, labels, draws, place, is_last)

    def _fill(self, chunk: "_Chunk") -> "_Chunk":
        slots = chunk.images.numpy()
        for place, sample in enumerate(chunk.samples.tolist(), chunk.place):
            chunk.draws[place] = self.source.load(sample, chunk.transform, chunk.epoch, slots[place])
        return chunk


class _Chunk(NamedTuple):
    epoch: int
    transform: Transform
    samples: np.ndarray
    images: Tensor
    """The whole batch."""
    labels: Tensor
    draws: list[np.ndarray | None]
    """Of the whole batch; None where nothing is left to the device."""
    place: int
    """Of the first sample in the batch."""
    is_last: bool
    """Of its batch; the batches before it are complete when it is."""

    @property
    def batch(self) -> tuple[Tensor, Tensor] | UnaugmentedBatch:
        if self.draws[0] is None:
            return self.images, self.labels
        return UnaugmentedBatch(self.images, self.labels, np.stack(self.draws))
