"""How far an evaluation is, in lines of a log file: validate, test, predict, and the long validations of a training."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from ..data.pace import Pace
from .epoch_lines import EVERY_S, clock_time, has_shown_bar, print_line


class EvaluationLines(Callback):
    """Prints how much is evaluated and how long the rest takes, where no progress bar shows it.

    After a few seconds and then every half minute; while something is trained, every three minutes.

    Args:
        clock: Seconds, as of `time.monotonic`.
    """

    _start_s: float
    _pace: Pace

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock

    def _begin(self, trainer: pl.Trainer) -> None:
        slow = {"first_s": EVERY_S, "every_s": EVERY_S} if trainer.state.fn == "fit" else {}
        self._pace, self._start_s = Pace(clock=self._clock, **slow), self._clock()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(trainer)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(trainer)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not trainer.sanity_checking:
            self._count(trainer, "validated", batch_idx + 1, trainer.num_val_batches)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._count(trainer, "tested", batch_idx + 1, trainer.num_test_batches)

    def on_predict_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._count(trainer, "predicted", batch_idx + 1, trainer.num_predict_batches)

    def _count(self, trainer: pl.Trainer, work: str, done: int, batches: Sequence[int | float]) -> None:
        total = sum(batches)
        if not trainer.is_global_zero or has_shown_bar(trainer) or done >= total or not self._pace.is_due():
            return
        if total == float("inf"):
            print_line(trainer, f"{work} {done:,} batches")
            return
        left_s = (self._clock() - self._start_s) / done * (total - done)
        print_line(trainer, f"{work} {done:,} of {total:,} batches  {clock_time(left_s)} left")
