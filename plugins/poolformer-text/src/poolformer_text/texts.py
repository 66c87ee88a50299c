"""Texts as batches: int64 bytes (B, 1, 1, L), padded, and labels (B,)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolformer.data.order import Order
from poolformer.data.seeding import SeededDataModule
from poolformer.errors import DataError

from .backbone import PADDING


def encoded(texts: Sequence[str], length: int) -> Tensor:
    """Return texts as bytes (N, 1, 1, L) of int64: UTF-8, cut after L bytes or padded.

    A text of no bytes is padding alone.
    """
    rows = np.full((len(texts), length), PADDING, np.int64)
    for row, text in zip(rows, texts, strict=True):
        part = np.frombuffer(text.encode()[:length], np.uint8)
        row[: len(part)] = part
    return torch.from_numpy(rows)[:, None, None]


class Texts(Order):
    """Batches of encoded texts, the same for any number of processes or restarts.

    Args:
        texts: (N, 1, 1, L).
        labels: (N,).
        order: What `Order` takes.
    """

    def __init__(self, texts: Tensor, labels: Tensor, **order: Any):
        super().__init__(len(labels), **order)
        self.texts, self.labels = texts, labels

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # The body runs at the first batch, not here: Lightning calls iter() before it says which epoch it is.
        epoch, first = self.epoch, self.begin()
        order = self.order(epoch)
        for number in range(first, len(self)):
            samples = torch.from_numpy(self.batch_of(order, number))
            self._done += 1
            yield self.texts[samples], self.labels[samples]


class TextModule(SeededDataModule):
    """A data module of texts; what inherits it says which, in `splits`.

    Args:
        batch_size: Texts a device and step.
        image_size: Bytes L of a text; the frame's name of what the number of tokens depends on.
        seed: Seed of the order; null for that of --seed_everything.
    """

    class_names: list[str]

    def __init__(self, batch_size: int, image_size: int, seed: int | None):
        super().__init__(seed)
        if batch_size < 1 or image_size < 1:
            raise DataError(f"--data.batch_size {batch_size} and --data.image_size {image_size} are at least 1")
        self.batch_size, self.length = batch_size, image_size
        self._sets: dict[str, tuple[Tensor, Tensor]] | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, which is known once the data is read."""
        return len(self.class_names)

    def splits(self) -> dict[str, list[tuple[str, int]]]:
        """Read the texts: of ``train`` and ``val`` (text, label). Sets `class_names`."""
        raise TypeError(f"{type(self).__name__} has to say which texts there are, in splits()")

    def setup(self, stage: str | None = None) -> None:
        if self._sets is None:
            self._sets = {}
            for name, rows in self.splits().items():
                texts = encoded([text for text, _ in rows], self.length)
                self._sets[name] = texts, torch.tensor([label for _, label in rows], dtype=torch.long)

    def train_dataloader(self) -> Texts:
        """Shuffled batches.

        Raises:
            DataError: There is not even one.
        """
        loader = self._loader("train", shuffle=True)
        if len(loader) == 0:
            raise DataError(
                f"there are {loader.samples} texts to train on, fewer than one batch of {self.batch_size}: lower "
                "--data.batch_size"
            )
        return loader

    def val_dataloader(self) -> Texts:
        """Every validation text once, in order."""
        return self._loader("val")

    test_dataloader = predict_dataloader = val_dataloader

    def _loader(self, split: str, *, shuffle: bool = False) -> Texts:
        self.setup()
        assert self._sets is not None
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        texts, labels = self._sets[split]
        loader = Texts(
            texts, labels, batch_size=self.batch_size, shuffle=shuffle, seed=self.seed, rank=rank, world=world
        )
        loader.follow(self.trainer)
        return loader
