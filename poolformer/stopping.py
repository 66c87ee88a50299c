"""Ending a run from outside: SIGTERM and SIGINT stop it between two steps, and nothing outlives a dead rank."""

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from .checkpoint_io import has_saved
from .errors import ConfigError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_POLL_S = 1
_LAUNCHER = "POOLFORMER_LAUNCHER"  # the process that further ranks are launched from


class Stopped(SystemExit):
    """The end of a run that a signal asked for; its code is that of the signal, 143 or 130."""


class StopOnSignal(Callback):
    """Stops on SIGTERM and SIGINT after the step, with a checkpoint of it while training.

    Lightning's own handling ends with exit code 0, and Ctrl-C may come in the middle of a step. A second
    signal ends the process at once. With several processes, one of them being asked stops all.

    A step is one of the optimiser: ``accumulate_grad_batches`` batches, whose gradients no checkpoint holds.

    Args:
        checkpoint: Where to save; None where nothing is trained.
    """

    def __init__(self, checkpoint: Path | None = None):
        self.checkpoint = checkpoint
        self._signal = 0
        self._validation_to_come = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Until something is trained there is nothing to save. Lightning's handler alone would end with code 0.
        if threading.current_thread() is threading.main_thread() and not self._signal:
            signal.signal(signal.SIGTERM, _leave_at_once)

    # In place of Lightning's handler, which talks to the other ranks in the middle of whatever runs.
    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen()
        if self._asked(trainer):
            self._save_and_leave(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._asked(trainer):
            self._leave(trainer)  # the epoch's end has just been saved; before the first there is nothing to save

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # The last batch leads to the end of the epoch.
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and not trainer.is_last_batch and not _validation_follows(trainer) and self._asked(trainer):
            trainer._logger_connector.update_train_step_metrics()  # would come after this hook
            self._save_and_leave(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not self._asked(trainer):
            return
        if trainer.sanity_checking:
            raise StopIteration  # ends the check; training then starts, in its own directory, and is stopped
        self._validation_to_come = True
        self._save_and_leave(trainer)

    def on_test_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        if self._asked(trainer):
            self._leave(trainer)

    def on_predict_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        if self._asked(trainer):
            self._leave(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Have a validation that was cut short or has not begun run as a whole when the run goes on.

        For that the loops must say that they were in it, which Lightning reads off their counts: a validation batch
        begun and not processed (`restarted_mid_evaluation`), and a training batch that is completed, although hooks
        of its end are still running (`restarted_on_last`).
        """
        if trainer.fit_loop.epoch_loop.batch_progress.total.ready == 0:
            del checkpoint["loops"]  # as if freshly started: Lightning would count a batch that never was
            return
        loops = checkpoint["loops"]["fit_loop"]
        batches = loops["epoch_loop.batch_progress"]
        in_batch_end = batches["current"]["completed"] == batches["current"]["processed"] - 1
        if self._validation_to_come or (in_batch_end and trainer.training and _validation_follows(trainer)):
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            loops["epoch_loop.val_loop.batch_progress"] = {
                "total": begun,
                "current": dict(begun),
                "is_last_batch": False,
            }
            for count in (batches["total"], batches["current"]):
                count["completed"] = count["processed"]

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread() and not self._signal:
            for signum in SIGNALS:
                signal.signal(signum, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._signal = signum
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        name = signal.Signals(signum).name
        os.write(2, f"\n{name}: stopping after this step; once more ends it at once\n".encode())

    def _asked(self, trainer: pl.Trainer) -> bool:
        asked = bool(self._signal)
        return trainer.strategy.reduce_boolean_decision(asked, all=False) if trainer.world_size > 1 else asked

    def _save_and_leave(self, trainer: pl.Trainer) -> None:
        if self.checkpoint is not None and trainer.state.fn == "fit" and not trainer.fast_dev_run:
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
            if has_saved(trainer):
                rank_zero_info(f"Stopped after step {trainer.global_step}; saved in '{self.checkpoint}'")
            else:
                rank_zero_warn(f"stopped after step {trainer.global_step}, which could not be saved")
        self._leave(trainer)

    def _leave(self, trainer: pl.Trainer) -> None:
        # Lightning kills the process that it launched the others from when one of them fails.
        raise Stopped(0 if _is_child(trainer) else 128 + (self._signal or signal.SIGTERM))


def _leave_at_once(signum: int, frame: FrameType | None) -> None:
    raise Stopped(128 + signum)


class StopAfterSteps(Callback):
    """Ends training after a number of steps, with a last validation.

    In place of ``Trainer(max_steps=...)``, with which Lightning takes every run that goes on for one that was
    stopped in mid-epoch, and then counts an epoch that it does not train.

    Args:
        steps: Steps of the optimiser since the start of the run.
    """

    def __init__(self, steps: int):
        self.steps = steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.global_step >= self.steps

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step >= self.steps


class WholeSteps(Callback):
    """Refuses validation between the batches of one step: no checkpoint holds the gradients gathered so far.

    Raises:
        ConfigError: ``val_check_interval`` is no multiple of ``accumulate_grad_batches``.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        batches, accumulated = trainer.val_check_batch, trainer.accumulate_grad_batches
        if batches is None and accumulated > 1:
            raise ConfigError(
                f"--trainer.val_check_interval: a time may come in the middle of a step, which takes {accumulated} "
                "batches (--trainer.accumulate_grad_batches): choose a number of batches, a multiple of that"
            )
        in_mid_epoch = batches is not None and batches != trainer.num_training_batches and batches != float("inf")
        if in_mid_epoch and batches % accumulated:
            raise ConfigError(
                f"--trainer.val_check_interval: validation after {batches} batches comes in the middle of a step, "
                f"which takes {accumulated} (--trainer.accumulate_grad_batches): choose a multiple of that"
            )


def _validation_follows(trainer: pl.Trainer) -> bool:
    return trainer.fit_loop.epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher)


def _is_child(trainer: pl.Trainer) -> bool:
    """Whether Lightning launched this process; torchrun and SLURM look after theirs."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return trainer.local_rank > 0 and isinstance(environment, LightningEnvironment)


def end_with_launcher() -> None:
    """End this process within seconds of the one that Lightning launched it from, if it did.

    Where that is killed, a rank that waits for it in a collective would do so for half an hour.
    """
    launcher, os.environ[_LAUNCHER] = os.environ.get(_LAUNCHER), str(os.getpid())
    if "LOCAL_RANK" in os.environ and launcher == str(os.getppid()):
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os._exit(1)
