"""A folder at a URL, as fsspec opens it: files are read and written there as a whole, or not at all."""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ..errors import ConfigError, describe
from .atomic_write import atomic_write

_CHUNK = 1 << 22
_UNFINISHED = re.compile(r"(.*/)?\.[^/]+\.[0-9a-f]{8}\.tmp")


class StoreError(Exception):
    """What a store refuses or does not answer, in a line: each kind of store has exceptions of its own."""


class Store:
    """The files below a URL, by their names from there.

    Args:
        url: Of the folder, which need not exist.

    Raises:
        ConfigError: There is no such kind of store, or its package is not installed.
    """

    def __init__(self, url: str):
        from fsspec.asyn import AsyncFileSystem

        self.url = url.rstrip("/")
        if "://" not in self.url:  # which fsspec takes for a path of this machine
            raise ConfigError(f"{url} names no folder")
        self._fs, self._root = filesystem(self.url)
        # Those of objects have no folders to make: s3fs would make a bucket. There a copy replaces a name at once.
        self._has_folders = not isinstance(self._fs, AsyncFileSystem)

    def names(self, folder: str | None = None) -> list[str]:
        """Return the names of all files, or of those of a folder that do not lie deeper."""
        with _told():
            self._fs.invalidate_cache()
            try:
                if folder is None:
                    found = self._fs.find(self._root)
                else:
                    found = self._fs.find(self._path(folder).rstrip("/"), maxdepth=1)
            except FileNotFoundError:
                return []
        prefix = f"{self._root.rstrip('/')}/"
        return sorted(path.removeprefix(prefix) for path in found if path.startswith(prefix))

    def has(self, name: str) -> bool:
        """Return whether there is a file; nothing else is looked at, as a bucket may hold millions."""
        with _told():
            self._fs.invalidate_cache()
            try:
                return self._fs.info(self._path(name))["type"] == "file"
            except FileNotFoundError:
                return False

    def read(self, name: str) -> bytes | None:
        """Return what a small file holds; None where there is none."""
        with _told():
            self._fs.invalidate_cache()
            try:
                return self._fs.cat_file(self._path(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes, *, new: bool = False) -> None:
        """Write a small file in one piece.

        Args:
            name: Its name.
            content: What it is to hold.
            new: Whether to refuse, as far as the store can, where there is one of this name.
        """
        with _told():
            self._make_folder(name)
            self._fs.pipe_file(self._path(name), content, **({"mode": "create"} if new else {}))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with _told(), suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def fetch(self, name: str, file: Path) -> None:
        """Copy a file to this machine; what is there under its name is replaced by a whole file alone."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with _told():
            self._fs.invalidate_cache()
            size = self._fs.info(self._path(name))["size"]
            with self._fs.open(self._path(name), "rb") as source, atomic_write(file) as target:
                read = sum(target.write(chunk) for chunk in _chunks(source))
                if size is not None and read != size:
                    raise StoreError(f"of {name} came {read} of {size} bytes")

    def send(self, source: IO[bytes], size: int, name: str, *, before: Callable[[], Any] = lambda: None) -> None:
        """Copy from a file of this machine: beside the name, read back, compared, and only then under the name.

        Args:
            source: The file, opened.
            size: Bytes of it to send.
            name: The name there.
            before: Called right before the name is given.

        Raises:
            StoreError: It could not be written, or what was read back is not what was sent; the name is as it was.
        """
        folder, slash, last = name.rpartition("/")
        unfinished = f"{folder}{slash}.{last}.{secrets.token_hex(4)}.tmp"
        try:
            with _told():
                self._make_folder(name)
                digest = hashlib.sha256()
                with self._fs.open(self._path(unfinished), "wb") as target:
                    for chunk in _chunks(source, size):
                        digest.update(chunk)
                        target.write(chunk)
                self._fs.invalidate_cache()
                with self._fs.open(self._path(unfinished), "rb") as written:
                    back = hashlib.sha256()
                    for chunk in _chunks(written):
                        back.update(chunk)
                if back.digest() != digest.digest():
                    raise StoreError(f"{name} read back is not what was written")
                before()
                self._give_name(unfinished, name, size)
        finally:
            with suppress(StoreError):
                self.remove(unfinished)

    def _give_name(self, unfinished: str, name: str, size: int) -> None:
        if self._has_folders:
            self._fs.mv(self._path(unfinished), self._path(name))
        else:
            self._fs.cp_file(self._path(unfinished), self._path(name))
        self._fs.invalidate_cache()
        if self._fs.info(self._path(name))["size"] != size:
            raise StoreError(f"{name} has another size than what was written")

    def remove_unfinished(self, names: list[str]) -> None:
        """Remove what killed writes have left, of names that are there."""
        for name in names:
            if _UNFINISHED.fullmatch(name):
                self.remove(name)

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _make_folder(self, name: str) -> None:
        if self._has_folders:
            self._fs.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)


def filesystem(url: str, **options: Any) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path there.

    Args:
        url: The URL.
        options: Of this kind of file system.

    Raises:
        ConfigError: There is no such kind of store, or its package is not installed.
    """
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(url, **options)
    except ImportError as error:
        package = re.search(r"nstall (?:the )?([\w.-]+)", str(error))
        remedy = f"pip install {package[1]}" if package else describe(error)
        raise ConfigError(f"{url} needs a package that is not installed: {remedy}") from error
    except Exception as error:  # whatever a store's constructor finds wrong with an address or its environment
        raise ConfigError(f"{url} cannot be opened: {describe(error)}") from error


def _chunks(file: IO[bytes], size: int | None = None) -> Iterator[bytes]:
    """Yield a file in pieces, up to a size if one is given."""
    while chunk := file.read(_CHUNK if size is None else min(_CHUNK, size)):
        size = None if size is None else size - len(chunk)
        yield chunk


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except NotImplementedError as error:
        raise StoreError("such URLs cannot be written to") from error
    except Exception as error:  # of botocore, aiohttp, Google and others, which have no class in common
        raise StoreError(describe(error)[:300]) from error
