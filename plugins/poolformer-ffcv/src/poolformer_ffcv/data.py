"""The data module: ffcv's own loader over .beton files, with the user's pipelines in ffcv's terms."""

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numba
import torch.distributed
from lightning.pytorch.utilities import rank_zero_info

from poolformer import option_ranges
from poolformer.data.fetched import fetch
from poolformer.data.seeding import SeededDataModule
from poolformer.data.threads import available_cores, share_of_cores
from poolformer.errors import DataError
from poolformer.files.paths import is_url, without_scheme

from . import pipelines as ffcv_pipelines
from .file import BetonFile
from .loader import FFCVLoader

_RANGES = {
    "batch_size": option_ranges.COUNT,
    "image_size": option_ranges.SIDE,
    "batches_ahead": option_ranges.COUNT,
    "num_workers": option_ranges.COUNT_FROM_0,
}
_SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}


class FFCVLoaderData(SeededDataModule):
    """Images in .beton files, decoded and augmented by the package ffcv itself, with pipelines of its operations.

    Stock pipelines are those of ffcv-imagenet: random resized crop and flip in training, a centre crop of 224/256 in
    evaluation. They are not timm's pixels and have no RandAugment: FFCVData has. Crops and flips are drawn by ffcv and
    differ from run to run; which samples a batch holds depends on the seed and the epoch alone.

    A pipeline is a list of operations: a class path, or class_path and init_args. Names alone are ffcv's.

    Args:
        train: File to train on.
        val: File to validate on.
        test: File to test on; that of `val` where not given.
        predict: File to predict; that of `val` where not given.
        batch_size: Images a device and step.
        image_size: Side of the images in pixels, as stock pipelines make them and the network sees them.
        pipelines: Operations of training by field, such as {image: [...]}; null for stock ones.
        val_pipelines: The same for evaluation.
        order: Order of training samples; quasi_random reads page by page, for files larger than memory.
        os_cache: Whether the file is read through the system's cache; false for files larger than memory.
        custom_fields: Classes of fields that are not ffcv's own, by name of the field.
        indices: Numbers of the samples to train on; null for all.
        val_indices: Numbers of the samples to evaluate on; null for all.
        batches_ahead: Batches that are made in advance.
        image_field: Name of the field of images; null for the only one.
        label_field: Name of the field of labels; null for the only one of integers.
        seed: Seed of the order; null for that of --seed_everything.
        num_workers: Threads of ffcv; null for all cores of this process.

    Attributes:
        class_names: Names of the classes in the order of the labels; None where the file has no names.
        num_classes: How many classes there are; None before `setup`.
        images_are_normalised: Whether the pipeline of training normalises, so that the model does not.
    """

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        predict: str | None = None,
        batch_size: int = 128,
        image_size: int = 224,
        # Not of Any, for which jsonargparse would build the operations itself.
        pipelines: dict[str, list | None] | None = None,
        val_pipelines: dict[str, list | None] | None = None,
        order: Literal["random", "quasi_random", "sequential"] = "random",
        os_cache: bool = True,
        custom_fields: dict[str, str] | None = None,
        indices: list[int] | None = None,
        val_indices: list[int] | None = None,
        batches_ahead: int = 3,
        image_field: str | None = None,
        label_field: str | None = None,
        seed: int | None = None,
        num_workers: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.save_hyperparameters(ignore=["pipelines", "val_pipelines"])  # from Python they may hold objects
        self._written = {"pipelines": pipelines or {}, "val_pipelines": val_pipelines or {}}
        self.batch_size = batch_size
        option_ranges.check("data", self.hparams, _RANGES)
        self.class_names: list[str] | None = None
        self.num_classes: int | None = None
        built = [
            operation
            for option, fields in self._written.items()
            for field, written in fields.items()
            if written is not None
            for operation in ffcv_pipelines.built(written, f"--data.{option}.{field}")
        ]  # mistakes in them are found now
        self.images_are_normalised = any(isinstance(each, ffcv_pipelines.transforms.NormalizeImage) for each in built)
        self._files: dict[str, BetonFile] = {}
        self._loaders: dict[str, FFCVLoader] = {}
        self._cores = available_cores()

    def prepare_data(self) -> None:
        """Fetch what lies at URLs, in one process a node.

        Raises:
            DataError: It is not there, or may not be read.
        """
        for split in ("train", "val", "test", "predict"):
            if self.hparams[split] and is_url(self.hparams[split]):
                fetch(self.hparams[split], say=rank_zero_info)

    def setup(self, stage: str) -> None:
        """Open the files that a stage needs.

        Raises:
            DataError: One is not given, missing or damaged, or the classes do not fit together.
        """
        if self.trainer is not None:
            self._cores = share_of_cores(self.trainer.num_devices)
        for split in _SPLITS[stage]:
            if split not in self._files:
                self._open(split)

    def train_dataloader(self) -> FFCVLoader:
        """Whole batches of training samples, in the order that was asked for.

        Raises:
            DataError: There is not even one batch.
        """
        loader = self._loader("train")
        if len(loader) == 0:
            everywhere = f" on each of {loader.world} devices" if loader.world > 1 else ""
            raise DataError(
                f"'{self.hparams.train}' has {loader.samples} images, fewer than one batch of "
                f"{self.batch_size}{everywhere}: lower --data.batch_size"
            )
        return loader

    def val_dataloader(self) -> FFCVLoader:
        """Every validation sample once, in order, as are those of `test` and `predict`."""
        return self._loader("val")

    def test_dataloader(self) -> FFCVLoader:
        """Every test sample once, in order."""
        return self._loader("test")

    def predict_dataloader(self) -> FFCVLoader:
        """Every sample to predict once, in order."""
        return self._loader("predict")

    def _open(self, split: str) -> None:
        option = "val" if split in ("test", "predict") and not self.hparams[split] else split
        given, options = self.hparams[option], self.hparams
        if not given:
            raise DataError(f"{type(self).__name__} has no {split} images: pass --data.{split} FILE.beton")
        file = BetonFile(
            str(fetch(given, say=rank_zero_info)) if is_url(given) else without_scheme(given),
            custom_fields=options.custom_fields,
            image_field=options.image_field,
            label_field=options.label_field,
        )
        highest = int(file.labels.max())
        if self.num_classes is None and highest >= 0:
            self.class_names = file.class_names
            self.num_classes = len(file.class_names) if file.class_names else highest + 1
        if self.num_classes is not None and highest >= self.num_classes:
            raise DataError(f"'{given}' has the label {highest}, but there are only {self.num_classes} classes")
        self._files[split] = file

    def _loader(self, split: str) -> FFCVLoader:
        # Kept, as ffcv compiles for each of its loaders.
        rank, world = self._place_among_processes()
        loader = self._loaders.get(split)
        if loader is None or (loader.rank, loader.world, loader.seed) != (rank, world, self.seed):
            loader = self._loaders[split] = self._built(split, rank, world)
        loader.follow(self.trainer)
        return loader

    def _built(self, split: str, rank: int, world: int) -> FFCVLoader:
        options, training = self.hparams, split == "train"
        file = self._files[split]
        return FFCVLoader(
            file,
            partial(self._operations, file, training=training),
            order=options.order,
            indices=options.indices if training else options.val_indices,
            workers=self._workers(),
            os_cache=options.os_cache,
            batches_ahead=options.batches_ahead,
            batch_size=self.batch_size,
            shuffle=training,
            seed=self.seed,
            rank=rank,
            world=world,
        )

    def _operations(self, file: BetonFile, *, training: bool) -> Mapping[str, list[Any]]:
        """Build the operations of the two fields that are read; all others are left out."""
        option = "pipelines" if training else "val_pipelines"
        written = self._written[option]
        for field, each in written.items():
            if field not in file.fields:
                raise file.no_field(field, f"--data.{option}")
            if (each is None) == (field in (file.image_field, file.label_field)):
                said = "is null" if each is None else "is given"
                raise DataError(
                    f"--data.{option}.{field} {said}, but a batch is the fields '{file.image_field}' and "
                    f"'{file.label_field}'; --data.image_field and --data.label_field name others"
                )
        stock = {
            file.image_field: partial(ffcv_pipelines.stock_image, self.hparams.image_size, training=training),
            file.label_field: ffcv_pipelines.stock_label,
        }
        made = {
            field: ffcv_pipelines.built(written[field], f"--data.{option}.{field}") if field in written else make()
            for field, make in stock.items()
        }
        for field, operations in made.items():
            ffcv_pipelines.check_decoders(operations, file.decoders[field], f"--data.{option}.{field}")
        return made

    def _workers(self) -> int:
        asked, most = self.hparams.num_workers, min(available_cores(), numba.config.NUMBA_NUM_THREADS)
        if asked is None:
            return min(self._cores, most)
        if asked > most:
            warnings.warn(f"num_workers={asked}, but there are {most} cores: {most} threads it is", stacklevel=2)
        return max(1, min(asked, most))

    def _place_among_processes(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1
