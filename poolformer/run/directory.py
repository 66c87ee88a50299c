"""Where a run lies: one directory with its checkpoints and configuration, that nobody else writes to."""

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn
from torch import Tensor

from ..checkpoint.writing import has_saved
from ..errors import ConfigError, describe
from ..files.atomic_write import replacing
from ..files.folders import existing_folder, probe
from ..files.lock import RunLock
from . import config as run_config
from . import earlier_runs
from . import files as run_files

HEADLINE = "val/top1"


def checkpoints(run_dir: Path, save_every_n_steps: int | None = None) -> list[ModelCheckpoint]:
    """Return the callbacks that keep ``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt`` of a run.

    Two of them: one alone writes ``last`` only in epochs that are among the best, so that a kill can
    cost everything since the last improvement.

    Args:
        run_dir: The run's directory.
        save_every_n_steps: Steps after which ``last`` is written inside an epoch, besides its end.
    """
    options: dict[str, Any] = {
        "dirpath": run_dir / "checkpoints",  # wherever a logger of the user's writes
        "save_top_k": 1,
        "auto_insert_metric_name": False,
        "enable_version_counter": False,
    }
    best = BestCheckpoint(filename="best", monitor=HEADLINE, mode="max", **options)
    last = LastCheckpoint(filename="last", save_on_train_epoch_end=True, **options)
    if save_every_n_steps is None:
        return [best, last]
    return [best, last, StepCheckpoint(filename="last", every_n_train_steps=save_every_n_steps, **options)]


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, which does not take a checkpoint for the best that could not be written."""

    _KEPT = (
        "current_score",
        "best_k_models",
        "kth_best_model_path",
        "kth_value",
        "best_model_path",
        "best_model_score",
    )

    def _update_best_and_save(
        self, current: Tensor, trainer: pl.Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        before = {name: copy.copy(getattr(self, name)) for name in self._KEPT}
        super()._update_best_and_save(current, trainer, monitor_candidates)
        if not has_saved(trainer):
            vars(self).update(before)


class LastCheckpoint(ModelCheckpoint):
    """Lightning's, under a name of its own: the trainer takes one of a name, and a user may add theirs."""

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        states = checkpoint["callbacks"]
        former = self.state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)
        if former in states and self.state_key not in states:  # of a run before this class had its name
            states[self.state_key] = states.pop(former)


class StepCheckpoint(ModelCheckpoint):
    """Lightning's, which does not save again at the first batch of a resumed run.

    Where several batches make a step, that would be a checkpoint without the gradients gathered so far.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved = trainer.global_step


class RunDirectory(Callback):
    """Keeps one run in its directory: moves an earlier one to ``previous/<n>``, then saves ``config.yaml``.

    The directory is locked while the run lasts; the system lets go of it when the process ends, however it does.
    Only the files that a run has written are moved; whatever else lies there stays.

    It waits until the first batch is due: data, model and checkpoint are loaded and fit, so that a start
    that fails changes nothing.

    Args:
        run_dir: The run's directory; a run that lies there now is the earlier one.
        resumes: Whether this run continues the one that lies there.
        from_last: Whether it does so from ``last.ckpt``; otherwise that one is moved away too, and not overwritten.
        save_config: Writes the configuration to a path.

    Attributes:
        started: Whether a batch was due, so that the directory holds this run.

    Raises:
        ConfigError: Nothing can be written there, another run is writing there now, or a file of somebody else would
            be overwritten.
    """

    def __init__(self, run_dir: Path, *, resumes: bool, from_last: bool = True, save_config: Callable[[Path], None]):
        self.run_dir, self.resumes, self.from_last, self.save_config = run_dir, resumes, from_last, save_config
        self.started = self._is_open = False
        self._lock = RunLock(run_dir)
        self._found = run_files.Found(False, (), ())
        self._existing: set[Path] = set()
        if not run_dir.is_dir():
            self._probe()

    def open(self) -> None:
        """Lock the directory and see what lies there, before anything is written: in the process of rank 0 alone.

        Raises:
            ConfigError: As above.
        """
        if self._is_open:
            return
        self._lock.take()
        try:
            self._look()
        except BaseException as error:
            self._lock.discard()
            if isinstance(error, OSError):
                raise ConfigError(f"the run cannot be written to '{self.run_dir}' ({describe(error)})") from error
            raise
        self._is_open = True

    def _look(self) -> None:
        self._probe()
        if earlier_runs.restore(self.run_dir):
            rank_zero_info(f"An interrupted start had begun to move the run in '{self.run_dir}' away; it is back")
        (self.run_dir / earlier_runs.MARK).unlink(missing_ok=True)  # a moved run that is trained where it is now
        run_files.remove_unfinished(self.run_dir)
        self._found = run_files.look(self.run_dir)
        if self._found.in_the_way:
            raise ConfigError(
                f"'{self._found.in_the_way[0]}' was not written by a run, and this one would overwrite it: choose "
                "another --trainer.default_root_dir, or move that file"
            )
        self._existing = set(self.run_dir.iterdir())

    def _probe(self) -> None:
        existing = existing_folder(self.run_dir)
        try:
            probe(existing)
        except OSError as error:
            raise ConfigError(
                f"the run cannot be written to '{self.run_dir}': '{existing}' is no folder to write in "
                f"({error.strerror})"
            ) from error

    def close(self) -> None:
        """Let go of the directory; of a run that did not start, remove what it has written."""
        if not self.started:
            if self._is_open:
                self._remove_traces()
            self._lock.discard()
        self._lock.release()
        self._is_open = False

    def _remove_traces(self) -> None:
        for path in set(self.run_dir.iterdir()) - self._existing:
            of_this_process = path.name.startswith("events.out.tfevents.") and f".{os.getpid()}." in path.name
            if of_this_process or (path.name == "hparams.yaml" and run_files.are_hyper_parameters(path)):
                path.unlink()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        refused = self._refused() if trainer.is_global_zero else None
        if refused := trainer.strategy.broadcast(refused):
            raise ConfigError(refused)

    def _refused(self) -> str | None:
        try:
            self.open()
        except ConfigError as error:
            return str(error)
        return None

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.close()

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = self.run_dir / "checkpoints" / "last.ckpt"
        files = () if self.resumes else self._still_there()
        if self.resumes and not self.from_last and last.is_file():
            files = (last,)
        try:
            target = self._begin(files)
        except OSError as error:
            raise ConfigError(
                f"the run cannot be begun in '{self.run_dir}' ({describe(error)}); nothing of what lay there is lost"
            ) from error
        self.started = True
        if files and self.resumes:
            rank_zero_info(f"The run is resumed from another checkpoint than last.ckpt, which is now in '{target}'")
        elif files:
            rank_zero_info(f"'{self.run_dir}' held a run; it is now in '{target}'")

    def _still_there(self) -> tuple[Path, ...]:
        """Return the files of the earlier run, and warn of those that are gone: a CSVLogger removes its metrics.csv."""
        gone = [path for path in self._found.files if not os.path.lexists(path)]
        for path in gone:
            rank_zero_warn(f"'{path}' of the earlier run has been removed, by a logger or by somebody else")
        return tuple(path for path in self._found.files if path not in gone)

    def _begin(self, files: tuple[Path, ...]) -> Path | None:
        """Make the directory this run's: wholly, or it is the earlier one's again."""
        try:
            target = earlier_runs.move(self.run_dir, files) if files else None
            (self.run_dir / "checkpoints").mkdir(exist_ok=True)
            with replacing(self.run_dir / run_config.NAME) as unfinished:
                self.save_config(unfinished)
            if target:
                earlier_runs.settle(target)
            return target
        except BaseException:
            earlier_runs.restore(self.run_dir)
            raise

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a run whose directory was moved know its best epoch still, or the next one would replace it."""
        if self.resumes:
            folder, states = str((self.run_dir / "checkpoints").resolve()), checkpoint["callbacks"]
            before = {state["dirpath"] for key, state in states.items() if key.startswith(BestCheckpoint.__qualname__)}
            for state in states.values():
                if "best_k_models" in state and (state["dirpath"] in before or not before):  # not a user's elsewhere
                    _move(state, folder)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Have the curves on the disk up to each checkpoint: they continue from there after a kill."""
        for logger in trainer.loggers:
            logger.save()

    @rank_zero_only
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let go of the directory; remove what the logger wrote for a run that did not start."""
        self.close()


@contextmanager
def locked(trainer: pl.Trainer) -> Iterator[None]:
    """Hold the lock on a run's directory while it is trained: loggers make files before any hook of a callback."""
    directory = next((one for one in trainer.callbacks if isinstance(one, RunDirectory)), None)
    if directory is None:
        yield
        return
    if trainer.is_global_zero:
        directory.open()
    try:
        yield
    finally:
        directory.close()


def _move(state: dict[str, Any], folder: str) -> None:
    """Have the state of a `ModelCheckpoint` point into another folder."""

    def moved(path: str) -> str:
        return path and os.path.join(folder, os.path.basename(path))

    state["dirpath"] = folder
    state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
    for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[name] = moved(state[name])
