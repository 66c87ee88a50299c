"""Commands called in this process, and what they leave: for tests of whole runs of a second or two."""

import contextlib
import hashlib
import logging
import os
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.checkpoint.reading import read

# A run of a second, without the warnings that so short a one deserves.
SHORT = [
    *("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "2", "--trainer.log_every_n_steps", "1"),
    *("--trainer.enable_progress_bar", "false", "--model.warmup_epochs", "0"),
    *("--log_without", "all"),  # a fifth of its time; run/test_log_parts.py and others look at what is logged
]
ONE_EPOCH = [*SHORT, "--trainer.max_epochs", "1"]
TWO_EPOCHS = [*SHORT, "--trainer.max_epochs", "2"]
LAST = "checkpoints/last.ckpt"
BEST = "checkpoints/best.ckpt"


@dataclass
class Done:
    code: int
    out: str
    err: str


@contextlib.contextmanager
def process_left_as_it_was():
    """Undo what a run changes in the process: it expects to have one of its own."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    filters, path, environment, show = list(logger.filters), list(sys.path), dict(os.environ), warnings.formatwarning
    try:
        yield
    finally:
        logger.filters[:], sys.path[:], warnings.formatwarning = filters, path, show
        os.environ.clear()
        os.environ.update(environment)


def settings(run_dir: Path) -> dict[str, Any]:
    return yaml.safe_load((run_dir / "config.yaml").read_text())


def scalars(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run_dir))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def files(folder: Path) -> set[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {re.sub(r"events\.out\.tfevents\..*", "events", name) for name in names}


def contents(folder: Path) -> dict[str, str]:
    """Return a digest of each file: enough to compare, and short enough to show."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def metric(done: Done, name: str) -> float:
    return float(re.search(rf"{name}\W+([\d.]+)", done.out)[1])


def printed(done: Done) -> dict[str, Any]:
    assert done.code == 0, done.err
    return yaml.safe_load(done.out)


def changed(trained: Path, to: Path, **parts: Any) -> Path:
    saved = read(trained / LAST)
    torch.save({**saved, **{name: {**saved[name], **changes} for name, changes in parts.items()}}, to)
    return to
