"""Whether a command line means the run that lies in a directory: what ``--ckpt_path auto`` resumes, or begins.

A job that is started again, by a scheduler or by torchrun, repeats its command line. It has to resume its own run, and
never to take another one's directory.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch.distributed
from lightning.pytorch.callbacks import Callback

from ..checkpoint.locating import candidates
from ..checkpoint.record import RUN
from ..configs import read_config
from ..errors import CheckpointError, ConfigError
from ..network.frame_options import with_built
from . import config as run_config
from .facts import run_facts
from .reproducibility import WITHOUT_EFFECT, changes

AUTO = "auto"
"""What ``--ckpt_path`` is for the run's own ``last.ckpt`` where it has one, and the start where it has not."""

_COMPARED = ("seed_everything", "model", "data", "trainer")
_SHOWN = 5


def find(run_dir: Path, options: Mapping[str, Any]) -> Path | None:
    """Return the ``last.ckpt`` to resume from; None where the run has none yet.

    Args:
        run_dir: The run's directory.
        options: What the command line resolves to, without any checkpoint, in the sections of a ``config.yaml``.

    Raises:
        ConfigError: The run in that directory has other options.
        CheckpointError: It has checkpoints, and not this one.
    """
    config = run_dir / run_config.NAME
    last = run_dir / "checkpoints" / "last.ckpt"
    saved = sorted((run_dir / "checkpoints").glob("*.ckpt"))
    if not run_config.is_of_a_run(config):
        if saved:
            raise CheckpointError(
                f"'{saved[0]}' has no {run_config.NAME} to tell whether it is of this run: --ckpt_path last resumes a "
                "run, and another --trainer.default_root_dir begins one"
            )
        return None
    before = run_config.in_its_place(read_config(config), config, run_dir=str(run_dir))
    if changed := differences(before, options):
        shown = [f"{name} {now[:80]} (was {then[:80]})" for name, (then, now) in changed.items()]
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        raise ConfigError(
            f"the run in '{run_dir}' has other options: {', '.join(shown[:_SHOWN])}{more}. --ckpt_path last resumes it "
            "with what is given; another --trainer.default_root_dir begins another run"
        )
    if last.exists():
        return last
    if saved:
        raise CheckpointError(f"the run in '{run_dir}' has no 'last' checkpoint{candidates(last)}")
    return None


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the options that make two runs of two configurations, with their values before and now.

    Options that only one of them has are left out, as another version added or dropped them, and so are those that
    change neither what is computed nor on what.

    Args:
        before: All options in the sections of a ``config.yaml``.
        now: Likewise.
    """
    then, today = dict(_options(before)), dict(_options(now))
    return {name: (then[name], value) for name, value in today.items() if then.get(name, value) != value}


def _options(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield options and values, as ``model.lr`` and ``data.batch_size``."""
    for section in _COMPARED:
        options = content.get(section)
        if not isinstance(options, Mapping):
            yield section, _plain(options)
            continue
        if section == "model":
            options = with_built(options)
        if "class_path" in options:
            yield section, _plain(options["class_path"])
            yield f"{section}.dict_kwargs", _plain(options.get("dict_kwargs") or {})
            options = options.get("init_args") or {}
        left_out = run_config.OF_THE_MACHINE if section == "trainer" else WITHOUT_EFFECT
        yield from ((f"{section}.{name}", _plain(value)) for name, value in options.items() if name not in left_out)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return os.path.realpath(value) if os.path.exists(value) else value
    return json.dumps(value, default=str, sort_keys=True)


class SameRun(Callback):
    """Holds a run that is resumed by itself to its data, and all processes to one checkpoint.

    Args:
        step: Optimiser steps that the checkpoint has behind it; None where the run starts.

    Raises:
        ConfigError: The training or validation images are others than before, or processes start from different
            checkpoints, as where each node has a disk of its own.
    """

    def __init__(self, step: int | None):
        self.step = step
        self._before: dict[str, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size == 1:
            return
        steps: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(steps, self.step)
        if len({*steps}) > 1:
            said = ", ".join("the start" if step is None else f"step {step}" for step in steps[:8])
            raise ConfigError(
                f"the processes would resume from different places ({said}): the run's directory has to be on a disk "
                "that all nodes share"
            )

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._before = {name: value for name, value in checkpoint.get(RUN, {}).items() if _is_of_data(name)}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = {name: value for name, value in run_facts(trainer).items() if _is_of_data(name)}
        if changed := changes(self._before, now):
            raise ConfigError(
                f"the run has other data than before: {', '.join(changed)}. --ckpt_path last resumes it with this data"
            )


def _is_of_data(name: str) -> bool:
    return name.startswith(("train_", "val_"))
