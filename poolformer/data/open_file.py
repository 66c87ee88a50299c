"""A file open for reading at any place, by any number of threads."""

import os
import threading
import weakref
from pathlib import Path

from .patience import read_at


class OpenFile:
    """A file, closed when nobody holds this object.

    Args:
        path: Path of the file.

    Attributes:
        size: Bytes, when it was opened.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self.descriptor)
        self.size = os.fstat(self.descriptor).st_size
        self._lock = threading.Lock()

    def read(self, place: int, size: int, name: str) -> bytes:
        """Return bytes of the file; fewer where it ends.

        Args:
            place: Place of the first.
            size: How many.
            name: Name of what is read, for the log.

        Raises:
            OSError: The disk refuses, again and again.
        """
        if hasattr(os, "pread"):
            return read_at(self.descriptor, place, size, name)
        with self._lock:  # Windows
            os.lseek(self.descriptor, place, os.SEEK_SET)
            return os.read(self.descriptor, size)
