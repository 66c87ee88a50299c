"""Images and masks: shapes made by a seed, folders of your own, and Pascal VOC."""

from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.datasets import VOCSegmentation
from torchvision.transforms import v2

from poolformer.errors import DataError

from .segmenter import IGNORED

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
Sample = tuple[Tensor, Tensor]


class MaskModule(pl.LightningDataModule):
    """A data module of images and masks; what inherits it says which, in `datasets`.

    Args:
        batch_size: Images a device and step.
        num_workers: Processes that load.
    """

    def __init__(self, batch_size: int, num_workers: int):
        super().__init__()
        self.batch_size, self.num_workers = batch_size, num_workers

    def datasets(self) -> tuple[Dataset[Sample], Dataset[Sample]]:
        """Return what to train on and what to validate on."""
        raise TypeError(f"{type(self).__name__} has to say what its images are, in datasets()")

    def setup(self, stage: str) -> None:
        self._train, self._val = self.datasets()

    def train_dataloader(self) -> DataLoader[Sample]:
        return self._loader(self._train, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader(self._val)

    test_dataloader = predict_dataloader = val_dataloader

    def _loader(self, data: Dataset[Sample], **options: bool) -> DataLoader[Sample]:
        workers = self.num_workers
        return DataLoader(
            data, batch_size=self.batch_size, num_workers=workers, persistent_workers=workers > 0, **options
        )


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
    class_names = ("background", "disc", "square", "cross")

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
        self.save_hyperparameters()

    def datasets(self) -> tuple[Dataset[Sample], Dataset[Sample]]:
        """Return the shapes; none is in both."""
        options = self.hparams
        first = options.train
        return (
            Shapes(range(first), options.image_size, options.data_seed),
            Shapes(range(first, first + options.val), options.image_size, options.data_seed),
        )


class Shapes(Dataset[Sample]):
    """Images uint8 (3, S, S) and masks int64 (S, S), each a function of the seed and its number."""

    def __init__(self, numbers: range, side: int, seed: int):
        self.numbers, self.side, self.seed = numbers, side, seed

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        draws = np.random.default_rng((self.seed, self.numbers[index]))
        side = self.side
        image, mask = draws.integers(0, 256, (side, side, 3)), np.zeros((side, side), np.int64)
        rows, columns = np.mgrid[:side, :side]
        for _ in range(draws.integers(1, 4)):
            shape, radius = draws.integers(1, 4), draws.integers(side // 8, side // 4)
            row, column = draws.integers(radius, side - radius, 2)
            down, right = abs(rows - row), abs(columns - column)
            inside = np.maximum(down, right) <= radius
            if shape == 1:
                inside = down**2 + right**2 <= radius**2
            elif shape == 3:
                inside &= np.minimum(down, right) <= radius // 3
            mask[inside] = shape
            image[inside] = image[inside] // 2 + draws.integers(0, 128, 3)
        return torch.from_numpy(image.astype(np.uint8)).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)


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
        self.save_hyperparameters()
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
        self.save_hyperparameters()

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


def _opened(image: Path, mask: Path) -> tuple[Image.Image, Image.Image]:
    found = []
    for file in (image, mask):
        try:
            opened = Image.open(file)
            opened.load()
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{file} cannot be read: {error}") from error
        found.append(opened)
    if found[0].size != found[1].size:
        raise DataError(f"{mask} is {found[1].size} pixels, its image {found[0].size}")
    if found[1].mode not in ("L", "P", "1"):
        raise DataError(f"{mask} is {found[1].mode}: the levels of a grey or palette image are the classes")
    return found[0], found[1]
