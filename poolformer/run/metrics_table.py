"""The metrics of a run as a table that a spreadsheet or pandas reads: ``metrics.csv``, a row an epoch."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from ..errors import describe
from ..files.atomic_write import atomic_write
from . import lightning_internals as internals
from .files import is_taken
from .metrics import numbers

NAME = "metrics.csv"


class MetricsTable(Callback):
    """Writes ``metrics.csv`` in the run's directory: epoch, steps so far, learning rate, then all metrics by name.

    Those of validation stand in the epochs that were validated, whatever they are called. A resumed run has
    the rows up to its checkpoint, and then its own. A file that cannot be written is warned of; the next epoch writes
    all of it. None is written in the place of somebody else's file, or of the one of a CSVLogger in that directory.
    """

    def __init__(self) -> None:
        self._has_place = False
        self._rows: list[dict[str, float]] = []
        self._validated: dict[str, float] = {}
        self._of_validation: set[str] = set()
        self._lr = 0.0

    def setup(self, trainer: Any, pl_module: pl.LightningModule, stage: str) -> None:
        # Behind all that log at the end of an epoch, and before the checkpoints, which have the rows.
        others = [each for each in trainer.callbacks if each is not self]
        checkpoints = [each for each in others if isinstance(each, Checkpoint)]
        trainer.callbacks = [*(each for each in others if each not in checkpoints), self, *checkpoints]

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        path = Path(trainer.default_root_dir) / NAME
        # Lightning's logger writes when it has gathered a hundred rows, and fails if it finds others in the file.
        if any(isinstance(each, CSVLogger) and _same(each.log_dir, path.parent) for each in trainer.loggers):
            return
        self._has_place = not is_taken(path)
        if not self._has_place:
            rank_zero_warn(f"'{path}' is not a run's table, and stays: this run writes none")

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [dict(row) for row in self._rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = [dict(row) for row in state_dict["rows"]]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        # At the end of an epoch the schedule has set the rate of the next.
        self._lr = float(max(group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._validated = _numbers(internals.validated(trainer, "callback"))
            self._of_validation |= self._validated.keys()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        logged = trainer.callback_metrics  # of validation the last, however long ago
        metrics = _numbers({name: value for name, value in logged.items() if name not in self._of_validation})
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": self._lr}
        # One that was stopped within this epoch has a row of it.
        self._rows = [row for row in self._rows if row["epoch"] != trainer.current_epoch]
        self._rows.append({**place, **self._validated, **metrics})
        self._validated = {}
        if self._has_place:
            self._write(Path(trainer.default_root_dir) / NAME)

    def _write(self, path: Path) -> None:
        columns = dict.fromkeys(name for row in self._rows for name in row)
        try:
            with atomic_write(path, "w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, columns, restval="")
                table.writeheader()
                table.writerows(self._rows)
        except OSError as error:
            rank_zero_warn(f"'{path}' cannot be written ({describe(error)}); the next epoch tries again")


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    # LearningRateMonitor brings a rate for each group of parameters.
    return numbers({name: value for name, value in metrics.items() if not name.startswith("lr/")})


def _same(folder: str, other: Path) -> bool:
    return os.path.realpath(folder) == os.path.realpath(other)
