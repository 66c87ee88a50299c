"""Where `poolformer pack` writes: what may stand there, who else is at it, and a file and its description as a pair."""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from ..errors import DataError
from ..files.atomic_write import beginning, sync_folder, unfinished_name
from ..files.lock import is_still, lock
from ..signals import handling

_ENDING = ".beton"
_NEAR = 0.75  # .bin is another ending, .betn is none


def sidecar(path: Path) -> Path:
    """Return where the description of a .beton file stands."""
    return path.with_name(path.name + ".json")


def checked_target(text: str, *, overwrite: bool) -> Path:
    """Return the file that DST means, behind links, once it is known that it may be written.

    Raises:
        DataError: Its ending is mistyped; it is a folder, a device, already there, in no folder, or another process is
            writing it.
    """
    given = Path(text).expanduser()
    if given.suffix != _ENDING and get_close_matches(given.suffix, [_ENDING], cutoff=_NEAR):
        meant = given.with_suffix(_ENDING)
        raise DataError(f"'{given}' ends in {given.suffix}: did you mean '{meant}'? Other commands go by {_ENDING}")
    try:
        path = Path(os.path.realpath(given))
        if path.is_symlink():
            raise DataError(f"'{given}' is a link that leads to itself: remove it")
        if path.is_dir():
            raise DataError(f"'{given}' is a folder: give the file to write in it, such as '{given / 'train.beton'}'")
        if not path.parent.is_dir() or text.endswith(("/", os.sep)):
            folder = text if path.parent.is_dir() else path.parent
            raise DataError(f"there is no folder '{folder}' to write '{path.name}' into")
        refuse_existing(path, overwrite=overwrite)
        with locked(path):  # it can be written there, and nobody else does
            return path
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"'{given}' cannot be written: {getattr(error, 'strerror', None) or error}") from error


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse a target that holds what must not be replaced.

    Raises:
        DataError: The name or that of its description is taken, by something that is no file or without `overwrite`.
    """
    for taken in (path, sidecar(path)):
        if taken.exists() and not taken.is_file():
            raise DataError(f"'{taken}' is {'a folder' if taken.is_dir() else 'no regular file'} and is not replaced")
    if path.exists() and not overwrite:
        raise DataError(f"'{path}' is already there: --overwrite replaces it")
    if sidecar(path).exists() and not overwrite and not _describes(sidecar(path)):
        raise DataError(
            f"'{sidecar(path)}' is already there and describes no .beton file: --overwrite replaces it by the "
            f"description of '{path.name}'"
        )


def is_packed(text: str) -> bool:
    """Return whether DST is a file with its description beside it, which are given their names when all is in it."""
    path = Path(os.path.realpath(Path(text).expanduser()))
    return path.is_file() and sidecar(path).is_file() and _describes(sidecar(path))


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Be the only process that writes to `path`, and remove what killed ones left half written.

    Yields:
        Whether it is locked. On a file system without locks nothing is, and nothing is removed.

    Raises:
        DataError: Another process holds it.
        OSError: Nothing can be written beside it.
    """
    name = path.with_name(f".{beginning(path.name)}.lock")
    descriptor, is_ours = None, False
    try:
        with _signals_later():
            descriptor, is_ours = _take(name, path), True
        if descriptor is not None:
            _remove_unfinished(path)
        yield descriptor is not None
    finally:
        if is_ours:
            name.unlink(missing_ok=True)  # while it is held: who opened it before looks again, see _take
        if descriptor is not None:
            os.close(descriptor)


def publish_pair(beton: Path, description: Path, path: Path) -> None:
    """Give a finished file and its description their names; at no moment does a description stand beside another file.

    Args:
        beton: File, finished and flushed to the disk.
        description: Its description, likewise flushed.
        path: Path of the .beton file to be.

    Raises:
        OSError: The disk refuses; what was there is still there, or all of the new.
    """
    aside = unfinished_name(sidecar(path))
    with _signals_later():
        try:
            if sidecar(path).exists():
                os.replace(sidecar(path), aside)
                sync_folder(path.parent)
            os.replace(beton, path)
        except OSError:
            if aside.exists():
                os.replace(aside, sidecar(path))
            raise
        try:
            os.replace(description, sidecar(path))
            sync_folder(path.parent)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def _signals_later() -> Iterator[None]:
    """Have signals that would end the command wait for the end of these few file operations."""
    waiting: list[int] = []
    kinds = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    with handling({kind: lambda signum, frame: waiting.append(signum) for kind in kinds}):
        yield
    for signum in waiting:
        signal.raise_signal(signum)


def _take(name: Path, path: Path) -> int | None:
    while True:
        try:
            descriptor = lock(name, make=True)
        except BlockingIOError as error:
            raise DataError(
                f"'{path}' is being written by another `poolformer pack`: wait for it or stop it"
            ) from error
        # Whoever held it before may have removed the name since it was opened.
        if descriptor is None or is_still(descriptor, name):
            return descriptor
        os.close(descriptor)


def _remove_unfinished(path: Path) -> None:
    ours = re.compile(rf"\.{re.escape(beginning(path.name))}(\.json)?\.\d+-[0-9a-f]{{6}}\.tmp")
    for name in os.listdir(path.parent):
        if ours.fullmatch(name):
            path.with_name(name).unlink(missing_ok=True)


def _describes(path: Path) -> bool:
    try:
        return {"sha256", "classes"} <= json.loads(path.read_bytes()).keys()
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
