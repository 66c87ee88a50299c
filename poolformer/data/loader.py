"""A loader whose batches are a function of (seed, epoch): the same for any number of threads, ranks or restarts."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .order import Order
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


class Loader(Order):
    """Batches of uint8 images (B, 3, S, S) and int64 labels (B,), made by threads, each in memory of its own.

    Epochs may be left early; nothing stays behind. An exception in a thread is raised by the iteration, as itself.

    Args:
        source: the samples.
        transforms: from the epoch to the transform of its samples.
        workers: threads.
        batch_size, shuffle, seed, rank, world: of the `Order`.
    """

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
        super().__init__(len(source.labels), batch_size=batch_size, shuffle=shuffle, seed=seed, rank=rank, world=world)
        self.labels = source.labels
        self.source, self.transforms, self.workers = source, transforms, workers
        self._pin = torch.cuda.is_available()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor] | UnaugmentedBatch]:
        # The body runs at the first batch, not here: Lightning calls iter() before it says which epoch it is.
        epoch, first = self.epoch, self.begin()
        ahead = 2 * max(
            self.workers, math.ceil(self.batch_size / CHUNK)
        )  # of chunks: two batches, or two for each thread
        for chunk in in_order(self._fill, self._chunks(epoch, first), workers=self.workers, ahead=ahead):
            if chunk.is_last:
                self._done += 1
                yield chunk.batch

    def _chunks(self, epoch: int, first: int) -> Iterator["_Chunk"]:
        order, transform = self.order(epoch), self.transforms(epoch)
        size = transform.image_size
        for batch in range(first, len(self)):
            samples = self.batch_of(order, batch)
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
