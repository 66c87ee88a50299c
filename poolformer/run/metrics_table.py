"""The metrics of a run as a table that a spreadsheet or pandas reads: ``metrics.csv``, a row an epoch."""

import csv
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from ..errors import describe
from ..files.atomic_write import atomic_write

NAME = "metrics.csv"


class MetricsTable(Callback):
    """Writes ``metrics.csv`` in the run's directory: epoch, steps so far, learning rate, then all metrics by name.

    Those of validation stand in the epochs that were validated. A resumed run has the rows up to its checkpoint, and
    then its own. A file that cannot be written is warned of; the next epoch writes all of it.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, float]] = []
        self._validated: dict[str, float] = {}
        self._lr = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [dict(row) for row in self._rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = [dict(row) for row in state_dict["rows"]]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        # At the end of an epoch the schedule has set the rate of the next.
        self._lr = float(max(group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._validated = _metrics(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: value for name, value in _metrics(trainer).items() if not name.startswith("val/")}
        place = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": self._lr}
        self._rows.append({**place, **self._validated, **metrics})
        self._validated = {}
        self._write(Path(trainer.default_root_dir) / NAME)

    @rank_zero_only
    def _write(self, path: Path) -> None:
        columns = dict.fromkeys(name for row in self._rows for name in row)
        try:
            with atomic_write(path, "w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, columns, restval="")
                table.writeheader()
                table.writerows(self._rows)
        except OSError as error:
            rank_zero_warn(f"'{path}' cannot be written ({describe(error)}); the next epoch tries again")


def _metrics(trainer: pl.Trainer) -> dict[str, float]:
    # LearningRateMonitor brings a rate for each group of parameters.
    named = sorted(trainer.callback_metrics.items())
    return {name: float(value) for name, value in named if not name.startswith("lr/")}
