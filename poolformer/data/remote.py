"""A file at a URL, read from its beginning or from where a reading was cut, whatever kind of store it lies in."""

import functools
import hashlib
import logging
import time
from collections.abc import Iterator
from typing import Any

from ..errors import DataError, describe
from ..files.store import filesystem
from . import patience
from .threads import in_order

PIECE = 1 << 24
"""Bytes of a request: enough that waiting for its answer costs little."""
_AT_ONCE = 4
_SILENCE_S = 60
# What stores call the things that change with a file.
_CHANGING = (
    *("etag", "lastmodified", "last-modified", "mtime", "updated", "generation"),
    *("content-md5", "md5hash", "blob_id", "created", "size"),
)

_log = logging.getLogger(__name__)


class RemoteFile:
    """A file at a URL, as fsspec opens it.

    Args:
        url: Its URL.

    Attributes:
        size: Bytes; None where the server does not say.
        version: Changes when the file does, as far as the store tells.

    Raises:
        ConfigError: There is no such kind of store, or its package is not installed.
        DataError: There is no such file, or it may not be read.
        ConnectionError: The store does not answer.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._is_http = url.startswith(("http://", "https://"))
        self._fs, self._path = filesystem(url, **(_patient_client() if self._is_http else {}))
        info = self._info()
        if info.get("type", "file") != "file":
            raise DataError(f"{url} is a folder, not a file")
        self.size: int | None = info.get("size")
        known = {name.lower(): str(value) for name, value in info.items()}
        told = "\n".join(f"{name}={known[name]}" for name in _CHANGING if name in known)
        self.version = hashlib.sha256(told.encode()).hexdigest()[:12]

    def is_still(self) -> bool:
        """Return whether the file has not changed since."""
        return RemoteFile(self.url).version == self.version

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """Yield the file from a byte on, in pieces; resumes a moment later where the connection is cut.

        Raises:
            DataError: It ends too early, is gone or refused, or nothing came after all the attempts.
        """
        place, failures = start, 0
        while self.size is None or place < self.size:  # a server refuses to begin behind the end
            try:
                for piece in self._stream(place) if self._is_http else self._ranges(place):
                    place, failures = place + len(piece), 0
                    yield piece
                if self.size is None or place >= self.size:
                    return
                raise ConnectionError(f"the connection ended at byte {place} of {self.size}")
            except DataError:
                raise
            except Exception as error:  # of botocore, aiohttp, Google and others, which have no class in common
                told = self._told(error)
                if isinstance(told, DataError) or failures == len(patience.PAUSES_S):
                    raise DataError(str(told)) from error
                _log.warning("%s; trying again in %s s", told, patience.PAUSES_S[failures])
                time.sleep(patience.PAUSES_S[failures])
                failures += 1

    def _info(self) -> dict[str, Any]:
        try:
            self._fs.invalidate_cache()
            return self._fs.info(self._path)
        except Exception as error:  # as above
            raise self._told(error) from error

    def _ranges(self, start: int) -> Iterator[bytes]:
        """Several requests at once: a store of objects hands out one at a fraction of the line's speed."""
        assert self.size is not None
        size = self.size

        def read(place: int) -> bytes:
            return self._fs.cat_file(self._path, start=place, end=min(size, place + PIECE))

        places = range(start, size, PIECE)
        for place, piece in zip(places, in_order(read, places, workers=_AT_ONCE, ahead=_AT_ONCE), strict=True):
            yield piece
            if len(piece) < min(PIECE, size - place):
                return  # cut short: what follows would stand in its place

    def _stream(self, start: int) -> Iterator[bytes]:
        """One request, as some servers of HTTP give no parts; of what one sends anew, the beginning is dropped."""
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        with self._fs.open(self._path, "rb", block_size=0, headers=headers) as file:
            left_out = start if start and file.r.status != 206 else 0
            for piece in iter(functools.partial(file.read, 1 << 20), b""):
                if left_out < len(piece):
                    yield piece[left_out:]
                left_out = max(0, left_out - len(piece))

    def _told(self, error: BaseException) -> Exception:
        """Return what a store's exception says: a DataError for what will not pass, else a ConnectionError."""
        first = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        status = getattr(first, "status", None)
        response = getattr(first, "response", None)  # botocore's is a mapping, that of others an object
        if status is None and not isinstance(response, dict):
            status = getattr(response, "status_code", None)
        if type(first).__name__ in ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"):
            return DataError(f"{self.url}: there are no credentials for it here; set those of its store ({first})")
        if isinstance(first, PermissionError) or status in (401, 403):
            return DataError(f"{self.url} may not be read: check the credentials and the address ({_line(first)})")
        if status in (404, 410) or (first is error and isinstance(error, FileNotFoundError)):
            return DataError(f"there is no file {self.url}")
        return ConnectionError(f"{self.url} cannot be read ({_line(first)})")


def _patient_client() -> dict[str, Any]:
    """Return options of fsspec's HTTP: aiohttp gives up after five minutes, in the middle of a large file."""
    import aiohttp

    return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S)}}


def _line(error: BaseException) -> str:
    return describe(error)[:200]
