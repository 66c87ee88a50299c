"""Class folders of images: ``train/<class>/<image>``, as ImageNet is unpacked."""

import os
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import DataError

UNLABELLED = -1


class FolderData(pl.LightningDataModule):
    """Images in class folders, with the transforms of the paper's recipe.

    Training: random resized crop (bilinear or bicubic at random), flip, RandAugment. Evaluation:
    bicubic resize of the short side to image_size / crop_pct, centre crop. Both are timm's.

    Args:
        train: Folder with one folder of images for each class.
        val: The same, for validation and testing.
        predict: Any folder of images, in classes or not; the validation images where it is not given.
        batch_size: Images a device and step.
        image_size: Side of the images in pixels, as the network sees them.
        crop_pct: Share of the resized short side that the evaluation crop keeps; the paper's is 0.9,
            0.95 for its M sizes.
        auto_augment: RandAugment policy in timm's notation; null turns it off.
        num_workers: Processes that load and transform; null for one a core, at most 16.

    Attributes:
        class_names: Names of the class folders in the order of the labels; None where images to
            predict lie in no class folders.
        num_classes: Their number, or None.
    """

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        predict: str | None = None,
        batch_size: int = 128,
        image_size: int = 224,
        crop_pct: float = 0.9,
        auto_augment: str | None = "rand-m9-mstd0.5-inc1",
        num_workers: int | None = None,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.batch_size = batch_size
        self.class_names: list[str] | None = None
        self._datasets: dict[str, ImageFiles] = {}

    @property
    def num_classes(self) -> int | None:
        return len(self.class_names) if self.class_names else None

    @property
    def predict_names(self) -> list[str]:
        """Paths of the images to predict, in the order of the batches."""
        return self._datasets["predict"].paths

    def setup(self, stage: str) -> None:
        """Index the folders that a stage needs.

        Raises:
            DataError: A folder is not given, missing or empty, or the classes of the two differ.
        """
        if stage == "predict":
            folder = self._folder("predict" if self.hparams.predict else "val")
            self._datasets["predict"] = ImageFiles(image_paths(folder), None, self._transform(training=False))
            return
        self.class_names = self._index("val")
        if stage == "fit":
            in_train = self._index("train")
            if in_train != self.class_names:
                odd = sorted(set(in_train) ^ set(self.class_names))
                raise DataError(
                    f"'{self.hparams.train}' and '{self.hparams.val}' do not hold the same classes; "
                    f"{len(odd)} are in one of them alone: {', '.join(odd[:5])}"
                )

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches of uint8 (B, 3, H, W) and int64 (B,).

        Raises:
            DataError: There is not even one batch.
        """
        dataset = self._datasets["train"]
        if len(dataset) < self.batch_size:
            raise DataError(
                f"'{self.hparams.train}' has {len(dataset)} images, fewer than one batch of {self.batch_size}: "
                "lower --data.batch_size"
            )
        return self._loader(dataset, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """Every validation image once, in order."""
        return self._loader(self._datasets["val"])

    def test_dataloader(self) -> DataLoader:
        """The validation images: the labels of ImageNet's test images are not public."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader:
        """Every image to predict once, in the order of the paths; all labels are -1."""
        return self._loader(self._datasets["predict"])

    def _folder(self, split: str) -> Path:
        given = getattr(self.hparams, split)
        if given is None:
            raise DataError(f"FolderData has no {split} images: pass --data.{split} DIR, a folder of class folders")
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise DataError(f"--data.{split}: there is no folder '{given}'")
        return folder

    def _index(self, split: str) -> list[str]:
        folder = self._folder(split)
        paths, labels, class_names = class_folders(folder)
        self._datasets[split] = ImageFiles(paths, labels, self._transform(training=split == "train"))
        return class_names

    def _transform(self, *, training: bool) -> Callable[[Image.Image], Tensor]:
        from timm.data import create_transform  # 4 s

        size, augment = self.hparams.image_size, self.hparams.auto_augment
        if training:
            return create_transform(
                size, is_training=True, auto_augment=augment, interpolation="random", color_jitter=None, normalize=False
            )
        return create_transform(size, crop_pct=self.hparams.crop_pct, interpolation="bicubic", normalize=False)

    def _loader(self, dataset: Dataset, **options: bool) -> DataLoader:
        workers = self.hparams.num_workers
        workers = min(os.cpu_count() or 1, 16) if workers is None else workers
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.accelerator.is_available(),
            **options,
        )


class ImageFiles(Dataset):
    """Image files, decoded and transformed one by one.

    Args:
        paths: Paths of the images.
        labels: Label of each, or None.
        transform: From a PIL image in RGB to uint8 (3, H, W).
    """

    def __init__(self, paths: list[str], labels: list[int] | None, transform: Callable[[Image.Image], Tensor]):
        self.paths, self.transform = paths, transform
        self.labels = labels or [UNLABELLED] * len(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.paths[index]
        try:
            with Image.open(path) as image:
                pixels = image.convert("RGB")
        except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
            raise DataError(f"'{path}' cannot be read as an image: {error}") from error
        return self.transform(pixels), self.labels[index]


def class_folders(folder: Path) -> tuple[list[str], list[int], list[str]]:
    """Return paths, labels and class names of a folder of class folders, sorted, as torchvision does.

    Raises:
        DataError: No class folders, or one without images.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset  # 1 s

    class_names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not class_names:
        raise DataError(f"'{folder}' has no class folders; images lie in '{folder}/<class>/<image>'")
    labels_by_name = {name: label for label, name in enumerate(class_names)}
    samples = make_dataset(str(folder), labels_by_name, extensions=IMG_EXTENSIONS, allow_empty=True)
    empty = sorted(set(range(len(class_names))) - {label for _, label in samples})
    if empty:
        raise DataError(
            f"'{folder}': {len(empty)} class folders have no images, the first is '{class_names[empty[0]]}'"
        )
    return [path for path, _ in samples], [label for _, label in samples], class_names


def image_paths(folder: Path) -> list[str]:
    """Return all image files below a folder, sorted.

    Raises:
        DataError: There are none.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS  # 1 s

    paths = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
    if not paths:
        raise DataError(f"there are no images below '{folder}'")
    return paths
