"""How a run ends: with all that it was to train, with nothing, or by a signal."""

from collections.abc import Callable

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_only

from ..errors import RunError
from ..files.shell import quoted
from . import closing
from .directory import HEADLINE, RunDirectory
from .trainer import Plan


class Ending:
    """Says where everything is and what to do next; made before the run begins.

    Args:
        plan: Of the run.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self._stamp = closing.stamp(plan.run_dir)

    @rank_zero_only
    def say_stopped(self, trainer: pl.Trainer) -> None:
        """Say how to resume a run that a signal has ended."""
        run_dir = self.plan.run_dir
        if _has_started(trainer) and (run_dir / "checkpoints" / "last.ckpt").is_file():
            config = quoted(run_dir / "config.yaml")
            print(f"run     {quoted(run_dir)}\nresume  poolformer fit --config {config} --ckpt_path last")

    @rank_zero_only
    def say_over(self, trainer: pl.Trainer, other_mixer: Callable[[], str | None]) -> None:
        """Say what came of a run that has ended by itself.

        Args:
            trainer: That has trained it.
            other_mixer: Returns a token mixer to try next; None for a backbone that has none to choose.

        Raises:
            RunError: Its end could not be saved.
        """
        if not self.plan.keeps_a_run:
            return
        if not self._has_trained(trainer):
            path = self.plan.resume.path if self.plan.resume else None
            counts = {"epochs": trainer.current_epoch, "steps": trainer.global_step}
            print(closing.nothing_trained(self.plan.options, path, **counts, limit=self._limit(trainer)))
            return
        if not getattr(trainer.strategy.checkpoint_io, "saved", True):
            raise RunError(f"the end of the run in '{self.plan.run_dir}' could not be saved; its checkpoints are older")
        print(f"\n{closing.report(self.plan.run_dir, trainer, other_mixer=other_mixer())}")

    def _has_trained(self, trainer: pl.Trainer) -> bool:
        if not _has_started(trainer):  # or in processes that were spawned, of which the directory alone tells
            return closing.stamp(self.plan.run_dir) != self._stamp
        resume = self.plan.resume
        return not resume or HEADLINE in trainer.callback_metrics or trainer.global_step != resume.step

    def _limit(self, trainer: pl.Trainer) -> str:
        """Return the option that ended the run."""
        if 0 <= self.plan.options["max_steps"] <= trainer.global_step:
            return "max_steps"
        left = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]
        return "max_time" if any(each is not None and each <= 0 for each in left) else "max_epochs"


def _has_started(trainer: pl.Trainer) -> bool:
    """Return whether a batch was due, so that the run's directory holds this run."""
    directory = next((one for one in trainer.callbacks if isinstance(one, RunDirectory)), None)
    return directory is not None and directory.started
