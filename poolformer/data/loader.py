"""A loader whose batches are a function of (seed, epoch): the same for any number of threads, ranks or restarts."""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..counts import counted
from ..errors import DataError
from .copies import has_gpu, pinned
from .held_out import Part
from .order import Order
from .page_order import page_wise
from .pages import Pages
from .pixels.transforms import Transform
from .sources import Source
from .threads import in_order

CHUNK = 16
"""Samples a thread takes at once, so that few of its microseconds need the interpreter lock."""

IN_A_ROW = 100
"""Unreadable samples, at which not a few files but the disk is to blame."""


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

    Unreadable samples may be skipped. In training the next readable one by number stands in, so that batches stay
    whole and what a batch holds still depends on the data, the seed and the epoch alone; in evaluation the batch is the
    shorter by it. At the end of the epoch a warning says how many there were.

    Args:
        source: The samples.
        transforms: Function of the epoch that returns the transform of its samples.
        workers: Number of threads.
        on_error: `fail` at an unreadable sample, or `skip` it.
        pages: Of the samples, to train on them page by page; None for an order over all of them.
        batch_size, shuffle, seed, rank, world: of the `Order`.
    """

    def __init__(
        self,
        source: Source | Part,
        transforms: Callable[[int], Transform],
        *,
        batch_size: int,
        workers: int,
        on_error: Literal["fail", "skip"] = "fail",
        pages: Pages | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(len(source.labels), batch_size=batch_size, shuffle=shuffle, seed=seed, rank=rank, world=world)
        self.labels = source.labels
        self.source, self.transforms, self.workers = source, transforms, workers
        self._skips, self._pages = on_error == "skip", pages
        self._handed_out: list[int] = []
        self._left_out: dict[int, str] = {}
        self._in_a_row = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor] | UnaugmentedBatch]:
        # The body runs at the first batch, not here: Lightning calls iter() before it says which epoch it is.
        epoch, first = self.epoch, self.begin()
        # Of chunks: two batches, or two for each thread.
        ahead = 2 * max(self.workers, math.ceil(self.batch_size / CHUNK))
        self._handed_out, self._left_out = [], {}
        try:
            for chunk in in_order(self._fill, self._chunks(epoch, first), workers=self.workers, ahead=ahead):
                if chunk.is_last:
                    self._note_left_out(chunk)
                    if len(chunk.left_out) == len(chunk.labels) and self.world > 1 and not self.shuffle:
                        raise DataError(f"{chunk.left_out[0]}; so is the whole batch, for which other devices wait")
                    if self.shuffle or len(chunk.left_out) < len(chunk.labels):
                        self._done += 1
                        self._handed_out.append(chunk.batch)
                        yield chunk.whole_batch if self.shuffle or not chunk.left_out else chunk.batch_without_left_out
        finally:
            self._tell_left_out(epoch)

    def permutation(self, epoch: int) -> np.ndarray:
        """Return the samples of a training epoch on all ranks, in order; each once."""
        if self._pages is None:
            return super().permutation(epoch)
        return page_wise(self._pages, seed=self.seed, epoch=epoch)

    def batch_indices(self, batch: int) -> list[int]:
        """Return the samples of a batch that was handed out, by number; those that were skipped are not in it."""
        if self.shuffle or not self._left_out:
            return super().batch_indices(batch)
        samples = super().batch_indices(self._handed_out[batch])
        return [sample for sample in samples if sample not in self._left_out]

    def _note_left_out(self, chunk: "_Chunk") -> None:
        for place, sample in enumerate(chunk.samples_of_batch.tolist()):
            self._in_a_row = self._in_a_row + 1 if place in chunk.left_out else 0
            if place in chunk.left_out:
                self._left_out[sample] = chunk.left_out[place]
            if self._in_a_row >= min(IN_A_ROW, self.samples) and not self.shuffle:
                count = counted(self._in_a_row, "unreadable image")
                raise DataError(f"{count} in a row, the last: {chunk.left_out[place]}")

    def _tell_left_out(self, epoch: int) -> None:
        if self._left_out:
            count = f"{len(self._left_out)} of {self.samples} images cannot be read"
            fate = "replaced by the next ones" if self.shuffle else "left out"
            where = f"epoch {epoch}: " if self.shuffle else ""
            first = next(iter(self._left_out.values()))
            warnings.warn(f"{where}{count} and are {fate}; the first: {first}", stacklevel=2)

    def _chunks(self, epoch: int, first: int) -> Iterator["_Chunk"]:
        order, transform = self.order(epoch), self.transforms(epoch)
        size = transform.image_size
        for batch in range(first, len(self)):
            samples = self.batch_of(order, batch)
            self.source.will_load(samples)
            images = torch.empty((len(samples), 3, size, size), dtype=torch.uint8, pin_memory=has_gpu())
            labels = pinned(torch.from_numpy(self.source.labels[samples].astype(np.int64)))
            draws: list[np.ndarray | None] = [None] * len(samples)
            whole = _Chunk(epoch, transform, batch, samples, images, labels, draws, {}, 0, len(samples))
            for place in range(0, len(samples), CHUNK):
                yield whole._replace(place=place, end=min(place + CHUNK, len(samples)))

    def _fill(self, chunk: "_Chunk") -> "_Chunk":
        samples = chunk.samples_of_batch[chunk.place : chunk.end]
        slots = chunk.images[chunk.place : chunk.end].numpy()
        filled = self.source.fill(samples, chunk.transform, chunk.epoch, slots)
        for n, sample in enumerate(samples.tolist()):
            place = chunk.place + n
            if filled.done[n]:
                chunk.draws[place] = filled.draws[n] if chunk.transform.recipe.on_device else None
                continue
            try:
                self._load(sample, place, chunk)
            except DataError as error:
                if not self._skips:
                    raise
                chunk.left_out[place] = str(error)
                if self.shuffle:
                    self._load_stand_in(sample, place, chunk)
        return chunk

    def _load(self, sample: int, place: int, chunk: "_Chunk") -> None:
        chunk.draws[place] = self.source.load(sample, chunk.transform, chunk.epoch, chunk.images[place].numpy())

    def _load_stand_in(self, sample: int, place: int, chunk: "_Chunk") -> None:
        for further in range(1, min(IN_A_ROW, self.samples)):
            other = (sample + further) % self.samples
            try:
                self._load(other, place, chunk)
            except DataError:
                continue
            chunk.labels[place] = int(self.source.labels[other])
            return
        raise DataError(f"{chunk.left_out[place]}; nor can those behind it be read")


class _Chunk(NamedTuple):
    epoch: int
    transform: Transform
    batch: int
    samples_of_batch: np.ndarray
    images: Tensor
    """The whole batch."""
    labels: Tensor
    draws: list[np.ndarray | None]
    """Of the whole batch; None where nothing is left to the device."""
    left_out: dict[int, str]
    """Places in the batch of samples that cannot be read, and why."""
    place: int
    """Of the first sample in the batch."""
    end: int

    @property
    def is_last(self) -> bool:
        """Of its batch; the batches before it are complete when it is."""
        return self.end == len(self.samples_of_batch)

    @property
    def whole_batch(self) -> tuple[Tensor, Tensor] | UnaugmentedBatch:
        draws = [each for each in self.draws if each is not None]
        if not draws:
            return self.images, self.labels
        assert len(draws) == len(self.draws)
        return UnaugmentedBatch(self.images, self.labels, np.stack(draws))

    @property
    def batch_without_left_out(self) -> tuple[Tensor, Tensor]:
        kept = torch.tensor([place for place in range(len(self.labels)) if place not in self.left_out])
        return self.images[kept], self.labels[kept]
