"""scikit-learn's handwritten digits: 1797 images inside the wheel, so that a first run needs no download."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import option_ranges
from ..errors import DataError
from .copies import pinned
from .order import Order
from .pixels.keyed import uniforms
from .seeding import SeededDataModule
from .threads import in_order

_SPLIT_SEED = 0
_VAL_SHARE = 0.2


class DigitsData(SeededDataModule):
    """Handwritten digits of 8 by 8 pixels, the embedded default: 1437 to train on, 360 to validate.

    Args:
        batch_size: Images a device and step.
        image_size: Side in pixels; the images are 8 by 8 and are enlarged where it is more.
        shift: Training images are moved along each axis by up to this share of their side.
        seed: Seed of the order and the moves; null for that of --seed_everything.
        num_workers: Threads that load; 0 loads in the training thread, which is fastest here.
        tune_share: Share of the training digits held out to choose options by: validated on in place of the 360.

    Attributes:
        num_classes: 10.
        class_names: "0" to "9".
    """

    def __init__(
        self,
        batch_size: int = 64,
        image_size: int = 8,
        shift: float = 0.125,
        seed: int | None = None,
        num_workers: int = 0,
        tune_share: float | None = None,
    ):
        super().__init__(seed)
        self.save_hyperparameters()
        option_ranges.check("data", locals(), option_ranges.DIGITS)
        self.batch_size = batch_size
        self.class_names = [str(digit) for digit in range(10)]
        self.num_classes = len(self.class_names)

    def setup(self, stage: str) -> None:
        """Split the digits, the same way every time, with every class in proportion."""
        from sklearn.datasets import load_digits  # 1 s
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        images = torch.from_numpy(digits.images / 16 * 255).round().to(torch.uint8)
        labels = torch.from_numpy(digits.target).long()

        def split(samples: Sequence[int], share: float) -> list[list[int]]:
            kept, held = train_test_split(
                samples, test_size=share, random_state=_SPLIT_SEED, stratify=labels[list(samples)]
            )
            return [kept, held]

        train, val = split(range(len(labels)), _VAL_SHARE)
        if self.hparams.tune_share is not None:
            train, val = split(train, self.hparams.tune_share)
        size = self.hparams.image_size
        self._train = Digits(images[train], labels[train], image_size=size, shift=self.hparams.shift)
        self._val = Digits(images[val], labels[val], image_size=size, shift=0)

    def train_dataloader(self) -> "DigitsLoader":
        """Shuffled batches of uint8 (B, 3, H, W) and int64 (B,).

        Raises:
            DataError: There is not even one.
        """
        loader = self._loader(self._train, shuffle=True)
        if len(loader) == 0:
            raise DataError(
                f"there are {len(self._train.labels)} digits to train on, fewer than one batch of {self.batch_size} on "
                f"each of {loader.world} devices: lower --data.batch_size"
            )
        return loader

    def val_dataloader(self) -> "DigitsLoader":
        """Every validation digit once, in order."""
        return self._loader(self._val)

    test_dataloader = predict_dataloader = val_dataloader

    def _loader(self, digits: "Digits", *, shuffle: bool = False) -> "DigitsLoader":
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        loader = DigitsLoader(
            digits,
            workers=self.hparams.num_workers,
            batch_size=self.batch_size,
            shuffle=shuffle,
            seed=self.seed,
            rank=rank,
            world=world,
        )
        loader.follow(self.trainer)
        return loader


class Digits:
    """Digits (N, 8, 8) as batches: indices to uint8 images (B, 3, S, S) and labels (B,).

    Args:
        images: uint8 (N, 8, 8).
        labels: int64 (N,).
        image_size: Side S of what is returned, in pixels.
        shift: Largest random move along each axis, as a share of the side.
    """

    def __init__(self, images: Tensor, labels: Tensor, *, image_size: int, shift: float):
        self.images, self.labels = images, labels
        self.image_size, self.shift = image_size, shift

    def batch(self, samples: np.ndarray, *, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
        """Return samples (B,) as they are in an epoch of a run with that seed."""
        # The whole batch at once: Python for each image would cost more than the training step.
        indices = torch.from_numpy(samples)
        images = self.images[indices][:, None]
        if self.shift or self.image_size != images.shape[-1]:
            moves = uniforms(samples, 2, seed=seed, epoch=epoch)
            images = _resampled(images, self.image_size, self.shift * torch.from_numpy(moves).float())
        return pinned(images.expand(-1, 3, -1, -1).contiguous()), pinned(self.labels[indices])


class DigitsLoader(Order):
    """Batches of digits, the same for any number of threads, ranks or restarts.

    Args:
        digits: The digits.
        workers: Threads; 0 makes them in the thread that asks.
        order: What `Order` takes.
    """

    def __init__(
        self, digits: Digits, *, workers: int, batch_size: int, shuffle: bool, seed: int, rank: int, world: int
    ):
        super().__init__(len(digits.labels), batch_size=batch_size, shuffle=shuffle, seed=seed, rank=rank, world=world)
        self.digits, self.workers, self.labels = digits, workers, digits.labels

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # The body runs at the first batch, not here: Lightning calls iter() before it says which epoch it is.
        epoch, first = self.epoch, self.begin()
        order = self.order(epoch)
        samples = (self.batch_of(order, batch) for batch in range(first, len(self)))

        def make(samples: np.ndarray) -> tuple[Tensor, Tensor]:
            return self.digits.batch(samples, seed=self.seed, epoch=epoch)

        batches = (
            in_order(make, samples, workers=self.workers, ahead=2 * self.workers)
            if self.workers
            else map(make, samples)
        )
        for batch in batches:
            self._done += 1
            yield batch


def _resampled(images: Tensor, side: int, moves: Tensor) -> Tensor:
    """Move the images (B, 1, H, W) by moves (B, 2), shares of the side, and resample them to (B, 1, side, side)."""
    batch = len(images)
    transforms = torch.eye(2, 3).repeat(batch, 1, 1)
    transforms[:, :, 2] = 2 * moves  # grid coordinates run from -1 to 1
    grid = F.affine_grid(transforms, [batch, 1, side, side], align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False).round().to(torch.uint8)
