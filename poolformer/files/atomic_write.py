"""Writing files so that under a name there is always a whole one, whatever dies when: beside it, flushed, renamed."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_LONGEST = 200
_FLUSHES_NO_FOLDERS = {errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EISDIR}


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb", **options: Any) -> Iterator[IO[Any]]:
    """Open a file to write that replaces the one at ``path`` when the block ends, and only if it ends without an error.

    Args:
        path: The file to be.
        mode: ``wb`` or ``w``.
        options: What ``open`` takes: encoding, newline.

    Raises:
        OSError: It cannot be written, or what stands there is no regular file.
    """
    with replacing(path) as unfinished, unfinished.open(mode, **options) as file:
        yield file


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a name beside ``path`` for those that write to names; what is there at the end becomes ``path``.

    Raises:
        OSError: As `atomic_write`.
    """
    path = _regular(path)
    unfinished = unfinished_name(path)
    try:
        yield unfinished
        publish(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_name(path: Path) -> Path:
    """Return a name beside ``path`` that no other process uses."""
    return path.with_name(f".{beginning(path.name)}.{os.getpid()}-{secrets.token_hex(3)}.tmp")


def beginning(name: str) -> str:
    """Return a file's name, of a long one as much as leaves room for more: a name has at most 255 bytes."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= _LONGEST else encoded[:_LONGEST].decode(errors="ignore")


def publish(unfinished: Path, path: str | Path) -> None:
    """Give a finished file of the same file system its name, so that it lasts through a power cut.

    Raises:
        OSError: As `atomic_write`.
    """
    path = _regular(path)
    with unfinished.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last through a power cut, where the system can.

    Raises:
        OSError: The disk refuses. A folder that may be written and not read, and a file system that flushes no folders,
            as some of FUSE and SMB, do not.
    """
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FLUSHES_NO_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def _regular(path: str | Path) -> Path:
    """Return where a file really stands, so that a link stays one; refuse devices and folders."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path
