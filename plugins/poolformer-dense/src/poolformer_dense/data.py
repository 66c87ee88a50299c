"""Images and masks: shapes made by a seed, folders of your own, ADE20K, and Pascal VOC."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import VOCSegmentation

from poolformer.errors import DataError

from .crops import IGNORED, to_train, to_validate
from .loading import DenseModule, pixels_of
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

    Both may lie in folders, such as ``images/town/NAME.jpg`` and ``masks/town/NAME.png``.

    Args:
        train: Folder to train on.
        val: Folder to validate on.
        image_size: Side of the crops in pixels, and shorter side of the images that are validated.
        keep_shape: Whether those keep their shape; false for squares, which some mixers need.
        batch_size: Images a device and step of a training; they are validated one by one.
        num_workers: Processes that load.
    """

    val_batch_size = 1

    def __init__(
        self,
        train: str,
        val: str,
        image_size: int = 512,
        keep_shape: bool = True,
        batch_size: int = 4,
        num_workers: int = 2,
    ):
        super().__init__(batch_size, num_workers)
        self.save_hyperparameters(logger=False)

    def train_set(self) -> Dataset[Sample]:
        """Return random crops."""
        return _to_train(self, _pairs(Path(self.hparams.train)))

    def val_set(self) -> Dataset[Sample]:
        """Return whole images, resized, with masks as they are."""
        return _to_validate(self, _pairs(Path(self.hparams.val)))


class ADE20KData(MaskModule):
    """ADE20K's 150 classes, with which the paper's table is made, from the folder that holds ``ADEChallengeData2016``.

    That is the archive of the scene parsing challenge (http://sceneparsing.csail.mit.edu), with 20,210 images to train
    on and 2,000 to validate on. The level 0 of its masks is no class, and 1 to 150 are the classes 0 to 149 here.

    Args:
        root: That folder.
        image_size: Side of the crops in pixels, and shorter side of the images that are validated.
        keep_shape: Whether those keep their shape; false for squares, which some mixers need.
        batch_size: Images a device and step of a training; the authors have 4 on each of 8. They are validated one by
            one.
        num_workers: Processes that load.
    """

    val_batch_size = 1

    def __init__(
        self, root: str, image_size: int = 512, keep_shape: bool = True, batch_size: int = 4, num_workers: int = 4
    ):
        super().__init__(batch_size, num_workers)
        self.save_hyperparameters(logger=False)

    def train_set(self) -> Dataset[Sample]:
        """Return random crops."""
        return _to_train(self, self._listed("training"), _levels_from_one)

    def val_set(self) -> Dataset[Sample]:
        """Return whole images, resized, with masks as they are."""
        return _to_validate(self, self._listed("validation"), _levels_from_one)

    def _listed(self, split: str) -> list[tuple[Path, Path]]:
        folder = Path(self.hparams.root, "ADEChallengeData2016")
        return _pairs(folder, f"images/{split}", f"annotations/{split}")


class VOCData(MaskModule):
    """Pascal VOC's segmentation, 20 classes and the background, from the folder that holds ``VOCdevkit``.

    Args:
        root: That folder.
        year: Of the challenge.
        image_size: Side of the crops in pixels, and shorter side of the images that are validated.
        keep_shape: Whether those keep their shape; false for squares, which some mixers need.
        batch_size: Images a device and step of a training; they are validated one by one.
        num_workers: Processes that load.
    """

    val_batch_size = 1

    def __init__(
        self,
        root: str,
        year: str = "2012",
        image_size: int = 512,
        keep_shape: bool = True,
        batch_size: int = 4,
        num_workers: int = 2,
    ):
        super().__init__(batch_size, num_workers)
        self.save_hyperparameters(logger=False)

    def train_set(self) -> Dataset[Sample]:
        """Return random crops of the challenge's own list."""
        return _to_train(self, self._listed("train"))

    def val_set(self) -> Dataset[Sample]:
        """Return whole images of the other list, resized, with masks as they are."""
        return _to_validate(self, self._listed("val"))

    def _listed(self, split: str) -> list[tuple[Path, Path]]:
        root, year = self.hparams.root, self.hparams.year
        try:
            voc = VOCSegmentation(root, year=year, image_set=split)
        except (RuntimeError, OSError, ValueError) as error:
            raise DataError(f"{root} has no VOCdevkit of {year} with '{split}': {error}") from error
        return [(Path(image), Path(mask)) for image, mask in zip(voc.images, voc.masks, strict=True)]


class _Pairs(Dataset[Sample]):
    def __init__(
        self,
        files: list[tuple[Path, Path]],
        transform: Callable[[Tensor, Tensor], Sample],
        levels: Callable[[Path], Tensor],
    ):
        self.files, self.transform, self.levels = files, transform, levels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file, mask = self.files[index]
        image, levels = pixels_of(file), self.levels(mask)
        if image.shape[1:] != levels.shape:
            raise DataError(f"{mask} is {tuple(levels.shape)[::-1]} pixels, its image {tuple(image.shape[1:])[::-1]}")
        return self.transform(image, levels)


def _levels(file: Path) -> Tensor:
    """Return the levels of a mask, int64 (H, W)."""
    try:
        with Image.open(file) as mask:
            if mask.mode not in ("L", "P", "1"):
                raise DataError(f"{file} is {mask.mode}: the levels of a grey or palette image are the classes")
            return torch.from_numpy(np.array(mask, np.int64))
    except (OSError, SyntaxError) as error:  # Pillow says of a damaged PNG that its syntax is wrong
        raise DataError(f"{file} cannot be read: {error}") from error


def _levels_from_one(file: Path) -> Tensor:
    """Return the classes of a mask in which they are counted from 1, and 0 is none."""
    levels = _levels(file)
    return torch.where((levels == 0) | (levels == IGNORED), IGNORED, levels - 1)


def _to_train(
    module: MaskModule, files: list[tuple[Path, Path]], levels: Callable[[Path], Tensor] = _levels
) -> Dataset[Sample]:
    return _Pairs(files, partial(to_train, module.hparams.image_size), levels)


def _to_validate(
    module: MaskModule, files: list[tuple[Path, Path]], levels: Callable[[Path], Tensor] = _levels
) -> Dataset[Sample]:
    return _Pairs(files, partial(to_validate, module.hparams.image_size, module.hparams.keep_shape), levels)


def _pairs(folder: Path, images: str = "images", masks: str = "masks") -> list[tuple[Path, Path]]:
    files = sorted(file for file in (folder / images).rglob("[!.]*") if file.suffix.lower() in _IMAGES)
    if not files:
        raise DataError(f"{folder}: there are no {images}/NAME.jpg in it, beside {masks}/NAME.png")
    levels = [folder / masks / file.relative_to(folder / images).with_suffix(".png") for file in files]
    lacking = [file for file in levels if not file.is_file()]
    if lacking:
        raise DataError(f"{lacking[0]}: there is no such mask ({len(lacking)} of {len(files)} are lacking)")
    return list(zip(files, levels, strict=True))
