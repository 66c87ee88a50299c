"""Ending a run from outside: a signal stops it between two steps, with what is trained saved."""

import os
import signal
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, GradientAccumulationScheduler
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from ..checkpoint.writing import has_saved
from ..errors import ConfigError, DataError
from . import loops
from .lightning_internals import leave_out_sigterm_broadcast
from .votes import Votes
from .waiting import Waiting, end_workers

_IMPATIENT = (signal.SIGTERM, signal.SIGINT)
"""Signals of which a second one may end the process at once; the others come more than once by themselves."""
_WARNINGS = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")  # a closed terminal, a scheduler, a limit of CPU time
SIGNALS = (*_IMPATIENT, *(getattr(signal, name) for name in _WARNINGS if hasattr(signal, name)))
_STUCK_S = 2  # without a batch, after the signal


class Stopped(SystemExit):
    """The end of a run that a signal asked for; its code is that of the signal, such as 143 or 130."""


class StopOnSignal(Callback):
    """Stops on a signal after the step, with a checkpoint of it while training.

    Lightning's own handling ends with exit code 0, and Ctrl-C may come in the middle of a step. A second SIGTERM or
    SIGINT ends the process at once; on SLURM, which itself repeats SIGTERM, only SIGINT. With several processes, one of
    them being asked stops all, after the step that follows: they agree while it runs, so that none waits for another.
    Signals that are ignored, as nohup has it, or that somebody else listens to are left alone.

    A step is one of the optimiser: ``accumulate_grad_batches`` batches, whose gradients no checkpoint holds. Waiting
    for a batch counts as being between two steps.

    Args:
        checkpoint: Where to save; None where nothing is trained.
    """

    def __init__(self, checkpoint: Path | None = None):
        self.checkpoint = checkpoint
        self.waiting = Waiting()
        self._votes = Votes()
        self._signal = 0
        self._process = 0

    def attach(self, trainer: pl.Trainer) -> None:
        """Have a trainer's loops ask after each step, and know when they wait."""
        if self.checkpoint is not None:
            loops.install(trainer, self)
        epoch_loop = trainer.fit_loop.epoch_loop
        leave_out_sigterm_broadcast(epoch_loop)
        for loop in (epoch_loop, epoch_loop.val_loop, trainer.validate_loop, trainer.test_loop, trainer.predict_loop):
            self.waiting.watch(loop)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._votes = Votes()  # the groups of processes may be others
        # Until something is trained there is nothing to save. Lightning's handler alone would end with code 0.
        if threading.current_thread() is threading.main_thread() and not self._signal and _is_free(signal.SIGTERM):
            signal.signal(signal.SIGTERM, _leave_at_once)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.waiting.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.waiting.close()
        if self.waiting.was_stuck:
            end_workers()

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
        if self._is_asked_now(trainer):
            self.save_and_leave(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._is_asked_now(trainer):  # the end of the epoch before has just been saved, if there was one
            if trainer.global_step and self.checkpoint is not None and self._may_save(trainer) and has_saved(trainer):
                self._say_saved(trainer)
            self._leave(trainer)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not self.is_asked(trainer):
            return
        if trainer.sanity_checking:
            raise StopIteration  # ends the check; training then starts, in its own directory, and is stopped
        self.save_and_leave(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Before the callbacks that save checkpoints, and after all others.
        if isinstance(trainer.fit_loop, loops.FitLoop) and not trainer.sanity_checking:
            trainer.fit_loop.epoch_loop.end_validation()

    def on_test_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        if self.is_asked(trainer):
            self._leave(trainer)

    def on_predict_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        if self.is_asked(trainer):
            self._leave(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        loops_state = checkpoint.get("loops")
        if loops_state and loops_state["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == 0:
            del checkpoint["loops"]  # as if freshly started: Lightning would count a batch that never was

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread() and not self._signal:
            self._process = os.getpid()
            for signum in SIGNALS:
                if _is_free(signum):
                    signal.signal(signum, self._note)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that was forked from here; whoever forked it ends it
            if signum in _IMPATIENT:
                signal.signal(signum, signal.SIG_DFL)
            return
        is_first, self._signal = not self._signal, self._signal or signum
        enders = _enders()
        if signum in _IMPATIENT:
            for each in enders:
                if signal.getsignal(each) == self._note:
                    signal.signal(each, signal.SIG_DFL)
        elif hasattr(signal, "SIGHUP") and signum == signal.SIGHUP:
            _let_go_of_the_terminal()
        if is_first:
            self.waiting.end_after(_STUCK_S, 128 + signum)
            name, again = signal.Signals(signum).name, "SIGTERM or Ctrl-C" if len(enders) > 1 else "Ctrl-C"
            with suppress(OSError):
                os.write(2, f"\n{name}: stopping after this step; {again} ends it at once\n".encode())

    def is_asked(self, trainer: pl.Trainer) -> bool:
        """Return whether a signal has come, to any of several ranks before it was asked last; all have to ask."""
        asked = bool(self._signal)
        return self._votes.call(trainer, asked) if trainer.world_size > 1 else asked

    def _is_asked_now(self, trainer: pl.Trainer) -> bool:
        asked = bool(self._signal)
        return self._votes.call_and_wait(trainer, asked) if trainer.world_size > 1 else asked

    def save_and_leave(self, trainer: pl.Trainer) -> None:
        """Save where something is trained, and raise `Stopped`."""
        if self.checkpoint is not None and self._may_save(trainer):
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
            if has_saved(trainer):
                self._say_saved(trainer)
            else:
                rank_zero_warn(f"stopped after step {trainer.global_step}, which could not be saved")
        self._leave(trainer)

    def _say_saved(self, trainer: pl.Trainer) -> None:
        rank_zero_info(f"Stopped after step {trainer.global_step}; saved in '{self.checkpoint}'")

    def _may_save(self, trainer: pl.Trainer) -> bool:
        return trainer.state.fn == "fit" and not trainer.fast_dev_run

    def leave_without_batch(self, trainer: pl.Trainer, error: Exception, *, saves: bool) -> None:
        """End a run whose next batch cannot be read, with all whole steps saved.

        Args:
            error: What the loader raised.
            saves: As for `leave_stuck`.

        Raises:
            DataError: In place of one, with where the steps are; any other error is raised as it is.
        """
        # The other ranks wait in the middle of their step: nothing can be saved together.
        if not saves or trainer.world_size > 1 or self.checkpoint is None or not self._may_save(trainer):
            raise error
        trainer.save_checkpoint(self.checkpoint, weights_only=False)
        if not has_saved(trainer):
            raise error
        where = f"stopped after step {trainer.global_step}, which is saved in '{self.checkpoint}'"
        if isinstance(error, DataError):
            raise DataError(f"{error}; {where}") from error
        rank_zero_warn(where)
        raise error

    def leave_stuck(self, trainer: pl.Trainer, *, saves: bool) -> None:
        """End a run whose next batch does not come.

        Args:
            saves: Whether there is more to save than the end of the epoch before, which has been saved.
        """
        # The other ranks wait in the middle of their step: nothing can be saved together.
        if saves and trainer.world_size == 1:
            self.save_and_leave(trainer)
        self._leave(trainer)

    def _leave(self, trainer: pl.Trainer) -> None:
        # Lightning kills the process that it launched the others from when one of them fails.
        raise Stopped(0 if _is_child(trainer) else 128 + (self._signal or signal.SIGTERM))


def _enders() -> tuple[signal.Signals, ...]:
    """Return the signals that end the process at once after a first one has asked it to stop.

    SLURM sends SIGTERM to each task, again through srun, and SIGKILL half a minute later.
    """
    return (signal.SIGINT,) if "SLURM_JOB_ID" in os.environ else _IMPATIENT


def _leave_at_once(signum: int, frame: FrameType | None) -> None:
    raise Stopped(128 + signum)


def _is_free(signum: int) -> bool:
    """Return whether nobody else has a say in what a signal does; put somebody's handler back if Lightning took it."""
    handler = signal.getsignal(signum)
    others = [each for each in getattr(handler, "signal_handlers", [handler]) if _is_of_others(signum, each)]
    if others and others[0] is not handler:
        signal.signal(signum, others[0])
    return not others


def _is_of_others(signum: int, handler: Callable | int | None) -> bool:
    if handler in (signal.SIG_DFL, signal.default_int_handler):
        return False
    if not callable(handler):  # ignored, or set by a library in C
        return True
    known = ("poolformer", "lightning", *(("submitit",) if signum in _IMPATIENT else ()))
    return str(getattr(handler, "__module__", "")).partition(".")[0] not in known


def _let_go_of_the_terminal() -> None:
    """Have what is still said go nowhere: after a hang-up writing to the terminal is an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        with suppress(OSError):
            status = os.fstat(stream)
            gone = stat.S_ISCHR(status.st_mode) and not os.isatty(stream)
            if gone and status.st_rdev != os.fstat(nowhere).st_rdev:
                os.dup2(nowhere, stream)
    os.close(nowhere)


class StopAfterSteps(Callback):
    """Ends training after a number of steps, with a last validation.

    In place of ``Trainer(max_steps=...)``, with which Lightning takes every resumed run for one that was
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
        batches, accumulated = trainer.val_check_batch, [trainer.accumulate_grad_batches]
        for callback in trainer.callbacks:
            if isinstance(callback, GradientAccumulationScheduler):
                accumulated += callback.scheduling.values()
                # It does so itself when an epoch starts, which is over where a run is resumed inside one.
                trainer.accumulate_grad_batches = callback.get_accumulate_grad_batches(trainer.current_epoch)
        if batches is None and max(accumulated) > 1:
            raise ConfigError(
                "--trainer.val_check_interval: a time may come in the middle of a step, which takes "
                f"{max(accumulated)} batches (--trainer.accumulate_grad_batches): choose a number of batches, a "
                "multiple of that"
            )
        if batches is None or batches in (trainer.num_training_batches, float("inf")):
            return
        uneven = next((each for each in accumulated if batches % each), None)
        if uneven:
            raise ConfigError(
                f"--trainer.val_check_interval: validation after {batches} batches comes in the middle of a step, "
                f"which takes {uneven} (--trainer.accumulate_grad_batches): choose a multiple of that"
            )


def _is_child(trainer: pl.Trainer) -> bool:
    """Whether Lightning launched this process; torchrun and SLURM look after theirs."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return trainer.local_rank > 0 and isinstance(environment, LightningEnvironment)
