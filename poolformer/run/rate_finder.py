"""A range test of the learning rate: a batch at each of many rates, after which the run ends and says which to take."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import LearningRateFinder

from ..errors import ConfigError
from ..files.atomic_write import atomic_write
from . import lightning_internals as internals
from .epoch_lines import has_shown_bar
from .schedule import schedule_of

NAME = "lr-finder.csv"
_FIRST = 10  # batches until an average says something


class RateFinder(LearningRateFinder):
    """Lightning's finder, whose rate is said and written beside the curve; the network stays as it was.

    All parameters learn at one rate, as they do in a run without ``layer_decay``. The rate is said as ``--model.lr``,
    which is meant for ``lr_batch_size`` images a step.

    Args:
        min_lr: Smallest rate.
        max_lr: Largest rate.
        num_training_steps: Number of rates, a batch each.
        mode: How the rate rises: exponential or linear.
        early_stop_threshold: An average of losses so many times the smallest ends the search; null for none.
    """

    def __init__(
        self,
        min_lr: float = 1e-6,
        max_lr: float = 1.0,
        num_training_steps: int = 100,
        mode: str = "exponential",
        early_stop_threshold: float | None = 4.0,
    ) -> None:
        super().__init__(min_lr, max_lr, num_training_steps, mode, early_stop_threshold, update_attr=False)
        self._early_exit = True  # what Lightning calls it to end after the search

    def lr_find(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Search, say what was found, and end the run.

        Raises:
            ConfigError: The layers are to learn at rates of their own, there is a teacher, or nothing was found.
        """
        options: Any = pl_module.hparams
        if options.layer_decay is not None:
            raise ConfigError("extras/lr-finder tries one rate for all layers: leave --model.layer_decay out")
        if options.teacher is not None:  # whose file has the epochs of the run, and a search may take more
            raise ConfigError("extras/lr-finder takes more epochs than a teacher may have: leave --model.teacher out")
        Path(trainer.default_root_dir).mkdir(parents=True, exist_ok=True)
        try:
            with internals.searching(trainer, shown=has_shown_bar(trainer)):
                super().lr_find(trainer, pl_module)
        finally:
            if self.optimal_lr is not None:
                self._tell(trainer, options)

    def _tell(self, trainer: pl.Trainer, options: Any) -> None:
        assert self.optimal_lr is not None
        results = self.optimal_lr.results
        share = options.lr / schedule_of(trainer, options).peak_lr if options.lr else 1.0
        losses = results["loss"]
        rows = [(rate * share, loss) for rate, loss in zip(results["lr"], losses, strict=True)]
        place = Path(trainer.default_root_dir, NAME)
        if trainer.is_global_zero:
            with atomic_write(place, "w", encoding="utf-8") as file:
                file.write("lr,train/loss\n" + "".join(f"{rate:.6g},{loss:.6g}\n" for rate, loss in rows))
        steepest = _steepest(losses)
        if steepest is None:
            raise ConfigError(f"no learning rate is found in {len(rows)} batches: take more, or smaller ones")
        lowest = min(rows, key=lambda row: row[1] if math.isfinite(row[1]) else math.inf)[0]
        if trainer.is_global_zero:
            found = rows[steepest][0]
            print(f"lr-finder: the loss falls fastest at --model.lr {found:.2g} and is lowest at {lowest:.2g}")
            print(f"lr-finder: the losses at all rates are in {place}")


def _steepest(losses: Sequence[float]) -> int | None:
    """Return at which batch the loss falls most, None where too few are finite; the first ten average too little.

    From batch to batch. Lightning 2.6 divides by the difference of the rates, in which the smallest always win.
    """
    slopes = np.gradient(losses[_FIRST:-1]) if len(losses) > _FIRST + 2 else np.array([np.nan])
    return None if np.isnan(slopes).all() else _FIRST + int(np.nanargmin(slopes))
