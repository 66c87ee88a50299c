"""The tables of a .beton file: a row of the index, of the allocations and a checksum for each sample.

They are read in blocks when the file is opened, and checked. What is said of a few million samples is then held in
memory; of more, labels and checksums, and the rows of a batch are read when they are asked for (beton_rows.py). Nothing
is mapped: of a file that is cut off later, or a disk that fails, a memory map ends the process by a signal.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

JPEG, RAW = 0, 1
"""How an image is stored: `mode` of a row of the index."""

IMAGE = np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("place", "<u8")])
ALLOCATION = np.dtype([("sample", "<u8"), ("place", "<u8"), ("size", "<u8")])

MOST_HELD = 1 << 21
"""Samples whose rows are held, in 21 bytes each."""
_BLOCK = 1 << 16
_RARE = 16
"""Where more than one of so many images is followed by a gap, all rows are held."""

Read = Callable[[int, int], bytes]
"""(place, size): all these bytes of the file, or an error that names it."""


class Entries(NamedTuple):
    """Where the images of some samples lie, and what the index says of them; an array each."""

    mode: np.ndarray
    """uint8, JPEG or RAW."""
    height: np.ndarray
    """int32."""
    width: np.ndarray
    """int32."""
    place: np.ndarray
    """int64, of the first byte in the file."""
    size: np.ndarray
    """int64, bytes."""
    crc: np.ndarray | None
    """uint32, of the stored bytes; None where the file has no checksums."""

    @classmethod
    def joined(cls, parts: Sequence["Entries"]) -> "Entries":
        """Return those of several files, all of which have checksums or none."""
        *columns, crcs = zip(*parts, strict=True)
        return cls._make([*map(np.concatenate, columns), None if crcs[0] is None else np.concatenate(crcs)])

    def at(self, places: "np.ndarray | slice") -> "Entries":
        """Return some of them."""
        return Entries._make(None if column is None else column[places] for column in self)


class Layout(NamedTuple):
    """Where the tables of a file lie."""

    samples: int
    start: int
    """Place of the index."""
    row: np.dtype
    """Of the index, with the fields `image` and `label`."""
    allocations: int
    """Place of the allocation table; no image lies behind it."""

    @property
    def images(self) -> int:
        """Place before which no image lies."""
        return self.start + self.samples * self.row.itemsize


class Scan(NamedTuple):
    """What one pass over the tables finds."""

    labels: np.ndarray
    """(samples,), of the smallest of int8 to int64 that holds them."""
    crc: int
    """Of header, index and allocation table."""
    negative: int | None
    """The first sample with a negative label."""
    unsound: int | None
    """The first sample whose row cannot be true."""
    held: Entries | None
    """Of all samples, as narrow as they were stored; None where their rows are to be read when they are asked for."""
    gaps: "Gaps"
    """Filled where nothing is held."""


class Gaps(NamedTuple):
    """The samples whose images do not end where the next one's begins, as at the end of a page."""

    samples: np.ndarray
    """int64, ascending."""
    sizes: np.ndarray
    """int64, bytes of their images."""


def scan(read: Read, layout: Layout, header_crc: int) -> Scan:
    """Read the tables once.

    Args:
        read: Reads bytes of the file.
        layout: Where the tables lie.
        header_crc: Of the header.
    """
    labels, crc, negative = _labels(read, layout, header_crc)
    held = _room(layout.samples) if layout.samples <= MOST_HELD else None
    is_ordered, unsound, gaps = True, None, _Found(layout.samples)
    for first, allocations in _blocks(read, layout.allocations, ALLOCATION, layout.samples):
        crc = zlib.crc32(allocations.data, crc)
        if not is_ordered:
            continue
        images, sizes = _rows(read, layout, first, len(allocations))["image"], allocations["size"]
        is_ordered = bool((allocations["place"] == images["place"]).all())
        unsound = _unsound(images, sizes, layout, first) if unsound is None else unsound
        if held is not None:
            _hold(held, images, sizes, first)
        elif unsound is None:
            is_ordered = gaps.add(first, images["place"].astype(np.int64), sizes.astype(np.int64))
    if not is_ordered:  # several processes of ffcv have written it
        held, unsound = _matched(read, layout)
    return Scan(labels, crc, negative, unsound, held, gaps.all())


class _Found:
    """Gaps on their way, block by block."""

    def __init__(self, samples: int) -> None:
        self._most = samples // _RARE
        self._samples: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []
        self._last: tuple[int, int, int] | None = None

    def add(self, first: int, places: np.ndarray, sizes: np.ndarray) -> bool:
        """Look for gaps in a block; whether they are rare so far."""
        if self._last is not None and self._last[1] + self._last[2] != places[0]:
            self._keep(np.array([self._last[0]]), np.array([self._last[2]]))
        found = np.flatnonzero(places[:-1] + sizes[:-1] != places[1:])
        self._keep(found + first, sizes[found])
        self._last = first + len(places) - 1, int(places[-1]), int(sizes[-1])
        return sum(map(len, self._samples)) <= self._most

    def all(self) -> Gaps:
        """Every gap, the one behind the last sample included."""
        if self._last is not None:
            self._keep(np.array([self._last[0]]), np.array([self._last[2]]))
        parts = [self._samples, self._sizes]
        return Gaps(*(np.concatenate([np.empty(0, np.int64), *part]) for part in parts))

    def _keep(self, samples: np.ndarray, sizes: np.ndarray) -> None:
        self._samples.append(samples)
        self._sizes.append(sizes)


def _labels(read: Read, layout: Layout, crc: int) -> tuple[np.ndarray, int, int | None]:
    labels, negative, highest = np.empty(layout.samples, np.int16), None, 0
    for first, rows in _blocks(read, layout.start, layout.row, layout.samples):
        crc = zlib.crc32(rows.data, crc)
        some = rows["label"]
        highest = max(highest, int(some.max()))
        if negative is None and some.min() < 0:
            negative = first + int((some < 0).argmax())
        if highest > np.iinfo(labels.dtype).max:
            labels = labels.astype(np.int32 if highest < 1 << 31 else np.int64)
        labels[first : first + len(rows)] = some
    return labels.astype(np.int8) if highest < 1 << 7 else labels, crc, negative


def _unsound(images: np.ndarray, sizes: np.ndarray, layout: Layout, first: int) -> int | None:
    place, size = images["place"].astype(np.int64), sizes.astype(np.int64)
    mode, area = images["mode"], images["height"].astype(np.int64) * images["width"]
    sound = (place >= layout.images) & (size > 0) & (size <= layout.allocations - place) & (area > 0)
    sound &= (mode == JPEG) | ((mode == RAW) & (size == 3 * area))
    return None if sound.all() else first + int(sound.argmin())


def _matched(read: Read, layout: Layout) -> tuple[Entries, int | None]:
    """Find the size of each image in an allocation table of another order."""
    images = _rows(read, layout, 0, layout.samples)["image"]
    allocations = np.frombuffer(read(layout.allocations, layout.samples * ALLOCATION.itemsize), ALLOCATION)
    order = np.argsort(allocations["place"], kind="stable")
    starts = allocations["place"][order]
    found = np.minimum(np.searchsorted(starts, images["place"]), len(starts) - 1)
    sizes = allocations["size"][order][found]
    is_there = starts[found] == images["place"]
    held = _room(layout.samples)
    _hold(held, images, sizes, 0)
    return held, _unsound(images, sizes * is_there, layout, 0)


def _room(samples: int) -> Entries:
    mode, height, width = np.empty(samples, np.uint8), np.empty(samples, np.uint16), np.empty(samples, np.uint16)
    return Entries(mode, height, width, np.empty(samples, np.int64), np.empty(samples, np.int64), None)


def _hold(held: Entries, images: np.ndarray, sizes: np.ndarray, first: int) -> None:
    some = slice(first, first + len(images))
    held.mode[some], held.height[some], held.width[some] = images["mode"], images["height"], images["width"]
    held.place[some], held.size[some] = images["place"], sizes


def all_rows(read: Read, layout: Layout) -> Iterator[np.ndarray]:
    """Yield the rows of the index, in blocks."""
    for _, rows in _blocks(read, layout.start, layout.row, layout.samples):
        yield rows


def _rows(read: Read, layout: Layout, first: int, count: int) -> np.ndarray:
    size = layout.row.itemsize
    return np.frombuffer(read(layout.start + first * size, count * size), layout.row)


def _blocks(read: Read, place: int, row: np.dtype, count: int) -> Iterator[tuple[int, np.ndarray]]:
    for first in range(0, count, _BLOCK):
        size = min(_BLOCK, count - first) * row.itemsize
        yield first, np.frombuffer(read(place + first * row.itemsize, size), row)


class Rows(Protocol):
    """What answers where samples lie."""

    def entries(self, samples: np.ndarray) -> Entries: ...


class HeldRows:
    """Rows in memory.

    Args:
        held: Of all samples.
        crcs: Of all samples, uint32, where the file has checksums.
    """

    def __init__(self, held: Entries, crcs: np.ndarray | None) -> None:
        self._held, self._crcs = held, crcs

    @classmethod
    def joined(cls, rows: Sequence["HeldRows"]) -> "HeldRows":
        """Return the rows of several files, one behind another, where all of them have checksums or none."""
        crcs = [each._crcs for each in rows if each._crcs is not None]
        return cls(Entries.joined([each._held for each in rows]), np.concatenate(crcs) if crcs else None)

    def part(self, first: int, end: int) -> "HeldRows":
        """Return some of the rows, in the same memory."""
        return HeldRows(self._held.at(slice(first, end)), None if self._crcs is None else self._crcs[first:end])

    def entries(self, samples: np.ndarray) -> Entries:
        """Return where samples lie."""
        mode, height, width, place, size, _ = self._held
        crc = None if self._crcs is None else self._crcs[samples]
        sides = height[samples].astype(np.int32), width[samples].astype(np.int32)
        return Entries(mode[samples], *sides, place[samples], size[samples], crc)
