"""What a run is made of beside the options of model and data: checkpoints keep it, to say what changes on a resume."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    Callback,
    Checkpoint,
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
    WeightAveraging,
)

from .reproducibility import image_set

# They change the weights or the steps; so does whatever comes between the gradients and the optimiser.
_CHANGE_TRAINING = (BaseFinetuning, GradientAccumulationScheduler, StochasticWeightAveraging, WeightAveraging)
_HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad")
# Options of the optimiser that say how it computes, not what; and those that are options of the model.
_NOT_COMPARED = ("lr", "weight_decay", "foreach", "fused", "capturable", "differentiable")


def run_facts(trainer: pl.Trainer) -> dict[str, Any]:
    """Return a trainer's options and data in plain values, as far as they decide what is computed."""
    clips = trainer.gradient_clip_val or None
    batches = trainer.num_training_batches
    return {
        "max_epochs": trainer.max_epochs,
        "devices": trainer.world_size,
        "accelerator": trainer.strategy.root_device.type,
        "precision": str(trainer.precision),
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "gradient_clip_val": clips,
        "gradient_clip_algorithm": str(getattr(trainer.gradient_clip_algorithm, "value", "norm")) if clips else None,
        "batches_per_epoch": None if batches == float("inf") else batches,
        "limit_train_batches": trainer.limit_train_batches,
        "limit_val_batches": trainer.limit_val_batches,
        "overfit_batches": trainer.overfit_batches,
        "val_check_interval": trainer.val_check_interval,
        "check_val_every_n_epoch": trainer.check_val_every_n_epoch,
        "reload_dataloaders_every_n_epochs": trainer.reload_dataloaders_every_n_epochs,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "callbacks": sorted(callback.state_key for callback in trainer.callbacks if _matters(callback)),
        **optimizer_options(trainer),
        "images_turned": bool(getattr(getattr(trainer, "datamodule", None), "turns", False)),
        **image_set(trainer.train_dataloader, "train"),
        **image_set(trainer.val_dataloaders, "val"),
    }


def _matters(callback: Callback) -> bool:
    """Return whether a run with a callback is another one than without: it changes training, or has a state."""
    if type(callback).__module__.startswith("poolformer.") or isinstance(callback, Checkpoint):
        return False
    changes = any(getattr(type(callback), hook) is not getattr(Callback, hook) for hook in _HOOKS)
    return changes or isinstance(callback, _CHANGE_TRAINING) or type(callback).state_dict is not Callback.state_dict


def optimizer_options(trainer: pl.Trainer) -> dict[str, Any]:
    """Return what the optimiser was built with, as ``optimizer_class`` and ``optimizer_<option>``."""
    if not trainer.optimizers:
        return {}
    optimizer = trainer.optimizers[0]
    options = {name: value for name, value in optimizer.defaults.items() if name not in _NOT_COMPARED}
    return {
        "optimizer_class": type(optimizer).__name__,
        **{
            f"optimizer_{name}": value
            for name, value in options.items()
            if isinstance(value, bool | int | float | str | list | tuple | None)
        },
    }


def use_new_options(trainer: pl.Trainer, before: dict[str, Any]) -> None:
    """Give the optimiser the options that it was built with where they are others than before.

    Its state, which a checkpoint has brought back, holds those of before.
    """
    for name, value in optimizer_options(trainer).items():
        option = name.removeprefix("optimizer_")
        if name == "optimizer_class" or name not in before or _in_lists(before[name]) == _in_lists(value):
            continue
        for group in trainer.optimizers[0].param_groups:
            if _in_lists(group.get(option)) == _in_lists(before[name]):  # no schedule has changed it meanwhile
                group[option] = value


def _in_lists(value: Any) -> Any:
    # A tuple may come back from a file as a list.
    return list(value) if isinstance(value, tuple) else value
