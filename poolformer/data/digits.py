"""scikit-learn's handwritten digits: 1797 images inside the wheel, so that a first run needs no download."""

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

_SPLIT_SEED = 0
_VAL_SHARE = 0.2


class DigitsData(pl.LightningDataModule):
    """Handwritten digits of 8 by 8 pixels, the embedded default: 1437 to train on, 360 to validate.

    Args:
        batch_size: Images a device and step.
        image_size: Side in pixels; the images are 8 by 8 and are enlarged where it is more.
        shift: Training images are moved along each axis by up to this share of their side.
        num_workers: Processes that load; 0 loads in the training process, which is fastest here.

    Attributes:
        num_classes: 10.
        class_names: "0" to "9".
    """

    def __init__(self, batch_size: int = 64, image_size: int = 8, shift: float = 0.125, num_workers: int = 0):
        super().__init__()
        self.save_hyperparameters()
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
        train, val = train_test_split(
            range(len(labels)), test_size=_VAL_SHARE, random_state=_SPLIT_SEED, stratify=labels
        )
        size = self.hparams.image_size
        self._train = Digits(images[train], labels[train], image_size=size, shift=self.hparams.shift)
        self._val = Digits(images[val], labels[val], image_size=size, shift=0)

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches of uint8 (B, 3, H, W) and int64 (B,)."""
        return self._loader(self._train, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """Every validation digit once, in order."""
        return self._loader(self._val)

    test_dataloader = predict_dataloader = val_dataloader

    def _loader(self, dataset: Dataset, **options: bool) -> DataLoader:
        # Keyword, not position: Lightning rebuilds the predict loader from its keywords.
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            num_workers=self.hparams.num_workers,
            collate_fn=_as_it_is,
            **options,
        )


class Digits(Dataset):
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

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        # The whole batch at once: Python for each image would cost more than the training step.
        images = self.images[indices][:, None]
        if self.shift or self.image_size != images.shape[-1]:
            images = _resampled(images, self.image_size, self.shift)
        return images.expand(-1, 3, -1, -1).contiguous(), self.labels[indices]


def _resampled(images: Tensor, side: int, shift: float) -> Tensor:
    """Move each of the images (B, 1, H, W) by its own fraction and resample them to (B, 1, side, side)."""
    batch = len(images)
    # Grid coordinates run from -1 to 1, so a share of the side is twice that.
    moves = (4 * torch.rand(batch, 2) - 2) * shift
    transforms = torch.eye(2, 3).repeat(batch, 1, 1)
    transforms[:, :, 2] = moves
    grid = F.affine_grid(transforms, [batch, 1, side, side], align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False).round().to(torch.uint8)


def _as_it_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch
