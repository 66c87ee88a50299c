"""Locks on folders and files: one process holds one; the system lets go when it ends, however it does."""

import os
from pathlib import Path

from ..errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module elsewhere


class RunLock:
    """Makes a directory where there is none, and locks it.

    Args:
        folder: The run's directory.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._descriptor: int | None = None
        self._made: list[Path] = []

    def take(self) -> None:
        """Lock the directory.

        Raises:
            ConfigError: Another run is writing there, or there can be no such directory.
        """
        try:
            free = self._take()
        except OSError as error:
            self.discard()
            raise ConfigError(f"the run cannot be written to '{self.folder}' ({error.strerror})") from error
        if not free:
            raise ConfigError(
                f"another run is writing to '{self.folder}': wait for it, stop it, or choose another "
                "--trainer.default_root_dir"
            )

    def _take(self) -> bool:
        while True:
            missing = [each for each in [self.folder, *self.folder.parents] if not each.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
            self._made += missing
            try:
                descriptor = lock(self.folder)
            except BlockingIOError:
                self._made.clear()  # it is the other's now
                return False
            # A start that failed may have removed the directory between the two.
            if descriptor is None or is_still(descriptor, self.folder):
                self._descriptor = descriptor
                return True
            os.close(descriptor)

    def release(self) -> None:
        """Let go of the directory."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def discard(self) -> None:
        """Let go, and remove the folders that were made, as far as they are empty."""
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:
                break
        self._made.clear()
        self.release()

    def __getstate__(self) -> dict[str, object]:
        # Another process that gets this object does not hold the lock: the one that launched it does.
        return {**vars(self), "_descriptor": None, "_made": []}


def lock(path: Path, *, make: bool = False) -> int | None:
    """Lock a folder or file until the descriptor that is returned is closed; None where there are no locks.

    Args:
        path: The folder or file.
        make: Whether to make a file where there is none.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: It cannot be opened, or made.
    """
    if fcntl is None and not make:
        return None
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR if make else os.O_RDONLY, 0o666)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # a file system without locks
        pass
    os.close(descriptor)
    return None


def is_still(descriptor: int, path: Path) -> bool:
    """Return whether a path means what a descriptor was opened of: somebody may have removed it in between."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
