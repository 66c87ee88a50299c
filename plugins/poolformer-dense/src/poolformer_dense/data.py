"""Images and masks: shapes made by a seed, folders of your own, and Pascal VOC."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.datasets import VOCSegmentation
from torchvision.transforms import v2

from poolformer.errors import DataError

from .loading import DenseModule, pixels_of
from .segmenter import IGNORED
from .shapes import CLASSES, Shapes

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
Sample = tuple[Tensor, Tensor]


class MaskModule(DenseModule):
    """A data module of images and masks; what inherits it says which, in `train_set` and `val_set`.

    Args:
        batch_size: Images a device and step.
        num_workers: Processes that load.
    """

    @staticmethod
    def labels_of(batch: Sample) -> Tensor:
        """Return the classes of all pixels that have one."""
        return batch[1][batch[1] != IGNORED]


class ShapesData(MaskModule):
    """Discs, squares and crosses before a noisy background, made by a seed: four classes, no download.

    Args:
        train: Images to train on.
        val: Images to validate on.
        image_size: Their side in pixels.
        batch_size: Images a device and step.
        num_workers: Processes that load.
        data_seed: Of the images.
    """

    class_names = ("background", *CLASSES)

    def __init__(
        self,
        train: int = 2000,
        val: int = 200,
        image_size: int = 64,
        batch_size: int = 16,
        num_workers: int = 0,
        data_seed: int = 0,
    ):
        super().__init__(batch_size, num_workers)
        self.save_hyperparameters(logger=False)

    def train_set(self) -> Dataset[Sample]:
        """Return the first shapes."""
        return Shapes(range(self.hparams.train), self.hparams.image_size, self.hparams.data_seed)

    def val_set(self) -> Dataset[Sample]:
        """Return those after them."""
        numbers = range(self.hparams.train, self.hparams.train + self.hparams.val)
        return Shapes(numbers, self.hparams.image_size, self.hparams.data_seed)


class FolderMasks(MaskModule):
    """Folders with ``images/NAME.jpg`` and ``masks/NAME.png``, whose levels are the numbers of classes, 255 for none.

    Args:
        train: Folder to train on.
        val: Folder to validate on.
        image_size: Side of the crops in pixels.
        batch_size: Images a device and step.
        num_workers: Processes that load.
    """

    def __init__(self, train: str, val: str, image_size: int = 512, batch_size: int = 4, num_workers: int = 2):
        super().__init__(batch_size, num_workers)
        self.save_hyperparameters(logger=False)

    def train_set(self) -> Dataset[Sample]:
        """Return random crops."""
        return _Pairs(_pairs(Path(self.hparams.train)), _crops(self.hparams.image_size))

    def val_set(self) -> Dataset[Sample]:
        """Return whole images, resized and cut in the middle."""
        return _Pairs(_pairs(Path(self.hparams.val)), _middle(self.hparams.image_size))


class VOCData(MaskModule):
    """Pascal VOC's segmentation, 20 classes and the background, from the folder that holds ``VOCdevkit``.

    Args:
        root: That folder.
        year: Of the challenge.
        image_size: Side of the crops in pixels.
        batch_size: Images a device and step.
        num_workers: Processes that load.
    """

    def __init__(self, root: str, year: str = "2012", image_size: int = 512, batch_size: int = 4, num_workers: int = 2):
        super().__init__(batch_size, num_workers)
        self.save_hyperparameters(logger=False)

    def train_set(self) -> Dataset[Sample]:
        """Return random crops of the challenge's own list."""
        return self._listed("train", _crops(self.hparams.image_size))

    def val_set(self) -> Dataset[Sample]:
        """Return whole images of the other list, resized and cut in the middle."""
        return self._listed("val", _middle(self.hparams.image_size))

    def _listed(self, split: str, transform: v2.Transform) -> Dataset[Sample]:
        root, year = self.hparams.root, self.hparams.year
        try:
            voc = VOCSegmentation(root, year=year, image_set=split)
        except (RuntimeError, OSError, ValueError) as error:
            raise DataError(f"{root} has no VOCdevkit of {year} with '{split}': {error}") from error
        return _Pairs([(Path(image), Path(mask)) for image, mask in zip(voc.images, voc.masks, strict=True)], transform)


class _Pairs(Dataset[Sample]):
    def __init__(self, files: list[tuple[Path, Path]], transform: v2.Transform):
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file, mask = self.files[index]
        image, levels = tv_tensors.Image(pixels_of(file)), tv_tensors.Mask(_levels(mask))
        if image.shape[1:] != levels.shape:
            raise DataError(f"{mask} is {tuple(levels.shape)[::-1]} pixels, its image {tuple(image.shape[1:])[::-1]}")
        image, levels = self.transform(image, levels)
        return image.as_subclass(Tensor), levels.as_subclass(Tensor)


def _crops(side: int) -> v2.Transform:
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
    return v2.Compose(
        [
            v2.ScaleJitter((side, side), (0.5, 2.0)),
            v2.RandomCrop(side, pad_if_needed=True, fill=fill),
            v2.RandomHorizontalFlip(),
        ]
    )


def _middle(side: int) -> v2.Transform:
    return v2.Compose([v2.Resize(side), v2.CenterCrop(side)])


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    images = sorted(file for file in (folder / "images").glob("*") if file.suffix.lower() in _IMAGES)
    if not images:
        raise DataError(f"{folder}: there are no images/NAME.jpg in it, beside masks/NAME.png")
    masks = [folder / "masks" / f"{image.stem}.png" for image in images]
    lacking = [mask for mask in masks if not mask.is_file()]
    if lacking:
        raise DataError(f"{lacking[0]}: there is no such mask ({len(lacking)} of {len(images)} are lacking)")
    return list(zip(images, masks, strict=True))


def _levels(file: Path) -> Tensor:
    """Return the levels of a mask, int64 (H, W)."""
    try:
        with Image.open(file) as mask:
            if mask.mode not in ("L", "P", "1"):
                raise DataError(f"{file} is {mask.mode}: the levels of a grey or palette image are the classes")
            return torch.from_numpy(np.array(mask, np.int64))
    except (OSError, SyntaxError) as error:  # Pillow says of a damaged PNG that its syntax is wrong
        raise DataError(f"{file} cannot be read: {error}") from error
