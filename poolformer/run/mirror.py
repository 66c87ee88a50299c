"""Sending a run's directory to a URL while it is trained: what is complete, in order, beside the training."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info

from ..errors import RunError, describe
from ..files.atomic_write import atomic_write
from ..files.shown import on_disk
from ..files.store import Store, StoreError
from .earlier_runs import FOLDER, MARK
from .remote_lock import RemoteLock

_EVERY_S = 1.0
_LOGS_EVERY_S = 30.0
_LONGEST_PAUSE_S = 60.0
PATIENCE_S = 300.0
"""How long the end of a run waits for a store that does not answer."""


class Sent:
    """Which files of a directory a store has, kept in a file so that a killed process's successor knows.

    Args:
        file: Where that is kept; None for what is not to outlive the process.

    Attributes:
        stamps: Size and time of each file, by its name.
    """

    def __init__(self, file: Path | None = None):
        self.file = file
        self.stamps: dict[str, list[int]] = {}
        if file is not None and file.exists():
            self.stamps = json.loads(file.read_text())

    def add(self, name: str, stamp: list[int]) -> None:
        """Note a file that the store has."""
        self.stamps[name] = stamp
        self.save()

    def remove(self, name: str) -> None:
        """Note a file that the store has no longer."""
        del self.stamps[name]
        self.save()

    def save(self) -> None:
        """Write what is known to the disk."""
        if self.file is not None:
            with atomic_write(self.file, "w") as file:
                json.dump(self.stamps, file)


class Mirror:
    """Has a store hold what a directory holds; files that were there before and are not of the run stay.

    Every second a thread looks what is new: events first, so that a checkpoint is never ahead of its curves. Files that
    come faster than they can be sent are sent as they are by then. A store that does not answer is asked again, after
    longer and longer pauses, and the run goes on.

    Args:
        store: The run's URL.
        folder: Its directory on this machine.
        sent: What of it the store has.
        lock: That has to be held; None where none is needed.

    Attributes:
        lost: Why nothing is sent any more: another process has the lock.
    """

    def __init__(self, store: Store, folder: Path, sent: Sent, lock: RemoteLock | None = None):
        self.store, self.folder, self.sent, self.lock = store, folder, sent, lock
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._keep_sending, name="poolformer-mirror", daemon=True)
        self._away: str | None = None
        self._pause_s = self._logs_due_s = 0.0

    @property
    def lost(self) -> str | None:
        return self.lock.lost if self.lock else None

    def start(self) -> None:
        """Send from now on, in a thread."""
        self._thread.start()

    def unsent(self) -> list[str]:
        """Return the names of what the store does not have yet, or has too much."""
        there = {name: stamp_of(path.stat()) for name, path in self._files()}
        return [name for name in {**self.sent.stamps, **there} if self.sent.stamps.get(name) != there.get(name)]

    def send(self, *, logs: bool = True) -> None:
        """Send what is new, and remove there what is gone here.

        Args:
            logs: Whether to do so where nothing but the curves is new.

        Raises:
            StoreError: Something could not be written; what was sent before is there as a whole.
            OSError: Something could not be read.
        """
        if any(self.folder.glob(f"{FOLDER}/*/{MARK}")):  # an earlier run is being moved, or is not
            return
        there = dict(self._files())
        gone = [name for name in self.sent.stamps if name not in there]
        with ExitStack() as stack:
            # Opened at once: what is replaced from here on is sent as it was, and never ahead of what comes before it.
            new = list(self._opened_if_new(there, stack))
            if not (gone or logs) and all(name.startswith("events.") for name, _ in new):
                return
            if self.lock and (new or gone):
                self.lock.verify()
            for name, file in sorted(new, key=_turn):
                self._send(name, file)
        for name in gone:
            self.store.remove(name)
            self.sent.remove(name)
        self._logs_due_s = time.monotonic() + _LOGS_EVERY_S

    def _opened_if_new(self, there: dict[str, Path], stack: ExitStack) -> Iterator[tuple[str, IO[bytes]]]:
        for name, path in there.items():
            with suppress(FileNotFoundError):  # it has just been replaced or moved
                if stamp_of(path.stat()) != self.sent.stamps.get(name):
                    yield name, stack.enter_context(path.open("rb"))

    def _send(self, name: str, file: IO[bytes]) -> None:
        stamp = stamp_of(os.fstat(file.fileno()))
        self.store.send(file, stamp[0], name, before=self.lock.verify if self.lock else lambda: None)
        self.sent.add(name, stamp)

    def _files(self) -> Iterator[tuple[str, Path]]:
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(folder, name)
                if not name.startswith(".") and path.is_file():  # what begins with a dot is not finished
                    yield path.relative_to(self.folder).as_posix(), path

    def _keep_sending(self) -> None:
        while not self._ends.wait(self._pause_s or _EVERY_S) and not self.lost:
            self._try(logs=self._away is not None or time.monotonic() > self._logs_due_s)

    def _try(self, *, logs: bool = True) -> bool:
        """Send; return whether the store has everything."""
        try:
            self.send(logs=logs)
        except (StoreError, OSError) as error:
            if self._away is None and not self.lost:
                rank_zero_info(
                    f"'{self.store.url}' cannot be written ({_text(error)}): what is to go there is kept in "
                    f"'{on_disk(self.folder)}', and sent as soon as it can be"
                )
            self._away = _text(error)
            self._pause_s = min(2 * self._pause_s or _EVERY_S, _LONGEST_PAUSE_S)
            return False
        if self._away is not None:
            rank_zero_info(f"'{self.store.url}' can be written again, and has everything")
        self._away, self._pause_s = None, 0.0
        return True

    def close(self) -> str | None:
        """Send the rest, with patience; return why that was not possible."""
        self._ends.set()
        deadline = time.monotonic() + PATIENCE_S
        if self._thread.ident is not None:
            self._thread.join()  # a slow store is one that answers
        if self._away and not self.lost and not self._try():
            rank_zero_info(f"Waiting up to {PATIENCE_S:.0f} s for '{self.store.url}'; Ctrl-C ends that")
        while not self.lost and not self._try():
            if time.monotonic() > deadline:
                break
            time.sleep(min(self._pause_s, 10))
        return self.lost or self._away


class EndWhenTakenOver(Callback):
    """Ends training when another process writes to the run's URL.

    Raises:
        RunError: It does.
    """

    def __init__(self, mirror: Mirror):
        self.mirror: Mirror | None = mirror

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.mirror is not None and self.mirror.lost:
            raise RunError(self.mirror.lost)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "mirror": None}  # a process that is spawned has no threads of this one


def _turn(opened: tuple[str, IO[bytes]]) -> tuple[bool, bool, int]:
    name, file = opened
    return not name.startswith(f"{FOLDER}/"), name.endswith(".ckpt"), os.fstat(file.fileno()).st_mtime_ns


def stamp_of(status: os.stat_result) -> list[int]:
    """Return what tells one content of a file from the next."""
    return [status.st_size, status.st_mtime_ns]


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, StoreError) else describe(error)
