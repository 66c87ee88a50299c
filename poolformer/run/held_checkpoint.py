"""A checkpoint of a moment ago, for the time in which the run is not what will be resumed.

Callbacks put other weights into the model for validation and take them out afterwards: whatever saves in between, for
whatever reason, has to save what was there before.
"""

import copy
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import (
    Callback,
    Checkpoint,
    DeviceStatsMonitor,
    LearningRateMonitor,
    ModelSummary,
    ProgressBar,
    Timer,
)
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from ..errors import PoolformerError
from .lightning_internals import checkpoint_connector

VALIDATION = (
    *("on_validation_start", "on_validation_epoch_start", "on_validation_batch_start"),
    *("on_validation_batch_end", "on_validation_epoch_end", "on_validation_end"),
)
EPOCH_END = ("on_train_epoch_end",)
_LOOK_ON = (Checkpoint, DeviceStatsMonitor, LearningRateMonitor, ModelSummary, ProgressBar, Timer)
_OF_TRAINING = ("callbacks", "optimizer_states", "lr_schedulers")


class HeldCheckpoint:
    """Stands between whoever saves a checkpoint and the state of the run.

    Args:
        trainer: The run's trainer.
    """

    def __init__(self, trainer: pl.Trainer):
        self.trainer = trainer
        self._checkpoint: dict[str, Any] | None = None
        checkpoint_connector(trainer).dump_checkpoint = self.dump

    @property
    def is_held(self) -> bool:
        return self._checkpoint is not None

    def hold(self, *, copied: bool = True) -> None:
        """Hold the state of now.

        Args:
            copied: Whether the tensors may change; the copy lies in the memory of the host.
        """
        dumped = self._of_now()
        plain = isinstance(self.trainer.strategy, SingleDeviceStrategy | DDPStrategy)
        # Where each rank has all, only the first one writes.
        self._checkpoint = (
            _copied(dumped) if dumped and copied and (self.trainer.is_global_zero or not plain) else dumped
        )

    def _of_now(self) -> dict[str, Any] | None:
        try:
            return self._dump()
        except PoolformerError:
            raise
        except Exception:  # a callback has nothing to keep yet: what it has is asked for where Lightning saves
            return None

    def release(self) -> None:
        """From now on the state of the run is saved as it is."""
        self._checkpoint = None

    def go_on_after_validation(self, loops: dict[str, Any]) -> None:
        """Have what is held, if anything is, say that validation is over, and what it measured."""
        if self._checkpoint is not None:
            self._checkpoint["loops"]["fit_loop"].update(loops)
            measured: dict[str, Any] = {}
            self.trainer.lightning_module.on_save_checkpoint(measured)
            self._checkpoint.update(measured)

    def dump(self, weights_only: bool | None = None) -> dict[str, Any]:
        """Return what is to be saved; takes the place of the trainer's own."""
        if self._checkpoint is None:
            return self._dump(weights_only)
        # Checkpoint callbacks speak of files, which are as they are now.
        files = {each.state_key: each.state_dict() for each in self.trainer.checkpoint_callbacks}
        checkpoint = {**self._checkpoint, "callbacks": {**self._checkpoint["callbacks"], **files}}
        if weights_only:
            return {name: value for name, value in checkpoint.items() if name not in _OF_TRAINING}
        return checkpoint

    def _dump(self, weights_only: bool | None = False) -> dict[str, Any]:
        connector = checkpoint_connector(self.trainer)
        return type(connector).dump_checkpoint(connector, weights_only)


def may_change(trainer: pl.Trainer, hooks: tuple[str, ...]) -> bool:
    """Return whether a callback, or a module on its way to evaluation mode, could change the state in some hooks."""
    modules = trainer.lightning_module.modules()
    switches = any(type(module).train is not nn.Module.train for module in modules)  # LoRA merges its weights there
    return switches or any(
        getattr(type(callback), hook) is not getattr(Callback, hook)
        for callback in trainer.callbacks
        if not _looks_on(callback)
        for hook in hooks
    )


def _looks_on(callback: Callback) -> bool:
    home = type(callback).__module__
    return home.startswith("poolformer.") or (home.startswith("lightning.pytorch.") and isinstance(callback, _LOOK_ON))


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        copied = copy.copy(value)  # a state dict is more than its entries
        for key, each in value.items():
            copied[key] = _copied(each)
        return copied
    if type(value) in (list, tuple):
        return type(value)(_copied(each) for each in value)
    return copy.deepcopy(value)
