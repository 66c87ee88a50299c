"""A tar at a URL, packed as it comes: nothing of it is kept on a disk."""

import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from ..errors import DataError
from .class_folders import LARGEST_FILE
from .classes import classes_of, part_of
from .listing import is_hidden, is_image
from .pack_stream import Settled
from .remote import RemoteFile
from .tar_archive import decompressor, is_tar, list_tar, parts_inside
from .tar_members import FILE, UNKNOWN_END, Member, members

_BYTES_AN_IMAGE = 110_000
"""Of ImageNet's."""
_CHUNK, _BEHIND = 1 << 20, 1 << 21


class TarStream:
    """The image files in a tar at a URL, as `ArchiveFiles` finds them in one on a disk.

    Args:
        url: URL of the tar, compressed or not.
        split: Take only what lies below a folder of this name, such as `train`.

    Attributes: see `pack_stream.ImageStream`.

    Raises:
        DataError: There is no such file, or it may not be read.
        ConfigError: Its kind of store is not available.
    """

    def __init__(self, url: str, *, split: str | None = None) -> None:
        try:
            remote = RemoteFile(url)
        except ConnectionError as error:
            raise DataError(str(error)) from error
        self.path, self.size = Path(PurePosixPath(url).name), UNKNOWN_END
        self.names: list[str] = []
        self.class_names: list[str] = []
        self.remarks = ""
        self.estimate = (remote.size or 0) // _BYTES_AN_IMAGE
        self._url, self._split = url, split
        self._wanted = {part for part in (split or "").split("/") if part}
        raw = _Pieces(remote.pieces())
        head = raw.peek(512)
        unpack = decompressor(head)
        if unpack is None and remote.size is not None:
            self.size = remote.size
        self._window = _Window(unpack(cast(IO[bytes], raw)) if unpack else raw)
        self._members: dict[int, list[Member]] = {}
        self._number: dict[int, int] = {}

    def images(self) -> Iterator[bytes | DataError]:
        """Yield the images in the order of the archive."""
        try:
            yield from self._images(0, self.size, f"'{self._url}'", ())
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"'{self._url}' cannot be unpacked: {error}") from error

    def members(self, start: int, end: int, where: str) -> Iterator[Member]:
        """Yield the members again that came."""
        yield from self._members[start]

    def settle(self, packed: list[int]) -> Settled:
        """Find the classes as in an archive on a disk, links and all.

        Raises:
            DataError: There are no classes.
        """
        listing = list_tar(self)
        if self._split:
            listing = part_of(listing, self._split, self.path)
        classes = classes_of(listing, Path(self._url), split=self._split, is_archive=True)
        self.class_names, self.remarks = classes.names, classes.remarks
        there = {*packed}
        numbers = [self._number.get(image.place[0], -1) for image in classes.images]
        self.names = [f"{self._url}:{'/'.join((*image.folders, image.name))}" for image in classes.images]
        pairs = [pair for pair in zip(numbers, classes.labels, strict=True) if pair[0] in there]
        return Settled([number for number, _ in pairs], [label for _, label in pairs], len(numbers))

    def _images(self, start: int, end: int, where: str, front: tuple[str, ...]) -> Iterator[bytes | DataError]:
        seen = self._members.setdefault(start, [])
        for member in members(self._window.read, start, end, where):
            seen.append(member)
            path = parts_inside(front, member.name)
            if member.kind != FILE or not path or any(map(is_hidden, path)):
                continue
            if is_tar(path[-1]) and not front:
                name = (*path[:-1], path[-1][: -len(".tar")])
                inside = f"{where}: its member '{'/'.join(path)}'"
                yield from self._images(member.place, member.place + member.size, inside, name)
            elif is_image(path[-1]) and self._wanted <= {*path[:-1]}:
                self._number[member.place] = len(self.names)
                self.names.append(f"{self._url}:{'/'.join(path)}")
                yield self._content(member)

    def _content(self, member: Member) -> bytes | DataError:
        if member.size > LARGEST_FILE:
            return DataError(f"'{self.names[-1]}': has {member.size} bytes, more than an image can have; leave it out")
        data = self._window.read(member.place, member.size)
        if len(data) < member.size:
            raise DataError(f"'{self._url}' ends in '{member.name}': it is cut off")
        return data


class _Pieces(io.RawIOBase):
    """Pieces that come, as a file that is read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def readable(self) -> bool:
        return True

    def peek(self, size: int) -> bytes:
        while len(self._rest) < size and (more := next(self._pieces, b"")):
            self._rest += more
        return self._rest[:size]

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join([self._take(1 << 62), *self._pieces])
        return self._take(size)

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        data = self._take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _take(self, size: int) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class _Window:
    """Reads a file from place to place, forwards, and a little backwards."""

    def __init__(self, file: IO[bytes] | io.RawIOBase) -> None:
        self._file, self._data, self._start = file, bytearray(), 0

    def read(self, place: int, size: int) -> bytes:
        assert place >= self._start, "a stream goes forwards"
        while self._start + len(self._data) < place + size:
            behind = min(place - self._start, len(self._data)) - _BEHIND
            if behind > 0:
                del self._data[:behind]
                self._start += behind
            more = self._file.read(_CHUNK)
            if not more:
                break
            self._data += more
        at = place - self._start
        return bytes(self._data[at : at + size])
