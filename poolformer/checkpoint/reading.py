"""Reading a checkpoint as data: no file here can run code."""

import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, describe
from .archive import check_archive
from .locating import candidates
from .pickle_keys import check_keys
from .plain_values import is_bounded
from .published import EXPORTED

# What Lightning takes out of a checkpoint without looking.
_PARTS = {
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "pytorch-lightning_version": str,
    "epoch": int,
    "global_step": int,
    "poolformer_run": dict,
    "poolformer_metrics": dict,
}
# Where a `ModelCheckpoint` keeps the files that it deletes when it has better ones.
_FILES = ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path", "best_k_models")
# Paths that Lightning does not find to lie outside of a folder: x/../.., s3://x, local:/x.
_LEADS_AWAY = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[\w+.-]{2,}:|::")


def read(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU, as data only.

    Raises:
        CheckpointError: No such file, a torn or foreign one, or one that would have to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at '{path}'{candidates(path)}")
    try:
        check_archive(path)
        check_keys(path)
        # Said explicitly: the default can be turned off by an environment variable.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of arbitrary bytes PyTorch makes errors of a dozen kinds
        raise CheckpointError(
            f"'{path}' is not a checkpoint that can be loaded as data: {_reason(error, path)}{candidates(path)}"
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"'{path}' holds a {type(checkpoint).__name__}, not a checkpoint of a run")
    for name, part in checkpoint.items():
        if not (is_bounded(name) and is_bounded(part)):
            raise CheckpointError(
                f"'{path}' is not a checkpoint that can be used: its {str(name)[:40]!r} holds itself, is nested too "
                "deeply, or stands for too many values"
            )
    return checkpoint


def _reason(error: Exception, path: Path) -> str:
    """Say why PyTorch refuses a file, without its advice to load it as code."""
    if isinstance(error, CheckpointError):
        return str(error)
    if isinstance(error, OSError):
        return describe(error)[:200]
    if path.suffix.lower() in EXPORTED:
        return "it is an exported network: pass the checkpoint or the .safetensors that it was exported from"
    with path.open("rb") as file:
        # A zip archive, a pickle as of old, or a tar as of the first days.
        if not file.read(2).startswith((b"PK", b"\x80")) and not tarfile.is_tarfile(path):
            return "torch.save did not write it"
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    if refused:
        return f"loading it would call {refused[1][:100]}; where you trust it, save its state dict alone to a new file"
    unpickler = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    return (unpickler[1] if unpickler else describe(error)).partition(". ")[0][:200]


def read_run(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint that a run wrote.

    Raises:
        CheckpointError: As `read`; or there are weights alone.
    """
    checkpoint = read(path)
    try:
        check_run(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"'{path}' was not written by a run: {error}") from error
    return checkpoint


def check_run(checkpoint: Mapping[str, Any]) -> None:
    """Check that what Lightning takes out of a checkpoint without looking is what a run puts there.

    Raises:
        CheckpointError: It is not; the message begins with what.
    """
    if "pytorch-lightning_version" not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError("it has no state of the trainer")
    for name, kind in _PARTS.items():
        if not isinstance(checkpoint.get(name, kind()), kind):
            raise CheckpointError(f"its {name} is a {type(checkpoint[name]).__name__}")
    for name, value in checkpoint["state_dict"].items():
        if not isinstance(name, str) or not (isinstance(value, torch.Tensor) or name.endswith("_extra_state")):
            raise CheckpointError("its state_dict holds more than tensors by name")
    for name, state in checkpoint.get("callbacks", {}).items():
        for path in _files_of(state):
            # Lightning deletes what a checkpoint calls its predecessors, folders and other file systems included.
            if not isinstance(path, str) or _LEADS_AWAY.search(path):
                raise CheckpointError(
                    f"a callback of it names {str(path)[:80]!r}, which a resumed run could delete "
                    f"({str(name).partition('{')[0][:40]})"
                )


def _files_of(state: Any) -> Iterator[Any]:
    """Yield what Lightning would take for names of files, whichever class the state is said to be of."""
    for option in _FILES if isinstance(state, Mapping) else ():
        value = state.get(option)
        yield from value if isinstance(value, Mapping) else [value] if value is not None else []
