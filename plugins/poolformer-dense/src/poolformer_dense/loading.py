"""What the data modules of this package share: their loaders, and how the file of an image is read."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from poolformer.data.class_folders import read_file
from poolformer.data.pixels.jpeg import decode_upright, to_pixels
from poolformer.errors import ConfigError, DataError


class DenseModule(pl.LightningDataModule):
    """A data module of two data sets; what inherits it says which, in `train_set` and `val_set`.

    Args:
        batch_size: Images a device and step.
        num_workers: Processes that load; the data sets must be picklable, since some systems start these by spawning.
    """

    class_names: tuple[str, ...] = ()
    """As many as the model has classes; none where the data have no names."""
    collate: Callable[[list[Any]], Any] | None = None
    """Makes a batch of samples; None for stacking them."""
    val_batch_size: int | None = None
    """Images a device and step of an evaluation; None for as many as in a training."""

    def __init__(self, batch_size: int, num_workers: int):
        super().__init__()
        self.batch_size, self.num_workers = batch_size, num_workers

    def train_set(self) -> Dataset[Any]:
        """Return what to train on; asked for by ``fit`` alone."""
        raise ConfigError(f"{type(self).__name__} has to say what its images are, in train_set()")

    def val_set(self) -> Dataset[Any]:
        """Return what to validate on."""
        raise ConfigError(f"{type(self).__name__} has to say what its images are, in val_set()")

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self._train = self.train_set()
        self._val = self.val_set()
        names, num_classes = self.class_names, self._num_classes()
        if names and num_classes and len(names) != num_classes:
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise DataError(f"the data have {len(names)} classes ({shown}), and --model.num_classes is {num_classes}")

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(self._train, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any]:
        ranks, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        if len(self._val) < ranks:
            raise DataError(f"{len(self._val)} images to evaluate among {ranks} processes: lower --trainer.devices")
        sampler = EachOnce(self._val, ranks, rank) if ranks > 1 else None
        return self._loader(self._val, self.val_batch_size or self.batch_size, sampler=sampler)

    test_dataloader = predict_dataloader = val_dataloader

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Check the classes of a batch while it is on the CPU: on a GPU the loss would end the process, not say why."""
        num_classes, labels = self._num_classes(), self.labels_of(batch)
        if num_classes and labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
            wrong = int(labels.max()) if int(labels.max()) >= num_classes else int(labels.min())
            raise DataError(f"the data have a class {wrong}, and --model.num_classes is {num_classes}, counted from 0")
        return batch

    @staticmethod
    def labels_of(batch: Any) -> Tensor:
        """Return all classes of a batch, as int64 of one axis."""
        raise ConfigError("a data module has to say what the classes of a batch are, in labels_of()")

    def _num_classes(self) -> int | None:
        return self.trainer.lightning_module.hparams.num_classes if self.trainer else None

    def _loader(self, data: Dataset[Any], size: int, **options: Any) -> DataLoader[Any]:
        workers = self.num_workers
        ranks = self.trainer.world_size if self.trainer else 1
        each = -(-len(data) // ranks)  # Lightning's sampler repeats images until all ranks have as many
        if options.get("drop_last") and each < size:
            among = f" among {ranks} processes" if ranks > 1 else ""
            raise DataError(f"{len(data)} images to train on{among} are no batch of {size}: lower --data.batch_size")
        return DataLoader(
            data,
            batch_size=size,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=self.collate,
            **options,
        )


class EachOnce(DistributedSampler[Any]):
    """Deals images to processes, each to one: Lightning's repeats some, and a metric would count them twice.

    Processes differ by an image, and so by a batch: no step of an evaluation waits for the others'.

    Args:
        data: The images, as many as processes at least.
        ranks: Number of processes.
        rank: Number of this one.
    """

    def __init__(self, data: Dataset[Any], ranks: int, rank: int):
        super().__init__(data, ranks, rank, shuffle=False)
        self._own = range(rank, len(data), ranks)

    def __iter__(self) -> Iterator[int]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


def pixels_of(file: Path) -> Tensor:
    """Return the image of a file as poolformer reads images: uint8 (3, H, W), grey of 16 bits by its upper 8.

    It is turned as its EXIF orientation says, as by mmcv: who draws boxes and masks sees it so.

    Raises:
        DataError: It is not there, no image, or cut off.
    """
    return torch.from_numpy(to_pixels(decode_upright(read_file(str(file)), str(file))[0])).permute(2, 0, 1).contiguous()
