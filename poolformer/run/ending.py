"""How a run ends: with all that it was to train, with nothing, or by a signal."""

import signal
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_only

from ..counts import counted
from ..errors import RunError
from ..files.shell import program, quoted
from ..network.frame_options import takes_mixer
from ..network.mixer_spec import resolve
from . import closing
from .directory import HEADLINE, RunDirectory
from .trainer import RunOptions


class Ending:
    """Says where everything is and what to do next; made before the run begins.

    Args:
        run: That ends.
    """

    def __init__(self, run: RunOptions):
        self.run = run
        self._stamp = closing.stamp(run.run_dir)

    @rank_zero_only
    def say_stopped(self, trainer: pl.Trainer, code: object = None) -> None:
        """Say what ended the run, over which a progress bar may have been drawn meanwhile, and how to resume it.

        Args:
            trainer: That has trained it.
            code: With which the process ends, of the signal.
        """
        run_dir = self.run.run_dir
        if isinstance(code, int) and code > 128:
            step = f"after step {trainer.global_step}" if trainer.global_step else "before the first step"
            saved = getattr(trainer.strategy.checkpoint_io, "saved", True)
            print(f"stopped by {signal.Signals(code - 128).name} {step}{'' if saved else ', which could not be saved'}")
        if _has_started(trainer) and (run_dir / "checkpoints" / "last.ckpt").is_file():
            config = quoted(run_dir / "config.yaml")
            print(f"run     {quoted(run_dir)}\nresume  {program('poolformer')} fit --config {config} --ckpt_path last")

    @rank_zero_only
    def say_over(self, trainer: pl.Trainer, options: Any) -> None:
        """Say what came of a run that has ended by itself.

        Args:
            trainer: That has trained it.
            options: Of the model.

        Raises:
            RunError: Its end could not be saved.
        """
        if not self.run.keeps_a_run:
            return
        if not self._has_trained(trainer):
            if self.run.is_auto and self.run.resume and "max_time" not in self._limits(trainer):
                epochs = f"{counted(trainer.current_epoch, 'epoch')}, {counted(trainer.global_step, 'step')}"
                print(f"The run in '{self.run.run_dir}' is complete: {epochs}")
                return
            path = self.run.resume.path if self.run.resume else None
            counts = {"epochs": trainer.current_epoch, "steps": trainer.global_step}
            print(closing.nothing_trained(self.run.options, path, **counts, limits=self._limits(trainer)))
            return
        if not getattr(trainer.strategy.checkpoint_io, "saved", True):
            raise RunError(f"the end of the run in '{self.run.run_dir}' could not be saved; its checkpoints are older")
        mixer, limits = _another_mixer(options), self._limits(trainer)
        print(f"\n{closing.report(self.run.run_dir, trainer, other_mixer=mixer, limits=limits)}")

    def _has_trained(self, trainer: pl.Trainer) -> bool:
        if not _has_started(trainer):  # or in processes that were spawned, of which the directory alone tells
            return closing.stamp(self.run.run_dir) != self._stamp
        resume = self.run.resume
        return not resume or HEADLINE in trainer.callback_metrics or trainer.global_step != resume.step

    def _limits(self, trainer: pl.Trainer) -> list[str]:
        """Return the options that ended the run."""
        epochs, steps = closing.place(self.run.run_dir / "checkpoints", trainer)
        left = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]
        reached = {
            "max_epochs": 0 <= (trainer.max_epochs or 0) <= epochs,
            "max_steps": 0 <= self.run.options["max_steps"] <= steps,
            "max_time": any(each is not None and each <= 0 for each in left),
        }
        return [name for name, is_reached in reached.items() if is_reached] or ["max_epochs"]


def _another_mixer(options: Any) -> str | None:
    """Return a token mixer to try next, None for a backbone that has none to choose."""
    if not takes_mixer(options.backbone):
        return None
    return "pooling" if {mixer.name for mixer in resolve(options.mixer)} == {"identity"} else "identity"


def _has_started(trainer: pl.Trainer) -> bool:
    """Return whether a batch was due, so that the run's directory holds this run."""
    directory = next((one for one in trainer.callbacks if isinstance(one, RunDirectory)), None)
    return directory is not None and directory.started
