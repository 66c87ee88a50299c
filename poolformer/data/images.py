"""What the data modules of images share: the recipe's options, the loaders, the checks. Not where images come from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch.distributed
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from .. import option_ranges
from ..counts import counted
from ..errors import ConfigError, DataError
from ..files.paths import is_url
from . import label_map as label_maps
from .beton_set import Given, as_text, shown
from .growth import Growth, check_growth, side_at
from .held_out import Part, Parts, hold_out
from .loader import Loader, UnaugmentedBatch
from .pages import Pages
from .pixels.device_augment import augment, check_device
from .pixels.transforms import EvalTransform, TrainTransform
from .seeding import SeededDataModule
from .sources import Source
from .threads import available_cores, loader_threads, share_of_cores

UNLABELLED = -1

# Looked up, not taken from the stage: that of a trainer is an enum which messages would show as TrainerFn.PREDICTING.
_SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}
_ALL = ("train", "val", "test", "predict")


class ImageData(SeededDataModule, ABC):
    """Images with the transforms of the paper's recipe, which are timm's to the last bit.

    Training: random resized crop, flip, RandAugment. Evaluation: bicubic resize of the short side to
    image_size / crop_pct, then the centre. Order and augmentation of a sample depend on the seed, the epoch and the
    sample alone.

    Args:
        train: Images to train on.
        val: Images to validate on.
        test: Images to test on; those of `val` where not given.
        predict: Images to predict, labelled or not; those of `val` where not given.
        batch_size: Images a device and step.
        image_size: Side of the images in pixels, as the network sees them.
        crop_pct: Share of the resized short side that the evaluation crop keeps; the paper's is 0.9,
            0.95 for its M sizes.
        auto_augment: RandAugment policy in timm's notation; null turns it off.
        augment_on: Where RandAugment happens: host, in the loading threads, or device, on the GPU that trains, for
            machines with few cores a GPU. The pixels are the same.
        hflip: Probability of mirroring a training image.
        scale: Smallest and largest share of the image's area in a training crop.
        ratio: Smallest and largest width / height of a training crop.
        interpolation: Filter of training crops and geometric augmentation: bilinear, bicubic, or random for either.
        growth: Smaller training images early, such as {first: 160, last: 192, start_epoch: 11, end_epoch: 13};
            evaluation keeps image_size. null: image_size throughout.
        seed: Seed of order and augmentation; null for that of --seed_everything.
        num_workers: Threads that decode and transform; null for all cores of this process.
        on_error: What to do at an image that cannot be read: fail, or skip it, counted. In training the next one by
            number stands in for it, in evaluation it is left out.
        orient: Turn images as EXIF says; a .beton has to be packed so. ImageNet, timm and torchvision ignore it.
        order: Of the training images: random, or by pages, for a .beton larger than memory on a disk that is slow at
            places far apart: the file is read in windows of up to 1 GiB, whose images are mixed.
        val_share: Share of the images of `train` that are held out to validate on, in place of `val`: of each class
            alike, and the same in every run.
        tune_share: Share of the images left to train on that are held out to choose options by: validated on in place
            of `val`, or of the part that `val_share` holds out, which stay unseen.
        pad: Pixels of black around a training image, resized whole to image_size, from which the crop is cut in place
            of one by scale and ratio: 4 is usual for CIFAR. 0: by scale and ratio.
        label_map: To evaluate a network of ImageNet-1k: subset (ImageNet-A, -R), logits of classes that the data does
            not have do not count; numbers (-V2), folders are numbers of classes; or ReaL's JSON of right labels.

    Attributes:
        class_names: Names of the classes in the order of the labels; None where the data has no names.
        num_classes: How many classes there are; None before `setup`, and where nothing has labels.
        predict_class_names: Names of the labels of the images to predict, where these have both.
        turns: Whether the images are turned as EXIF says: by `orient`, or when a .beton was packed.
        right_labels: Of the samples that are evaluated by a list of them, int64 (N, R).
    """

    def __init__(
        self,
        train: list[str] | str | None = None,
        val: list[str] | str | None = None,
        test: list[str] | str | None = None,
        predict: list[str] | str | None = None,
        batch_size: int = 128,
        image_size: int = 224,
        crop_pct: float = 0.9,
        auto_augment: str | None = "rand-m9-mstd0.5-inc1",
        augment_on: Literal["host", "device"] = "host",
        hflip: float = 0.5,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: Literal["random", "bilinear", "bicubic"] = "random",
        growth: Growth | None = None,
        seed: int | None = None,
        num_workers: int | None = None,
        orient: bool = False,
        on_error: Literal["fail", "skip"] = "fail",
        order: Literal["random", "pages"] = "random",
        val_share: float | None = None,
        tune_share: float | None = None,
        pad: int = 0,
        label_map: str | None = None,
    ) -> None:
        super().__init__(seed)
        self.save_hyperparameters()
        for split in _ALL:
            self.hparams[split] = as_text(self.hparams[split])
        self.batch_size = batch_size
        option_ranges.check_images(self.hparams)
        self._evaluate = EvalTransform(image_size=image_size, crop_pct=crop_pct)
        if growth is not None:
            check_growth(growth)
        self._train_transform(epoch=0)  # impossible options are found now
        self.class_names: list[str] | None = None
        self.num_classes: int | None = None
        self.predict_class_names: list[str] | None = None
        self.turns = orient
        self.right_labels: Tensor | None = None
        self._sources: dict[str, Source | Part] = {}
        self._parts: Parts | None = None
        self._cores = available_cores()

    @property
    def predict_names(self) -> Sequence[str] | None:
        """Paths of the images to predict, in the order of the batches; None where they have no files.

        Of a part of a file it is their numbers in it.
        """
        return getattr(self._sources.get("predict"), "paths", None)

    @abstractmethod
    def open_images(self, path: Given, *, labelled: bool) -> tuple[Source, list[str] | None]:
        """Open what stands at `path`, or at a list of paths: (samples, class names or None).

        Raises:
            DataError: There is nothing.
        """

    def setup(self, stage: str) -> None:
        """Open what a stage needs.

        Raises:
            DataError: It is not given, missing or damaged, or its classes do not fit together.
            ConfigError: The device cannot augment, or both `val` and `val_share` are given to train.
        """
        label_maps.check(self.hparams, stage)
        if stage == "fit" and self.hparams.val and self.hparams.val_share is not None:
            raise ConfigError(
                f"--data.val '{shown(self.hparams.val)}' and --data.val_share {self.hparams.val_share:g} both say what "
                "to validate on: give one of them (null takes the other back)"
            )
        if stage == "fit" and self.hparams.augment_on == "device" and self.trainer is not None:
            check_device(self.trainer.strategy.root_device)
        if self.trainer is not None:  # together, before one of the processes may find no images
            self._cores = share_of_cores(self.trainer.num_devices)
        for split in _SPLITS[stage]:
            if split not in self._sources:
                self._open(split)

    def __getstate__(self) -> dict[str, Any]:
        # Open files are not for a process that is spawned, which opens its own.
        return {**self.__dict__, "_sources": {}, "_parts": None}

    def _pages(self, split: str) -> Pages | None:
        if split != "train" or self.hparams.order == "random":
            return None
        pages = self._sources[split].pages()
        if pages is None:
            raise ConfigError(
                f"--data.order pages: '{shown(self.hparams.train)}' is a folder, and only a .beton has pages"
            )
        return pages

    def train_dataloader(self) -> Loader:
        """Shuffled whole batches of uint8 (B, 3, H, W) and int64 (B,); an `UnaugmentedBatch` of augment_on='device'.

        Raises:
            DataError: There is not even one batch.
            ConfigError: Images that lie in no pages should be ordered by them.
        """
        loader = self._loader("train")
        if len(loader) == 0:
            everywhere = f" on each of {loader.world} devices" if loader.world > 1 else ""
            images, given = len(self._sources["train"].labels), shown(self.hparams.train)
            few = f"'{given}' has {counted(images, 'image')}, fewer than one batch of {self.batch_size}{everywhere}"
            raise DataError(f"{few}: lower --data.batch_size, for example to {max(1, images // loader.world // 4)}")
        return loader

    def val_dataloader(self) -> Loader:
        """Every validation image once, in order, as are those of `test` and `predict`.

        Raises:
            DataError: There are fewer images than devices.
        """
        return self._loader("val")

    def test_dataloader(self) -> Loader:
        """Every test image once, in order."""
        return self._loader("test")

    def predict_dataloader(self) -> Loader:
        """Every image to predict once, in order."""
        return self._loader("predict")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch; what was left to the device is done there, so that every model gets images and labels."""
        moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return (augment(moved.images, moved.draws), moved.labels) if isinstance(moved, UnaugmentedBatch) else moved

    def _train_transform(self, epoch: int) -> TrainTransform:
        options = self.hparams
        return TrainTransform(
            image_size=side_at(options.growth, epoch) if options.growth else options.image_size,
            seed=self.seed,
            scale=options.scale,
            ratio=options.ratio,
            hflip=options.hflip,
            interpolation=options.interpolation,
            auto_augment=options.auto_augment,
            augment_on=options.augment_on,
            pad=options.pad,
        )

    def _evaluation_transform(self, epoch: int) -> EvalTransform:
        return self._evaluate

    def given(self) -> dict[str, Given]:
        """Return what the options of a trainer's stage name; without a trainer, what all of them do."""
        stage = self.trainer and self.trainer.state.fn
        splits = _SPLITS[stage.value] if stage else _ALL
        given = map(self._given, [*splits, *(["train"] if self._is_of_a_part("train") else [])])
        return {
            option: path for option, path in given if path and (option == "train" or not self._is_of_a_part(option))
        }

    def _given(self, split: str) -> tuple[str, Given | None]:
        option = "val" if split in ("test", "predict") and not self.hparams[split] else split
        return option, self.hparams[option]

    def _open(self, split: str) -> None:
        option, given = self._given(split)
        if self._is_of_a_part(option):
            parts = self._parts = self._parts or self._hold_out()
            self._sources[split] = parts.train if option == "train" else parts.val
            return
        if not given:
            # Who trains has these; to evaluate on a part of them could be to evaluate on what was trained on.
            trains = split == "val" and "train" in self._sources
            held_out = ", or --data.val_share 0.2 to hold out a part of --data.train" if trains else ""
            raise DataError(f"{type(self).__name__} has no {split} images: pass --data.{split} PATH{held_out}")
        source, class_names = self._opened(option, labelled=split != "predict")
        if split == "predict":  # whose labels, if there are any, need not be the network's
            self.predict_class_names = class_names
        else:
            class_names = label_maps.class_names_of(self.hparams.label_map, class_names)
            self._compare_classes(shown(given), source, class_names)
            self.right_labels = label_maps.right_labels(self.hparams.label_map, getattr(source, "paths", None))
        self._sources[split] = source

    def _is_of_a_part(self, option: str) -> bool:
        if self.hparams.tune_share is not None:
            return option in ("train", "val")
        return self.hparams.val_share is not None and (option == "train" or (option == "val" and not self.hparams.val))

    def _hold_out(self) -> Parts:
        """Hold out the part to report on, if it is one, then of the rest the part to choose by, if there is to be."""
        path, parts = self.hparams.train, None
        shares = {name: self.hparams[name] for name in ("val_share", "tune_share") if self.hparams[name] is not None}
        if not path:
            raise DataError(
                f"--data.{next(iter(shares))} holds out a part of the training images: pass --data.train PATH"
            )
        opened, class_names = self._opened("train", labelled=True)
        self._compare_classes(shown(path), opened, class_names)
        for option, share in shares.items():
            left = parts.train if parts else opened
            parts = hold_out(left, share, path=shown(path), class_names=class_names, option=option)
        assert parts is not None
        rank_zero_info(parts.remark)
        return parts

    def _opened(self, option: str, *, labelled: bool) -> tuple[Source, list[str] | None]:
        given = self.hparams[option]
        try:
            return self.open_images(given, labelled=labelled)
        except DataError as error:
            # A checkpoint remembers paths as they were written, wherever the run was started.
            first = given if isinstance(given, str) else given[0]
            is_relative = not Path(first).expanduser().is_absolute() and not is_url(first)
            relative = is_relative and not Path(first).exists()
            where = f" (a relative path starts in '{Path.cwd()}')" if relative else ""
            raise DataError(f"--data.{option}: {error}{where}") from error

    def _compare_classes(self, given: str, source: Source, class_names: list[str] | None) -> None:
        highest = int(source.labels.max())
        if self.num_classes is None and highest >= 0:
            self.num_classes = len(class_names) if class_names else highest + 1
            self.class_names, self._classes_of = class_names, given
        if class_names and self.class_names and class_names != self.class_names:
            odd = sorted(set(class_names) ^ set(self.class_names))
            raise DataError(
                f"'{self._classes_of}' and '{given}' do not hold the same classes; {len(odd)} are in one of them "
                f"alone: {', '.join(odd[:5])}"
            )
        if self.num_classes is not None and 0 <= highest >= self.num_classes:
            raise DataError(
                f"'{given}', sample {int(source.labels.argmax())}: label {highest}, but there are only "
                f"{self.num_classes} classes (from '{self._classes_of}')"
            )

    def _loader(self, split: str) -> Loader:
        rank, world = _place_among_processes(self)
        loader = Loader(
            self._sources[split],
            self._train_transform if split == "train" else self._evaluation_transform,
            batch_size=self.batch_size,
            workers=loader_threads(self.hparams.num_workers, own_cores=self._cores),
            on_error=self.hparams.on_error,
            pages=self._pages(split),
            shuffle=split == "train",
            seed=self.seed,
            rank=rank,
            world=world,
        )
        loader.follow(self.trainer)
        return loader


def _place_among_processes(module: pl.LightningDataModule) -> tuple[int, int]:
    """Return (rank, processes)."""
    if module.trainer is not None:
        return module.trainer.global_rank, module.trainer.world_size
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
