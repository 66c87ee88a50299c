"""Images and masks: shapes made by a seed, folders of your own, and Pascal VOC."""

from collections.abc import Callable
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

from .loading import DenseModule, opened
from .segmenter import IGNORED
from .shapes import CLASSES, Shapes

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
Sample = tuple[Tensor, Tensor]


class MaskModule(DenseModule):
    """A data module of images and masks; what inherits it says which, in `datasets`.

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

    num_classes = 4
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

    def datasets(self) -> tuple[Dataset[Sample], Dataset[Sample]]:
        """Return the shapes; none is in both."""
        options = self.hparams
        first = options.train
        return (
            Shapes(range(first), options.image_size, options.data_seed),
            Shapes(range(first, first + options.val), options.image_size, options.data_seed),
        )


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
        self._pairs = _pairs(Path(train)), _pairs(Path(val))

    def datasets(self) -> tuple[Dataset[Sample], Dataset[Sample]]:
        """Return random crops to train on, and whole images, resized and cut in the middle, to validate on."""
        train, val = self._pairs
        return (
            _Transformed(len(train), lambda index: _opened(*train[index]), _crops(self.hparams.image_size)),
            _Transformed(len(val), lambda index: _opened(*val[index]), _middle(self.hparams.image_size)),
        )


class VOCData(MaskModule):
    """Pascal VOC's segmentation, 20 classes and the background, from the folder that holds ``VOCdevkit``.

    Args:
        root: That folder.
        year: Of the challenge.
        image_size: Side of the crops in pixels.
        batch_size: Images a device and step.
        num_workers: Processes that load.
    """

    num_classes = 21

    def __init__(self, root: str, year: str = "2012", image_size: int = 512, batch_size: int = 4, num_workers: int = 2):
        super().__init__(batch_size, num_workers)
        self.save_hyperparameters(logger=False)

    def datasets(self) -> tuple[Dataset[Sample], Dataset[Sample]]:
        """Return torchvision's data sets of the challenge's own lists."""
        options, found = self.hparams, []
        for split, transform in (("train", _crops(options.image_size)), ("val", _middle(options.image_size))):
            try:
                voc = VOCSegmentation(options.root, year=options.year, image_set=split)
            except (RuntimeError, OSError, ValueError) as error:
                raise DataError(f"{options.root} has no VOCdevkit of {options.year}: {error}") from error
            found.append(_Transformed(len(voc), voc.__getitem__, transform))
        return found[0], found[1]


class _Transformed(Dataset[Sample]):
    def __init__(self, length: int, pair: Callable[[int], tuple[Image.Image, Image.Image]], transform: v2.Transform):
        self.length, self.pair, self.transform = length, pair, transform

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        image, mask = self.pair(index)
        levels = tv_tensors.Mask(torch.from_numpy(np.array(mask, np.int64)))
        image, levels = self.transform(tv_tensors.Image(image.convert("RGB")), levels)
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


def _opened(file: Path, mask_file: Path) -> tuple[Image.Image, Image.Image]:
    image, mask = opened(file), opened(mask_file)
    if image.size != mask.size:
        raise DataError(f"{mask_file} is {mask.size} pixels, its image {image.size}")
    if mask.mode not in ("L", "P", "1"):
        raise DataError(f"{mask_file} is {mask.mode}: the levels of a grey or palette image are the classes")
    return image, mask
