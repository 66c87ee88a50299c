"""Where a run lies: one directory with its checkpoints and configuration, that nobody else writes to."""

import copy
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from .checkpoint_io import existing_folder, has_saved, probe
from .errors import ConfigError

HEADLINE = "val/top1"


def checkpoints(run_dir: Path, save_every_n_steps: int | None = None) -> list[ModelCheckpoint]:
    """Return the callbacks that keep ``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt`` of a run.

    Two of them: one alone writes ``last`` only in epochs that are among the best, so that a kill can
    cost everything since the last improvement.

    Args:
        run_dir: The run's directory.
        save_every_n_steps: Steps after which ``last`` is written inside an epoch, besides its end.
    """
    options = {
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
    """Lightning's, which does not save again at the first batch of a run that goes on.

    Where several batches make a step, that would be a checkpoint without the gradients gathered so far.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved = trainer.global_step


class RunDirectory(Callback):
    """Keeps one run in its directory: moves an earlier one to ``previous/<n>``, then saves ``config.yaml``.

    The directory is locked while the run lasts; the system lets go of it when the process ends, however it does.

    It waits until the first batch is due: data, model and checkpoint are loaded and fit, so that a start
    that fails changes nothing.

    Args:
        run_dir: The run's directory; what lies there now is the earlier run.
        goes_on: Whether this run continues the one that lies there.
        from_last: Whether it does so from ``last.ckpt``; otherwise that one is moved away too, and not overwritten.
        save_config: Writes the configuration to a path.

    Raises:
        ConfigError: Nothing can be written there, or another run is writing there now.
    """

    def __init__(self, run_dir: Path, *, goes_on: bool, from_last: bool = True, save_config: Callable[[Path], None]):
        self.run_dir, self.goes_on, self.from_last, self.save_config = run_dir, goes_on, from_last, save_config
        self._lock: int | None = None
        self.started = False
        self.earlier = [path for path in _children(run_dir) if path.name != "previous"]
        existing = existing_folder(run_dir)
        try:
            probe(existing)
        except OSError as error:
            raise ConfigError(
                f"the run cannot be written to '{run_dir}': '{existing}' is no folder to write in ({error.strerror})"
            ) from error

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        free = self._take() if trainer.is_global_zero else True
        if not trainer.strategy.broadcast(free):
            raise ConfigError(
                f"another run is writing to '{self.run_dir}': wait for it, stop it, or choose another "
                "--trainer.default_root_dir"
            )

    def _take(self) -> bool:
        if fcntl is None or self._lock is not None or not self.run_dir.is_dir():
            return True
        self._lock = os.open(self.run_dir, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
        return True

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = True
        held_a_run = any(path.name in ("checkpoints", "config.yaml") for path in self.earlier)
        if held_a_run and not self.goes_on:
            target = self._set_aside(self.earlier)
            rank_zero_info(f"'{self.run_dir}' held a run; it is now in '{target}'")
        last = self.run_dir / "checkpoints" / "last.ckpt"
        if self.goes_on and not self.from_last and last.is_file():
            target = self._set_aside([last])
            rank_zero_info(f"The run goes on from another checkpoint than last.ckpt, which is now in '{target}'")
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self._take()
        self.save_config(self.run_dir / "config.yaml")

    def _set_aside(self, paths: list[Path]) -> Path:
        previous = self.run_dir / "previous"
        taken = [int(path.name) for path in _children(previous) if path.name.isdigit()]
        target = previous / str(max(taken, default=0) + 1)
        for path in paths:
            place = target / path.relative_to(self.run_dir)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, place)
        return target

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a run whose directory was moved know its best epoch still, or the next one would replace it."""
        if self.goes_on:
            folder, states = str((self.run_dir / "checkpoints").resolve()), checkpoint["callbacks"]
            before = {state["dirpath"] for key, state in states.items() if key.startswith(BestCheckpoint.__qualname__)}
            for state in states.values():
                if "best_k_models" in state and (state["dirpath"] in before or not before):  # not a user's elsewhere
                    _move(state, folder)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Have the curves on the disk up to each checkpoint: they go on from there after a kill."""
        for logger in trainer.loggers:
            logger.save()

    @rank_zero_only
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove what the logger wrote for a run that did not start."""
        self._release()
        if self.started:
            return
        for path in _children(self.run_dir):
            if path not in self.earlier and path.name.startswith(("events.out.tfevents", "hparams.yaml")):
                path.unlink()
        if self.run_dir.is_dir() and not _children(self.run_dir):
            self.run_dir.rmdir()


def _move(state: dict[str, Any], folder: str) -> None:
    """Have the state of a `ModelCheckpoint` point into another folder."""

    def moved(path: str) -> str:
        return path and os.path.join(folder, os.path.basename(path))

    state["dirpath"] = folder
    state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
    for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[name] = moved(state[name])


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
