"""What a run was made by and on: the command, the commit, versions, the machine, the data with its numbers."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from ..files.shell import quoted
from ..files.shown import shown
from .provenance import class_path_of
from .reproducibility import image_set
from .versions import versions

_PACKAGE = Path(__file__).parents[2]
_GIT_S = 5  # a large checkout on a slow disk is left out rather than waited for
_SPLITS = ("train", "val", "test")


def command(argv: Sequence[str] | None = None) -> str:
    """Return the command of this process, to be pasted; local stand-ins of a URL are called by the URL.

    Args:
        argv: Of the process; None for its own.

    Example:
        >>> command(["/usr/bin/poolformer", "fit", "--config", "my run.yaml"])
        "poolformer fit --config 'my run.yaml'"
    """
    program, *words = sys.argv if argv is None else argv
    name = Path(program).name
    start = ["poolformer"] if name in ("poolformer", "__main__.py") else ["python", program]
    return shown(" ".join([*start, *map(quoted, words)]))


def commits(here: Path | None = None) -> dict[str, str]:
    """Return the commits of the sources that a run depends on, by what they are of.

    Those of poolformer where it runs from a checkout, and of the checkout that the run was started in. A name that ends
    in ``-dirty`` has changes that were not committed. There is nothing where there is no git.

    Args:
        here: Where the run was started; None for the current directory.
    """
    own = _commit(_PACKAGE) if (_PACKAGE / ".git").exists() else None
    other = _commit(here or Path.cwd())
    found = {"poolformer": own, "current directory": None if other == own else other}
    return {name: value for name, value in found.items() if value}


def _commit(folder: Path) -> str | None:
    words = ["git", "-C", os.fspath(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    # Without GIT_DIR and the like, which a hook of git sets for its own checkout.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_GIT_S, env=environment, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine(trainer: pl.Trainer) -> str:
    """Return what a trainer computes on, in a line."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    cores = f"{os.cpu_count() or 1} cores"
    return f"{trainer.world_size} x {device.type} ({name}, {cores}), {platform.system()}, {trainer.precision}"


def made_by(trainer: pl.Trainer) -> dict[str, str]:
    """Return command, commits, versions and machine of a run, by names."""
    found = {"command": command(), "versions": versions(), "machine": machine(trainer)}
    return {**found, **{f"commit of {name}": value for name, value in commits().items()}}


def data_facts(trainer: pl.Trainer, *, class_names: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the data of a trainer with its numbers: class, options, images of each split, batches, classes.

    Args:
        trainer: That trains or evaluates.
        class_names: Of the classes that its network knows, for their number; None where it does not say.
    """
    module = getattr(trainer, "datamodule", None)
    facts: dict[str, Any] = {"class_path": class_path_of(module)} if module is not None else {}
    for name, value in getattr(module, "hparams", {}).items():
        if not name.startswith("_") and value is not None:
            facts[name] = shown(value) if isinstance(value, str) else value
    loaders = {
        "train": trainer.train_dataloader,
        "val": trainer.val_dataloaders,
        "test": trainer.test_dataloaders,
    }
    for split in _SPLITS:
        images = image_set(loaders[split], split).get(f"{split}_images")
        if images is not None:
            facts[f"{split}_images"] = images
    if trainer.state.fn == "fit":
        batches = trainer.num_training_batches
        facts["batches_per_epoch"] = None if batches == float("inf") else int(batches)
    if class_names:
        facts["classes"] = len(class_names)
    return facts
