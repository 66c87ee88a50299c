"""The recipe's learning rate for the trainer of a run: its images a step, and its epochs."""

import math
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from ..errors import ConfigError
from ..option_ranges import NO_END
from ..recipe import Schedule, scaled_lr
from .lightning_internals import current_batch_idx


def check_end(trainer: pl.Trainer) -> None:
    """Refuse a run without an end.

    Raises:
        ConfigError: The trainer has no max_epochs.
    """
    if (trainer.max_epochs or -1) < 0:
        raise ConfigError(NO_END)


def schedule_of(trainer: pl.Trainer, options: Any) -> Schedule:
    """Return the schedule of a run, and say its peak.

    Args:
        trainer: With the run's data module.
        options: Of `ImageClassifier`.
    """
    return Schedule(
        peak_lr=_peak_lr(trainer, options.lr, options.lr_batch_size),
        epochs=_epochs(trainer.max_epochs or 0, warmup=options.warmup_epochs, cooldown=options.cooldown_epochs),
        warmup_epochs=options.warmup_epochs,
        warmup_lr=options.warmup_lr,
        min_lr=options.min_lr,
    )


def epochs_done(trainer: pl.Trainer) -> float:
    """Return the epochs that a trainer has done, with the part of the present one.

    Raises:
        ConfigError: The training data does not say how many batches it has.
    """
    batches = trainer.num_training_batches
    if math.isinf(batches):
        raise ConfigError("--model.lr_interval step: the training data does not say how many batches an epoch has")
    return trainer.current_epoch + current_batch_idx(trainer) / batches


def _peak_lr(trainer: pl.Trainer, lr: float, lr_batch_size: int | None) -> float:
    per_device = getattr(trainer.datamodule, "batch_size", None)
    if per_device is None:
        rank_zero_warn(f"the data module has no batch_size, so lr={lr:g} is used as it is")
        return lr
    effective = per_device * trainer.world_size * trainer.accumulate_grad_batches
    peak_lr = scaled_lr(lr, effective_batch_size=effective, reference_batch_size=lr_batch_size)
    rank_zero_info(
        f"Learning rate {peak_lr:.4g}: {lr:g} for {lr_batch_size or 'any number of'} images a step, and a step has "
        f"{effective} ({per_device} a device x {trainer.world_size} devices x {trainer.accumulate_grad_batches} "
        "accumulated)"
    )
    return peak_lr


def _epochs(run: int, *, warmup: int, cooldown: int) -> int:
    """Return the epochs of warm-up and cosine together."""
    epochs = run - cooldown
    if epochs <= warmup:
        rank_zero_warn(
            f"of {run} epochs, {warmup} are warm-up and {cooldown} cool-down, so none is left for the cosine; "
            "see --model.warmup_epochs and --model.cooldown_epochs"
        )
    return max(epochs, 1)
