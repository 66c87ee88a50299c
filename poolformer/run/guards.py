"""What ends a run that has gone wrong by itself: a loss that is not finite, a disk that takes no checkpoints."""

import shutil
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from ..checkpoint.writing import remove_unfinished
from ..errors import ConfigError, NotFiniteError
from ..files.folders import existing_folder, probe
from ..files.shown import on_disk
from .lightning_internals import is_logging_point
from .sharding import local

_STATES = 3  # best, last, and the one that is being written
_MIB = 2**20


class DiskSpace(Callback):
    """Finds out before training whether the disk takes the run's checkpoints; removes what killed writes left.

    Args:
        checkpoints: The folder of the checkpoints.
        resumes: Whether this run writes over those that lie there.

    Raises:
        ConfigError: They do not fit, or their folder cannot be written to.
    """

    def __init__(self, checkpoints: Path, *, resumes: bool):
        self.checkpoints, self.resumes = checkpoints, resumes

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        obstacle = self._obstacle(pl_module) if trainer.is_global_zero else None
        obstacle = trainer.strategy.broadcast(obstacle)
        if obstacle:
            raise ConfigError(obstacle)

    def _obstacle(self, pl_module: pl.LightningModule) -> str | None:
        existing = self.checkpoints
        try:
            remove_unfinished(self.checkpoints)
            existing = self.checkpoints if self.checkpoints.exists() else existing_folder(self.checkpoints)
            if shortage := self._shortage(pl_module, existing):
                return shortage
            probe(existing)
        except OSError as error:
            return (
                f"no checkpoint can be written to '{on_disk(existing)}' ({error.strerror}): make it writable, or "
                "choose another --trainer.default_root_dir"
            )
        return None

    def _shortage(self, pl_module: pl.LightningModule, existing: Path) -> str | None:
        # AdamW keeps two averages of each parameter.
        state = 3 * sum(parameter.nbytes for parameter in pl_module.parameters())
        needed, free = _STATES * state, shutil.disk_usage(existing).free
        replaced = sum(path.stat().st_size for path in self.checkpoints.glob("*.ckpt")) if self.resumes else 0
        if free >= max(needed - replaced, state):
            return None
        return (
            f"'{on_disk(existing)}' has {free / _MIB:.0f} MiB free, and the checkpoints of this run need "
            f"{needed / _MIB:.0f}: make room, or choose another --trainer.default_root_dir"
        )


class FiniteTraining(Callback):
    """Ends training within ``log_every_n_steps`` when the loss is not finite, and lets no such state be saved.

    Buffers may hold values that are not finite if they do so when training starts: a mask of -inf is added to logits.

    Args:
        checkpoints: The folder of the checkpoints, for the message.

    Raises:
        NotFiniteError: The loss, a weight, a buffer or a state of the optimiser is not; the message names the first.
    """

    def __init__(self, checkpoints: Path):
        self.checkpoints = checkpoints
        self._sum: Tensor | None = None
        self._infinite_by_design: set[str] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._infinite_by_design = set(_not_finite(pl_module.named_buffers(remove_duplicate=False), pl_module.device))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Kept on the device, 0 until a loss is not finite: asking at every batch would make the host wait for it.
        loss = outputs["loss"].detach()
        self._sum = torch.add(torch.zeros_like(loss) if self._sum is None else self._sum, loss, alpha=0)
        # log_every_n_steps 0 is never, in Lightning.
        if is_logging_point(trainer) if trainer.log_every_n_steps else (batch_idx + 1) % 50 == 0:
            self._check_losses(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check_losses(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = pl_module.state_dict().items()
        tensors = ((name, each) for name, each in state if name not in self._infinite_by_design)
        broken = _not_finite(chain(tensors, _optimizer_states(trainer, pl_module)), pl_module.device)
        self._check(trainer, bool(broken), f"{broken[0] if broken else 'a tensor of another device'} is")

    def _check_losses(self, trainer: pl.Trainer) -> None:
        if self._sum is not None:
            self._check(trainer, ~torch.isfinite(self._sum), "the loss is")

    def _check(self, trainer: pl.Trainer, broken: Tensor | bool, what: str) -> None:
        found = bool(broken)
        if trainer.world_size > 1:
            found = trainer.strategy.reduce_boolean_decision(found, all=False)
        if not found:
            return
        good = sorted(self.checkpoints.glob("*.ckpt"), key=lambda path: path.stat().st_mtime)
        kept = f"the last good checkpoint is '{good[-1]}'" if good else "there is no checkpoint yet"
        raise NotFiniteError(
            f"{what} not finite at step {trainer.global_step} (epoch {trainer.current_epoch}, lr {_lr(trainer):.4g}): "
            f"training ends; {kept}. Lower --model.lr, or look at the data"
        )


def _not_finite(tensors: Iterable[tuple[str, Any]], device: torch.device) -> list[str]:
    """Return the names of those that hold a NaN or an infinity, in order."""
    floating = [(name, local(each)) for name, each in tensors if isinstance(each, Tensor) and each.is_floating_point()]
    # Brought together on the device: the host waits for it once.
    broken = [(~torch.isfinite(each).all()).to(device) for _, each in floating]
    answers = torch.stack(broken).tolist() if broken else []
    return [name for (name, _), is_broken in zip(floating, answers, strict=True) if is_broken]


def _optimizer_states(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[tuple[str, Any]]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in pl_module.named_parameters()}
    for optimizer in trainer.optimizers:
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                yield f"the optimiser's {key} of {names.get(parameter, 'a parameter')}", value


def _lr(trainer: pl.Trainer) -> float:
    return trainer.optimizers[0].param_groups[0]["lr"]
