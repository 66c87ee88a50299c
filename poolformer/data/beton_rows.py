"""Rows of the index of a .beton file, read for a batch of samples, where there are too many to hold.

One call for all of them, without the interpreter lock: Python's own `pread` would cost each sample a microsecond of it.
"""

import os
from typing import NamedTuple

import numpy as np

from .beton_index import Entries, Gaps, Layout, Read
from .pixels.jit import kernel
from .pixels.reading import pread


class _Table(NamedTuple):
    """The index, as numbers for the kernels."""

    start: int
    """Of the index, in the file."""
    step: int
    """From row to row, bytes."""
    image: int
    """Of the field in a row."""
    samples: int
    low: int
    """Place before which no image begins."""
    high: int
    """Place behind which none ends."""


class ReadRows:
    """Rows that are read when they are asked for.

    The size of an image is found in the place of the next one, so that its row in the allocation table need not be
    read as well.

    Args:
        read: Reads bytes of the file.
        descriptor: Of the file.
        layout: Where its tables lie.
        gaps: Images that do not end where the next one begins, the last one included.
        crcs: Checksums of all samples, uint32, where the file has them.
    """

    def __init__(self, read: Read, descriptor: int, layout: Layout, gaps: Gaps, crcs: np.ndarray | None) -> None:
        self._read, self._descriptor, self._gaps, self._crcs = read, descriptor, gaps, crcs
        assert layout.row.fields is not None
        step, image = layout.row.itemsize, layout.row.fields["image"][1]
        self._table = _Table(layout.start, step, image, layout.samples, layout.images, layout.allocations)

    def entries(self, samples: np.ndarray) -> Entries:
        """Return where samples lie; size 0 where a row is no longer what it was when the file was opened."""
        samples, count, done = np.ascontiguousarray(samples, np.int64), len(samples), 0
        mode, sides, places = np.empty(count, np.uint8), np.empty((2, count), np.int32), np.empty((2, count), np.int64)
        if hasattr(os, "pread"):  # not on Windows
            done = _read_rows(self._descriptor, self._table, *self._gaps, samples, mode, sides, places)
        for n in range(done, count):  # what the system does not give at once is asked for patiently
            _decode(self._pair(int(samples[n])), self._table, *self._gaps, samples[n], n, mode, sides, places)
        crc = None if self._crcs is None else self._crcs[samples]
        return Entries(mode, sides[0], sides[1], places[0], places[1], crc)

    def _pair(self, sample: int) -> np.ndarray:
        """Return the row of a sample and that of the next, uint8 (2, bytes)."""
        start, step, _, samples, *_ = self._table
        if not 0 <= sample < samples:
            raise IndexError(f"sample {sample} of {samples}")
        return np.frombuffer(bytearray(self._read(start + sample * step, 2 * step)), np.uint8).reshape(2, step)


@kernel
def _read_rows(descriptor, table, gap_samples, gap_sizes, samples, mode, sides, places):
    """Fill the entries of samples up to one that cannot be read; return how many there are."""
    pair = np.empty((2, table.step), np.uint8)
    for n in range(len(samples)):
        if not 0 <= samples[n] < table.samples:
            return n
        place, size = table.start + samples[n] * table.step, pair.size
        if pread(np.int32(descriptor), np.uintp(pair.ctypes.data), np.uintp(size), np.int64(place)) != size:
            return n
        _decode(pair, table, gap_samples, gap_sizes, samples[n], n, mode, sides, places)
    return len(samples)


@kernel
def _decode(pair, table, gap_samples, gap_sizes, sample, n, mode, sides, places):
    height, width, place, size = sides[0], sides[1], places[0], places[1]
    row, behind = pair[0, table.image :], pair[1, table.image :]
    mode[n], width[n], height[n] = row[0], _number(row, 1, 2), _number(row, 3, 2)
    place[n] = _number(row, 5, 8)
    gap = np.searchsorted(gap_samples, sample)
    is_gap = gap < len(gap_samples) and gap_samples[gap] == sample
    size[n] = gap_sizes[gap] if is_gap else _number(behind, 5, 8) - place[n]
    area = np.int64(height[n]) * np.int64(width[n])
    fits = place[n] >= table.low and 0 < size[n] <= table.high - place[n] and area > 0
    if not fits or not (mode[n] == 0 or (mode[n] == 1 and size[n] == 3 * area)):
        size[n] = 0


@kernel
def _number(row, start, count):
    value = np.int64(0)
    for n in range(count):
        value |= np.int64(row[start + n]) << np.int64(8 * n)
    return value
