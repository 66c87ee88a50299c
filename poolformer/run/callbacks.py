"""What Lightning lacks for a run: throughput."""

import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

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
