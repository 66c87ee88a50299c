"""Soft labels of a teacher for every view of a schedule: a file written once, epoch by epoch, and mapped to be read.

A view is a training sample as it is in an epoch. The file is one of safetensors, with one tensor:

    views: U16 (epochs, samples, 2, top): numbers of the likeliest classes, then the bits of their log-probabilities as
    float16

Sixteen classes are 64 bytes a view. What they leave of the probability is spread evenly over the other classes, as in
FKD (arXiv 2112.01528, marginal smoothing). The header says what the views are of; what that means is not known here.
"""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..counts import counted
from ..errors import DataError
from ..files.atomic_write import publish
from ..files.lock import lock
from .copies import pinned

MOST_CLASSES = 2**16
"""Classes that two bytes can number."""
_FORMAT = "poolformer soft labels 1"
_ALIGNMENT, _LONGEST_HEADER = 4096, 10**6


def likeliest(logits: Tensor, top: int) -> np.ndarray:
    """Return the likeliest classes of logits (B, K) as the file has them, uint16 (B, 2, top), the likeliest first.

    Args:
        logits: Finite.
        top: How many classes, at most K.

    Raises:
        DataError: They are not finite.
    """
    values, classes = logits.float().log_softmax(1).topk(top)
    values, classes = values.cpu(), classes.cpu()
    if values.isnan().any():
        raise DataError("the teacher's logits are not finite: its weights are of a run that diverged")
    bits = values.half().numpy().view(np.uint16)
    return np.stack([classes.numpy().astype(np.uint16), bits], axis=1)


def expanded(rows: np.ndarray, classes: int, device: torch.device | None = None) -> Tensor:
    """Return rows of the file as soft targets (B, K), each of which sums to 1.

    Args:
        rows: uint16 (B, 2, top).
        classes: Number of classes K.
        device: Where they are wanted.
    """
    numbers = pinned(torch.from_numpy(rows[:, 0].astype(np.int64))).to(device, non_blocking=True)
    stored = np.ascontiguousarray(rows[:, 1]).view(np.float16).astype(np.float32)
    shares = pinned(torch.from_numpy(stored)).to(device, non_blocking=True).exp()
    rest = (1 - shares.sum(1, keepdim=True)).clamp_min(0) / max(1, classes - shares.shape[1])
    targets = rest.repeat(1, classes).scatter_(1, numbers, shares)
    return targets / targets.sum(1, keepdim=True)


class SoftLabels:
    """A file of soft labels, open for reading.

    Args:
        path: The file.

    Attributes:
        facts: What the views are of, as it was given when the file was written.
        epochs: How many epochs it has.
        samples: How many samples an epoch has.

    Raises:
        DataError: It is missing, cut off, or no such file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = file.read(size) if size <= _LONGEST_HEADER else b""
            bytes_of_file = self.path.stat().st_size
        except OSError as error:
            remedy = ": `poolformer teach CKPT --out FILE` writes one" if isinstance(error, FileNotFoundError) else ""
            raise DataError(f"'{self.path}' cannot be read ({error.strerror}){remedy}") from error
        self.facts, shape = self._read(header)
        self.epochs, self.samples, _, self.top = shape
        if bytes_of_file != 8 + size + 2 * int(np.prod(shape, dtype=object)):
            raise DataError(f"'{self.path}' is cut off or damaged: copy or write it again")
        self._views = np.memmap(self.path, "<u2", mode="r", offset=8 + size, shape=shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # a process that is spawned opens its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def rows(self, epoch: int, samples: np.ndarray, *, classes: int) -> np.ndarray:
        """Return what is stored of samples in an epoch, uint16 (B, 2, top).

        Args:
            epoch: Below `epochs`.
            samples: Their numbers, int (B,).
            classes: Number of classes, which those that are stored are below.

        Raises:
            DataError: There is no such epoch, or the file is damaged there.
        """
        if epoch >= self.epochs:
            raise DataError(
                f"'{self.path}' has {counted(self.epochs, 'epoch')}, and this is epoch {epoch} (counted from 0)"
            )
        rows = np.asarray(self._views[epoch, samples])
        # Not a number, or more than the log-probability 0.
        is_wrong = ~(np.ascontiguousarray(rows[:, 1]).view(np.float16) <= 0)
        if rows[:, 0].max(initial=0) >= classes or is_wrong.any():
            raise DataError(f"'{self.path}' is damaged in epoch {epoch}: copy or write it again")
        return rows

    def _read(self, header: bytes) -> tuple[dict[str, Any], tuple[int, ...]]:
        try:
            content = json.loads(header)
            metadata, views = content["__metadata__"], content["views"]
            facts, shape = json.loads(metadata["facts"]), tuple(map(int, views["shape"]))
            if metadata["format"] == _FORMAT and isinstance(facts, dict) and len(shape) == 4 and min(shape) > 0:
                return facts, shape
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise DataError(f"'{self.path}' is no file that `poolformer teach` wrote")


class SoftLabelsWriter:
    """Writes a file of soft labels, which has its name when it is complete; to be used as a context.

    What is left of it when it is interrupted is `FILE.unfinished`, and the same one again begins behind its last whole
    epoch.

    Args:
        path: The file to be.
        facts: What the views are of, in plain values.
        epochs: How many epochs there will be.
        samples: How many samples an epoch has.
        top: Classes of a view.

    Attributes:
        done: How many epochs are written.

    Raises:
        DataError: Another process is writing it.
        OSError: It cannot be written.
    """

    def __init__(self, path: Path, facts: dict[str, Any], *, epochs: int, samples: int, top: int) -> None:
        self.path, self.unfinished = path, path.with_name(f"{path.name}.unfinished")
        header = _header(facts, (epochs, samples, 2, top))
        self._epochs, self._shape = epochs, (samples, 2, top)
        self._bytes = 2 * samples * 2 * top
        try:
            self._lock = lock(self.unfinished, make=True)
        except BlockingIOError as error:
            raise DataError(f"'{path}' is being written by another process: wait for it or stop it") from error
        self._file = self.unfinished.open("r+b")
        is_same = self._file.read(len(header)) == header
        self.done = (self.unfinished.stat().st_size - len(header)) // self._bytes if is_same else 0
        if not is_same:
            self._file.seek(0)
            self._file.write(header)
        self._file.truncate(len(header) + self.done * self._bytes)
        self._file.seek(0, os.SEEK_END)

    def __enter__(self) -> "SoftLabelsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self.done == 0:
            self.unfinished.unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)

    def add(self, rows: np.ndarray) -> None:
        """Append an epoch, uint16 (samples, 2, top), in the order of the samples' numbers."""
        assert rows.shape == self._shape
        assert rows.dtype == np.uint16
        # Not through a mapping, which a full disk makes a signal of.
        self._file.write(np.ascontiguousarray(rows, "<u2").data)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done += 1

    def publish(self) -> None:
        """Give the file its name, when every epoch is there."""
        assert self.done == self._epochs
        publish(self.unfinished, self.path)


def _header(facts: dict[str, Any], shape: tuple[int, ...]) -> bytes:
    size = 2 * int(np.prod(shape, dtype=object))
    metadata = {"format": _FORMAT, "facts": json.dumps(facts, sort_keys=True)}
    views = {"dtype": "U16", "shape": shape, "data_offsets": [0, size]}
    text = json.dumps({"__metadata__": metadata, "views": views}).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
