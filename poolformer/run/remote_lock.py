"""The lock of a run at a URL: an object there that says who writes, and that this is still so."""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from ..errors import ConfigError
from ..files.store import Store, StoreError

NAME = ".poolformer-lock.json"
_BEAT_S = 15
_SILENCE_S = 90
_POLL_S = 1
_SETTLE_S = 1


class TakenOver(StoreError):
    """Another process writes to the URL now."""


class RemoteLock:
    """Lets one spool write to a URL.

    Clocks play no part: who holds the lock changes it every few seconds, and whoever wants it watches for a change, by
    a clock that only counts. The lock of a spool that the caller has locked on this machine is its own: the process
    that took it is gone. Stores that create a file only where there is none (S3, Google, disks) let one of two take
    it; elsewhere it is read back after a second.

    Args:
        store: The run's URL.
        owner: The spool's identity. It stays in the lock when that is let go: who reads its own wrote last.
    """

    def __init__(self, store: Store, owner: str):
        self.store, self.owner = store, owner
        self.lost: str | None = None
        self._said: dict[str, Any] = {}
        self._found: dict[str, Any] | None = None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="poolformer-lock", daemon=True)

    def wait(self) -> bool:
        """Wait until nobody else holds the lock; return whether this spool was the last to write.

        Raises:
            ConfigError: Another run is writing there.
            StoreError: The store does not answer.
        """
        found = self._found = read(self.store)
        if found is not None and not found.get("released") and found.get("owner") != self.owner:
            self._found = self._after_silence(found)
        return found is not None and found.get("owner") == self.owner

    def take(self) -> None:
        """Take the lock, and keep it until it is released.

        Raises:
            ConfigError: Another run has been faster.
            StoreError: It cannot be written.
        """
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        self._said = {"owner": self.owner, "host": socket.gethostname(), "pid": os.getpid(), "since": since, "beat": 0}
        failure: StoreError | None = None
        try:
            self._write(new=self._found is None)
        except StoreError as error:  # somebody else's has come, or it cannot be written: reading it tells
            failure = error
        if self._found is not None and self._found.get("owner") != self.owner:
            time.sleep(_SETTLE_S)
        now = read(self.store)
        if failure is not None and (now is None or now == self._found):
            raise failure
        if now is None or now.get("owner") != self.owner:
            raise ConfigError(self._refusal(now or {}))
        self._thread.start()

    def _after_silence(self, found: dict[str, Any]) -> dict[str, Any] | None:
        rank_zero_info(
            f"{_who(found)} has not let go of '{self.store.url}': waiting up to {_SILENCE_S} s for a sign of it"
        )
        deadline = time.monotonic() + _SILENCE_S
        while time.monotonic() < deadline:
            time.sleep(_POLL_S)
            now = read(self.store)
            if now is None or now.get("released"):
                return now
            if now != found:
                raise ConfigError(self._refusal(now))
        return found

    def _refusal(self, found: dict[str, Any]) -> str:
        return (
            f"another run is writing to '{self.store.url}': {_who(found)}. Wait for it, stop it, or choose another "
            "--trainer.default_root_dir"
        )

    def say(self, **facts: Any) -> None:
        """Say more in the lock, which the other processes of a run read."""
        self._said |= facts
        self._write()

    def verify(self) -> None:
        """Make sure that the lock is held.

        Raises:
            TakenOver: Another process has it.
            StoreError: The store does not answer.
        """
        found = read(self.store)
        if found is not None and found.get("owner", self.owner) != self.owner:
            self.lost = f"{_who(found)} has taken over '{self.store.url}': this run ends"
            raise TakenOver(self.lost)

    def release(self, *, undo: bool = False) -> None:
        """Let go.

        Args:
            undo: Whether to leave the lock as it was found, as nothing was written.
        """
        self._ends.set()
        if self._thread.ident is None or self.lost:
            return
        self._thread.join(_SILENCE_S)
        with suppress(StoreError):
            self.verify()
            if undo and self._found is None:
                self.store.remove(NAME)
                return
            self._said = (self._found if undo and self._found else self._said) | {"released": True}
            self._write()

    def _keep_beating(self) -> None:
        while not self._ends.wait(_BEAT_S):
            with suppress(StoreError):  # the mirror says so
                self.verify()
                self._said["beat"] += 1
                self._write()

    def _write(self, *, new: bool = False) -> None:
        self.store.write(NAME, json.dumps(self._said).encode(), new=new)


def read(store: Store) -> dict[str, Any] | None:
    """Return what the lock at a URL says, nothing for one that is torn; None where there is none.

    Raises:
        StoreError: The store does not answer.
    """
    content = store.read(NAME)
    try:
        found = None if content is None else json.loads(content)
    except ValueError:
        found = {}
    return found if isinstance(found, dict | None) else {}


def _who(found: dict[str, Any]) -> str:
    host, pid, since = (str(found.get(name, "?"))[:100] for name in ("host", "pid", "since"))
    return f"process {pid} of {host} (since {since})"
