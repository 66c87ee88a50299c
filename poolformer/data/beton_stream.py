"""The .beton format on its way into a file: images one after the other, the index and the notes last."""

import json
import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np

from ..files.atomic_write import atomic_write
from .beton import FIELD, HEADER, IMAGE_FIELD, INT_FIELD, MAGIC, NOTES, PAGE, ROW, VERSION, Stored, index_crc
from .beton_index import ALLOCATION


class Placed(NamedTuple):
    """An image whose bytes stand in the file already, with their CRC-32."""

    mode: int
    height: int
    width: int
    size: int
    crc: int
    place: int
    """Of its first byte, in the file."""


class BetonWriter:
    """Writes a .beton file that appears under its name only when it is complete.

    Use it as a context, which gives a `BetonStream`: leaving it by an exception removes what was written.

    Args:
        path: Path of the file to be.
        capacity: Samples to make room for; fewer may come.
    """

    def __init__(self, path: str | os.PathLike[str], *, capacity: int) -> None:
        self._opening, self._capacity = atomic_write(Path(path)), capacity

    def __enter__(self) -> "BetonStream":
        return BetonStream(self._opening.__enter__(), capacity=self._capacity)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opening.__exit__(kind, error, trace)


class BetonStream:
    """The content of a .beton file on its way into an open file that can seek.

    Args:
        file: An empty file.
        capacity: Samples to make room for; fewer may come.
    """

    def __init__(self, file: IO[bytes], *, capacity: int) -> None:
        self._file = file
        self._index = np.zeros(capacity, ROW)
        self._allocations = np.zeros(capacity, ALLOCATION)
        self._crcs = np.zeros(capacity, "<u4")
        self._samples, self._page_size = 0, PAGE
        self._end = _round_up(HEADER.itemsize + 2 * FIELD.itemsize + self._index.nbytes, PAGE)

    @property
    def end(self) -> int:
        """Where the bytes of the images end."""
        return self._end

    def add(self, image: Stored, label: int) -> Placed:
        """Append a sample."""
        size, crc = len(image.data), zlib.crc32(image.data.data)
        placed = Placed(image.mode, image.height, image.width, size, crc, self._place_of(size))
        self._file.seek(placed.place)
        self._file.write(image.data.data)
        self.enter(placed, label)
        return placed

    def enter(self, image: Placed, label: int) -> None:
        """Append a sample whose bytes were written before: samples have to come as they came then."""
        n = self._samples
        assert image.place == self._place_of(image.size), "samples come in the order of their places"
        self._page_size = self._page_for(image.size)
        self._index[n] = (image.mode, image.width, image.height, image.place), label
        self._allocations[n] = n, image.place, image.size
        self._crcs[n] = image.crc
        self._end = image.place + image.size
        self._samples += 1

    def _place_of(self, size: int) -> int:
        # ffcv may read page by page, so that no image may lie across two.
        page_size = self._page_for(size)
        return self._end if self._end % page_size + size <= page_size else _round_up(self._end, page_size)

    def _page_for(self, size: int) -> int:
        # An image larger than a page makes them larger: those before stay within one, as sizes are powers of two.
        return max(self._page_size, 1 << (size - 1).bit_length())

    def finish(self, class_names: list[str], settings: dict[str, Any]) -> None:
        """Write what is known only now; to be called once, last."""
        n = self._samples
        text = json.dumps({"classes": class_names, "settings": settings}).encode()
        block = text + self._crcs[:n].tobytes()
        header = np.zeros(1, HEADER)
        header[0] = VERSION, 2, self._page_size, n, self._end + len(block)
        crc = index_crc(header[0], self._index[:n], self._allocations[:n])
        notes = np.array([(MAGIC, self._end, len(text), zlib.crc32(block), crc)], NOTES)
        fields = np.zeros(2, FIELD)
        fields[0] = IMAGE_FIELD, b"image", np.void(notes.tobytes().ljust(1024, b"\0"))
        fields[1] = INT_FIELD, b"label", np.void(bytes(1024))
        self._file.seek(self._end)
        self._file.write(block + self._allocations[:n].tobytes())
        self._file.seek(0)
        self._file.write(header.tobytes() + fields.tobytes() + self._index[:n].tobytes())
        self._file.flush()
        os.fsync(self._file.fileno())


def _round_up(place: int, step: int) -> int:
    return -(-place // step) * step
