"""A .beton at a URL, fetched once into a cache of this machine: whole and verified, or not at all."""

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..files import caches
from ..files.atomic_write import atomic_write, beginning, publish, unfinished_name
from ..files.folders import has_room
from ..files.lock import lock
from .beton import Beton
from .remote import RemoteFile
from .target import sidecar

PLACE = "POOLFORMER_DATA_CACHE"
"""Environment variable that names the cache; without it, ~/.cache/poolformer/data."""
WAIT_S = 0.5
_LINE_S = 30
_LARGEST_SIDECAR = 1 << 26
Say = Callable[[str], None]


def fetch(url: str, *, say: Say = print) -> Path:
    """Return the copy of a .beton at a URL, fetched unless there is one of the file as it is now.

    Of several processes that share a cache one fetches and the others wait. What came before a cut is kept, and the
    next fetch resumes there. A file that has changed since is fetched anew; the older copy stays, as another run
    may be reading it.

    Args:
        url: URL of the file, of any kind that fsspec opens.
        say: Takes lines about what is going on.

    Raises:
        ConfigError: There is no such kind of store, or its package is not installed.
        DataError: There is no such file, it may not be read, does not fit, or is not what was packed.
    """
    folder, name = _folder(url), _name(url)
    try:
        remote = RemoteFile(url)
    except ConnectionError as error:
        copies = sorted(folder.glob(f"*/{name}"), key=os.path.getmtime)
        if not copies:
            raise DataError(str(error)) from error
        say(f"{error}; the copy in '{copies[-1].parent}' is used as it is")
        return copies[-1]
    path = folder / remote.version / name
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _turn(folder, url, say) as is_alone:
            if not path.is_file():  # somebody else may have fetched it in the meantime
                _download(remote, path, is_alone, say)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(remote, path.parent, "it is full") from error
        raise DataError(
            f"{url} is kept in '{folder.parent}', which cannot be written ({error.strerror or error}): {PLACE} names "
            "another place"
        ) from error
    return path


def cache() -> Path:
    """Return the folder in which copies are kept; it need not exist.

    Raises:
        DataError: There is no place for one.
    """
    if given := os.environ.get(PLACE):
        return Path(given).expanduser().absolute()
    home = caches.home_cache()
    folder = home / "poolformer" / "data" if home is not None else None
    return folder if folder is not None and has_room(folder, make=True) else caches.private_cache() / "data"


def _folder(url: str) -> Path:
    readable = re.sub(r"[^\w.-]+", "-", _name(url))[:60]
    return cache() / f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def _name(url: str) -> str:
    return beginning(PurePosixPath(re.sub(r"[?#].*", "", url) if url.startswith("http") else url).name)


@contextmanager
def _turn(folder: Path, url: str, say: Say) -> Iterator[bool]:
    """Wait until no other process fetches the same; yields whether that is sure: some file systems have no locks."""
    descriptor, is_waiting = None, False
    while True:
        try:
            descriptor = lock(folder / ".lock", make=True)
            break
        except BlockingIOError:
            if not is_waiting:
                say(f"{url} is being fetched by another process: waiting for it")
            is_waiting = True
            time.sleep(WAIT_S)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _download(remote: RemoteFile, path: Path, is_alone: bool, say: Say) -> None:
    part = path.with_name(f"{path.name}.part") if is_alone else unfinished_name(path)
    start = part.stat().st_size if part.exists() else 0
    if start > (remote.size or 0):  # of an unknown size, or not what it should be
        part.unlink()
        start = 0
    _check_room(remote, path.parent, start)
    described = _description(remote.url)
    try:
        try:
            digest = _receive(remote, part, start, say)
        except DataError as error:
            kept = "; what came is kept, and the same command resumes there" if is_alone else ""
            raise DataError(f"{error}{kept}") from error
        fault = _fault(remote, part, digest, described)
        if fault:
            part.unlink()
            raise DataError(f"{remote.url}: {fault}")
        if described is not None:
            with atomic_write(sidecar(path)) as file:
                file.write(described)
        publish(part, path)
    finally:
        if not is_alone:
            part.unlink(missing_ok=True)
    older = [each.parent.name for each in path.parent.parent.glob(f"*/{path.name}") if each != path]
    if older:
        say(f"'{path.parent.parent}' holds {len(older)} older copies ({', '.join(older)}); remove what no run reads")


def _receive(remote: RemoteFile, part: Path, start: int, say: Say) -> str:
    """Append what is missing, and return the sha256 of all."""
    digest = hashlib.sha256()
    if start:
        with part.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    with part.open("ab") as file, Progress(remote.url, remote.size, start, say) as progress:
        for piece in remote.pieces(start):
            file.write(piece)
            digest.update(piece)
            progress(len(piece))
    return digest.hexdigest()


def _fault(remote: RemoteFile, part: Path, digest: str, described: bytes | None) -> str:
    """Say what is wrong with a file that came; empty where nothing is."""
    size = part.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"{size} bytes came of {remote.size}; fetch it again"
    if not remote.is_still():
        return "it changed while it was fetched; fetch it again"
    if described is not None and json.loads(described)["sha256"] != digest:
        return f"its sha256 is not the one in {remote.url}.json: it was damaged on its way, or one of them was replaced"
    if described is None:
        try:
            Beton(part)
        except DataError as error:
            return str(error).replace(f"'{part}'", "").lstrip(", ")
    return ""


def _description(url: str) -> bytes | None:
    """Return the description beside a file; None where there is none, or something else of that name."""
    if "?" in url:  # signed for this file alone
        return None
    try:
        beside = RemoteFile(f"{url}.json")
        if (beside.size or 0) > _LARGEST_SIDECAR:
            return None
        content = b"".join(beside.pieces())
        return content if re.fullmatch(r"[0-9a-f]{64}", json.loads(content)["sha256"]) else None
    except (DataError, ConnectionError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _check_room(remote: RemoteFile, folder: Path, there: int) -> None:
    free = shutil.disk_usage(folder).free
    if remote.size is not None and remote.size - there > free:
        raise _no_room(remote, folder, f"{_size(free)} are free")


def _no_room(remote: RemoteFile, folder: Path, found: str) -> DataError:
    needs = f"needs {_size(remote.size)}" if remote.size is not None else "needs more room"
    return DataError(f"{remote.url} {needs}, and in '{folder}' {found}: {PLACE} names a larger place")


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"


class Progress:
    """A bar on a terminal's stderr; in a log file a line twice a minute.

    Args:
        what: What is fetched.
        total: Bytes; None where nobody knows.
        done: Bytes that are there.
        say: Takes the lines.
    """

    def __init__(self, what: str, total: int | None, done: int, say: Say) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        console = Console(stderr=True)
        columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=total, completed=done)
        self._what, self._total, self._done, self._first, self._say = what, total, done, done, say
        self._start = self._said = time.monotonic()

    def __enter__(self) -> "Progress":
        going_on = f", from byte {self._done} on" if self._done else ""
        self._say(f"fetching {self._what}{f' ({_size(self._total)})' if self._total else ''}{going_on}")
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, came: int) -> None:
        """Count bytes that came."""
        self._done += came
        self._bar.update(self._task, completed=self._done)
        now = time.monotonic()
        if self._bar.disable and now - self._said > _LINE_S:
            self._said = now
            rate = (self._done - self._first) / (now - self._start)
            left = (
                f" of {_size(self._total)}, {(self._total - self._done) / rate / 60:.0f} min left"
                if self._total
                else ""
            )
            self._say(f"{self._what}: {_size(self._done)}{left}, {rate / 1e6:.0f} MB/s")
