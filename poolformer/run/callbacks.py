"""What Lightning lacks for a run: throughput, predictions as a file."""

import csv
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import BasePredictionWriter, Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from ..files.atomic_write import atomic_write
from .lightning_internals import is_logging_point


class Throughput(Callback):
    """Logs ``throughput/images_per_s``: training images of all devices a second, loading included.

    Taken over the steps since the last point in the same epoch; evaluation does not count.

    Attributes:
        images: Training images of the whole run, restarts included: checkpoints keep the count.
        steps_s: Seconds that their steps took, loading included.
    """

    _last_s: float
    _window_s: float

    def __init__(self) -> None:
        self.images, self.steps_s = 0, 0.0
        self._before_s = 0.0  # of training, before this start
        self._started_s: float | None = None
        self._ended_s: float | None = None

    @property
    def train_s(self) -> float:
        """Seconds of training, evaluation and checkpoints included, restarts added up."""
        if self._started_s is None:
            return self._before_s
        return self._before_s + (self._ended_s or time.perf_counter()) - self._started_s

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images, "steps_s": self.steps_s, "train_s": self.train_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images, self.steps_s = state_dict["images"], state_dict["steps_s"]
        self._before_s = state_dict["train_s"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started_s = time.perf_counter()
        self._restart()  # a run that is resumed inside an epoch does not start one

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ended_s = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now_s, images = time.perf_counter(), len(batch[0]) * trainer.world_size
        self.images += images
        self.steps_s += now_s - self._last_s
        self._last_s = now_s
        self._window += images
        if is_logging_point(trainer):
            # As a tensor of the host: of a number Lightning makes one on the device, for which the host would wait.
            rate = torch.tensor(self._window / (now_s - self._window_s))
            pl_module.log("throughput/images_per_s", rate, batch_size=len(batch[0]))
            self._restart()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart()

    def _restart(self) -> None:
        self._window = 0
        self._window_s = self._last_s = time.perf_counter()


class PredictionWriter(BasePredictionWriter):
    """Writes ``predictions.csv`` in the run's directory: image, then the likeliest classes.

    It appears when it is complete; until then an earlier one stays. With several devices each writes a file of its
    own, with its rank in the name.

    Args:
        top_k: Classes an image, likeliest first.
    """

    def __init__(self, top_k: int = 5):
        super().__init__(write_interval="batch")
        self.top_k = top_k
        self._stack, self._written = ExitStack(), 0

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rank = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        self.path = Path(trainer.default_root_dir) / f"predictions{rank}.csv"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stack, self._written = ExitStack(), 0
        # Names of files are bytes: those that are not UTF-8 come out as they are, too.
        as_bytes = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
        self._rows = csv.writer(self._stack.enter_context(atomic_write(self.path, "w", **as_bytes)))
        top_k = range(1, min(self.top_k, pl_module.hparams.num_classes) + 1)
        self._rows.writerow(["image", *(f"{column}_{k}" for k in top_k for column in ("class", "probability"))])

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        classifier: Any = pl_module
        images = getattr(trainer.datamodule, "predict_names", None)
        if not batch_indices:  # Lightning knows them of PyTorch's own loader only
            batch_indices = self._indices(trainer.predict_dataloaders, batch_idx, len(prediction))
        top = prediction.topk(min(self.top_k, prediction.shape[1]))
        for index, values, labels in zip(batch_indices, top.values.tolist(), top.indices.tolist(), strict=True):
            row = [images[index] if images else index]
            for value, label in zip(values, labels, strict=True):
                row += [classifier.class_name(label), f"{value:.6f}"]
            self._rows.writerow(row)

    def _indices(self, loader: Any, batch_idx: int, count: int) -> Sequence[int]:
        """Number the images of a batch: as our own loaders say, in the order of any other."""
        if hasattr(loader, "batch_indices"):
            return loader.batch_indices(batch_idx)
        self._written, first = self._written + count, self._written
        return range(first, first + count)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stack.close()
        rank_zero_info(f"Predictions: {self.path}")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stack.__exit__(type(exception), exception, exception.__traceback__)
