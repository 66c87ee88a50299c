"""What a run says at its end: what came of it, what lies in its directory, and the commands to continue with.

All of it is looked up on the disk: a run may have been without a logger or checkpoints, and where its processes were
spawned, its callbacks' state stays with them.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from ..checkpoint.reading import read
from ..checkpoint.record import METRICS
from ..counts import counted
from ..errors import CheckpointError
from ..files.shell import program, quoted
from .directory import HEADLINE, BestCheckpoint

_EVENTS = "events.out.tfevents*"


def stamp(run_dir: Path) -> Any:
    """Return what tells one config.yaml from the next: every run that begins writes its own."""
    try:
        status = (run_dir / "config.yaml").stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def nothing_trained(options: Any, checkpoint: Path | None, *, epochs: int, steps: int, limits: Sequence[str]) -> str:
    """Say why a run ended before its first batch.

    Args:
        options: Of the trainer.
        checkpoint: What it was to resume from.
        epochs: Where that is.
        steps: Where that is.
        limits: The options of the trainer that have ended the run.
    """
    for name in ("limit_train_batches", "max_epochs", "max_steps"):
        if options.get(name) == 0:
            return f"Nothing was trained: --trainer.{name} is 0"
    if checkpoint is None:
        return f"Nothing was trained{': the time of --trainer.max_time was over' if 'max_time' in limits else ''}"
    raised = " and ".join(f"--trainer.{limit}" for limit in limits)
    return f"'{checkpoint}' is at {counted(epochs, 'epoch')}, {counted(steps, 'step')} already: raise {raised}"


def report(
    run_dir: Path, trainer: pl.Trainer, *, other_mixer: str | None, limits: Sequence[str] = ("max_epochs",)
) -> str:
    """Return the lines that a run ends with.

    Args:
        run_dir: Its directory.
        trainer: That has trained it.
        other_mixer: A token mixer to try next; None for a backbone that has none to choose.
        limits: The options of the trainer that have ended it, which have to be raised to train on.
    """
    config, folder = run_dir / "config.yaml", run_dir / "checkpoints"
    kept = [name for name in ("best", "last") if (folder / f"{name}.ckpt").is_file()]
    lines = [_headline(folder, trainer, limits), f"run          {quoted(run_dir)}  ({_contents(run_dir, kept)})"]
    lines += [f"also         {place}" for place in _elsewhere(run_dir, trainer)]
    if events := _events(run_dir, trainer):
        lines.append(f"look at it   {program('tensorboard')} --logdir {quoted(events)}")
    if not config.is_file():
        return "\n".join(lines)
    start, poolformer = f"--config {quoted(config)}", program("poolformer")
    if kept:
        lines.append(f"evaluate     {poolformer} validate {start} --ckpt_path {kept[0]}")
    if "last" in kept:
        epochs, steps = place(folder, trainer)
        raised = {
            "max_epochs": 2 * max(trainer.max_epochs or 0, epochs, 1),
            "max_steps": 2 * max(steps, 1),
            "max_time": "null",
        }
        more = " ".join(f"--trainer.{each} {raised[each]}" for each in limits)
        lines.append(f"train on     {poolformer} fit {start} --ckpt_path last {more}")
    if other_mixer:
        beside = quoted(run_dir.with_name(f"{run_dir.name}-{other_mixer}") if run_dir.name else Path(other_mixer))
        lines.append(
            f"another mix  {poolformer} fit {start} --model.mixer {other_mixer} --trainer.default_root_dir {beside}"
        )
    return "\n".join(lines)


def place(folder: Path, trainer: pl.Trainer) -> tuple[int, int]:
    """Return the epochs and the steps that a run has done.

    Args:
        folder: Of its checkpoints, which alone tell them where processes were spawned to train.
        trainer: That has trained it.
    """
    if trainer.global_step == 0 and (saved := _saved(folder / "last.ckpt")):
        return saved.get("epoch", -1) + 1, saved.get("global_step", 0)
    return trainer.current_epoch, trainer.global_step


def _headline(folder: Path, trainer: pl.Trainer, limits: Sequence[str]) -> str:
    found, (epochs, steps) = trainer.callback_metrics, place(folder, trainer)
    if not found and trainer.global_step == 0 and (saved := _saved(folder / "last.ckpt")):
        found = saved.get(METRICS, {})
    after = (
        f"after {counted(epochs, 'epoch')}" if epochs and "max_epochs" in limits else f"after {counted(steps, 'step')}"
    )
    if HEADLINE in found:
        best = _best(folder, trainer)
        return f"{HEADLINE} {found[HEADLINE]:.4f} {after}{'' if best is None else f', best {best:.4f}'}"
    loss = f"train/loss {found['train/loss']:.4f} {after}" if "train/loss" in found else f"Trained: {after}"
    return f"{loss}; nothing was validated"


def _best(folder: Path, trainer: pl.Trainer) -> float | None:
    """Return the best accuracy, which is that of best.ckpt; other callbacks keep scores of their own."""
    ours = [each for each in trainer.checkpoint_callbacks if isinstance(each, BestCheckpoint)]
    score = next((each.best_model_score for each in ours if each.monitor == HEADLINE), None)
    if score is not None:
        return float(score)
    saved = _saved(folder / "best.ckpt")
    return saved.get(METRICS, {}).get(HEADLINE) if saved else None


def _saved(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return read(path)
    except CheckpointError:
        return None


def _contents(run_dir: Path, kept: list[str]) -> str:
    there = ["config.yaml"] if (run_dir / "config.yaml").is_file() else []
    if any(run_dir.glob(_EVENTS)):
        there.append("TensorBoard events")
    if kept:
        there.append(f"checkpoints/{', '.join(f'{name}.ckpt' for name in kept)}")
    others = len([path for path in (run_dir / "checkpoints").glob("*.ckpt") if path.stem not in kept])
    if others:
        there.append(f"{others} other checkpoint{'s' * (others > 1)}")
    elif not kept:
        there.append("no checkpoint")
    return ", ".join(there)


def _elsewhere(run_dir: Path, trainer: pl.Trainer) -> list[str]:
    """Return where loggers of the user's have written."""
    folders = dict.fromkeys(_log_dirs(trainer))
    return [quoted(each) for each in folders if each.is_dir() and each.resolve() != run_dir.resolve()]


def _events(run_dir: Path, trainer: pl.Trainer) -> Path | None:
    """Return the folder for tensorboard --logdir: where runs lie beside one another."""
    if any(run_dir.glob(_EVENTS)):
        return run_dir.parent
    return next((each for each in _log_dirs(trainer) if any(each.glob(_EVENTS))), None)


def _log_dirs(trainer: pl.Trainer) -> list[Path]:
    places = [getattr(logger, "log_dir", None) for logger in trainer.loggers]  # of a logger of the user's anything
    return [Path(place) for place in places if isinstance(place, str | os.PathLike) and str(place)]
