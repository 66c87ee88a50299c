"""Writing checkpoints so that under a checkpoint's name there is always a whole one, whatever dies when."""

import io
import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from ..errors import RunError, causes, describe
from ..files.atomic_write import atomic_write
from ..files.paths import is_url
from ..files.store import Store, StoreError
from ..option_words import WhenSavingFails
from .plain_values import NotPlainError, made_plain, said_of

_UNFINISHED = re.compile(r"\..+\.ckpt\.\d+(-[0-9a-f]+)?\.tmp")


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it to the disk, and renames it.

    Lightning's own goes through TMPDIR; where that is another file system, the usual layout of a cluster, a
    kill leaves a torn file under the final name. What only code could restore is written as plain data, or not
    at all: under a checkpoint's name is always one that can be read.

    Args:
        if_saving_fails: Whether training then ends or continues with a warning; the checkpoint before it is
            kept either way.

    Attributes:
        saved: Whether the last checkpoint was written.
    """

    def __init__(self, if_saving_fails: WhenSavingFails = "stop"):
        self.if_saving_fails = if_saving_fails
        self.saved = True

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            RunError: It cannot be written, and training is to end then.
        """
        path = str(path) if is_url(path) else Path(path)
        self.saved = False
        try:
            _write(made_plain(checkpoint), path)
            self.saved = True
        except (OSError, RuntimeError, NotPlainError, StoreError) as error:  # PyTorch makes the second of the first
            cause = said_of(error) if isinstance(error, NotPlainError) else describe(system_error(error) or error)
            message = f"'{path}' cannot be written ({cause}); what was there before is kept"
            if self.if_saving_fails == "stop":
                raise RunError(message) from error
            rank_zero_warn(message)


def has_saved(trainer: pl.Trainer) -> bool:
    """Return whether the last checkpoint was written; every rank has to ask."""
    saved = getattr(trainer.strategy.checkpoint_io, "saved", True)
    return bool(trainer.strategy.broadcast(saved))


def _write(checkpoint: dict[str, Any], path: str | Path) -> None:
    if isinstance(path, str):  # of a callback of the user's own, at a URL that is not the run's
        folder, _, name = path.rpartition("/")
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        size = buffer.tell()
        buffer.seek(0)
        Store(folder).send(buffer, size, name)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        torch.save(checkpoint, file)


def system_error(error: BaseException | None) -> OSError | None:
    """Return the error of the operating system that an error came from; None if there was none."""
    return next((each for each in causes(error, contexts=True) if isinstance(each, OSError)), None)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed writes have left in a folder of checkpoints."""
    for path in folder.glob(".*.ckpt.*.tmp"):
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)
