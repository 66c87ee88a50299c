"""Images and masks: shapes made by a seed, folders of your own, ADE20K, and Pascal VOC."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import VOCSegmentation

from poolformer.data.class_folders import existing_folder, image_listing
from poolformer.errors import DataError

from .boxes import VOC_CLASSES
from .loading import DenseModule, pixels_of
from .scaling import IGNORED, to_train, to_validate
from .shapes import CLASSES, Shapes

_LOOKED_AT = 16  # masks of a folder, before a training
Sample = tuple[Tensor, Tensor]


class MaskModule(DenseModule):
    """A data module of images and masks; what inherits it says which, in `train_set` and `val_set`.

    Where images or masks differ in size, ``val_batch_size = 1`` in the class has them validated one by one.

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


class _Files(MaskModule):
    """Images and masks in files of any sizes: trained on in crops, validated whole, one by one."""

    val_batch_size = 1

    def train_set(self) -> Dataset[Sample]:
        """Return random crops."""
        return _Pairs(self.pairs("train"), partial(to_train, self.hparams.image_size), self.levels)

    def val_set(self) -> Dataset[Sample]:
        """Return whole images, resized, with masks as they are."""
        resize = partial(to_validate, self.hparams.image_size, self.hparams.keep_shape)
        return _Pairs(self.pairs("val"), resize, self.levels)

    def pairs(self, split: str) -> list[tuple[Path, Path]]:
        """Return the images of ``train`` or ``val``, each with its mask."""
        raise NotImplementedError

    @staticmethod
    def levels(file: Path) -> Tensor:
        """Return the classes of a mask, int64 (H, W)."""
        return _levels(file)


class FolderMasks(_Files):
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

    def pairs(self, split: str) -> list[tuple[Path, Path]]:
        """Return the images of a folder; warn where its masks have 255 for a class."""
        folder = self.hparams[split]
        files = _pairs(Path(folder).expanduser(), "images", "masks")
        some = [file for _, file in files[:: -(-len(files) // _LOOKED_AT)]]
        found = {level for file in some for level in _levels(file).unique().tolist()}
        if IGNORED in found and found <= {0, IGNORED}:
            rank_zero_warn(
                f"the masks of {folder} have no level but 0 and {IGNORED}, as far as {len(some)} of them tell: "
                f"a level is the number of a class, from 0 on, and {IGNORED} means none, so write 1 for a second class"
            )
        return files


class ADE20KData(_Files):
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

    def __init__(
        self, root: str, image_size: int = 512, keep_shape: bool = True, batch_size: int = 4, num_workers: int = 4
    ):
        super().__init__(batch_size, num_workers)
        self.save_hyperparameters(logger=False)

    def pairs(self, split: str) -> list[tuple[Path, Path]]:
        """Return the challenge's own images to train on or to validate on."""
        folder = Path(self.hparams.root).expanduser() / "ADEChallengeData2016"
        split = {"train": "training", "val": "validation"}[split]
        return _pairs(folder, f"images/{split}", f"annotations/{split}")

    @staticmethod
    def levels(file: Path) -> Tensor:
        """Return the classes of a mask in which they are counted from 1, and 0 is none."""
        levels = _levels(file)
        return torch.where((levels == 0) | (levels == IGNORED), IGNORED, levels - 1)


class VOCData(_Files):
    """Pascal VOC's segmentation, 20 classes and the background, from the folder that holds ``VOCdevkit``.

    Args:
        root: That folder.
        year: Of the challenge.
        image_size: Side of the crops in pixels, and shorter side of the images that are validated.
        keep_shape: Whether those keep their shape; false for squares, which some mixers need.
        batch_size: Images a device and step of a training; they are validated one by one.
        num_workers: Processes that load.
    """

    class_names = ("background", *VOC_CLASSES)

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

    def pairs(self, split: str) -> list[tuple[Path, Path]]:
        """Return the images of one of the challenge's own lists."""
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


def _pairs(folder: Path, images: str, masks: str) -> list[tuple[Path, Path]]:
    """Return each image below a folder with its mask, in the same place below another."""
    if not (existing_folder(folder) / images).is_dir():
        raise DataError(f"{folder}: there are no {images}/NAME.jpg in it, beside {masks}/NAME.png")
    places = [Path(*found.folders, found.name) for found in image_listing(folder / images).images]
    files = [(folder / images / place, folder / masks / place.with_suffix(".png")) for place in sorted(places)]
    lacking = [mask for _, mask in files if not mask.is_file()]
    if lacking:
        raise DataError(f"{lacking[0]}: there is no such mask ({len(lacking)} of {len(files)} are lacking)")
    return files


def _levels(file: Path) -> Tensor:
    """Return the levels of a mask, int64 (H, W)."""
    try:
        with Image.open(file) as mask:
            if mask.mode not in ("L", "P", "1"):
                raise DataError(
                    f"{file} is {mask.mode}: a mask is grey or has a palette, and its levels are the numbers of classes"
                )
            return torch.from_numpy(np.array(mask, np.int64))
    except (OSError, SyntaxError) as error:  # Pillow says of a damaged PNG that its syntax is wrong
        raise DataError(f"{file} cannot be read: {error}") from error
