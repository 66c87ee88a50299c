"""Rows of the index of a .beton file, read for a batch of samples, where there are too many to hold.

One call for all of them, without the interpreter lock: Python's own `pread` would cost each sample a microsecond of it.
"""

import os

import numpy as np
from numba import types

from .beton_index import Entries, Gaps, Layout, Read
from .pixels.jit import kernel

_pread = types.ExternalFunction("pread", types.intp(types.intc, types.voidptr, types.uintp, types.int64))


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
        self._read, self._descriptor, self._layout, self._gaps, self._crcs = read, descriptor, layout, gaps, crcs
        assert layout.row.fields is not None
        self._image = layout.row.fields["image"][1]

    def entries(self, samples: np.ndarray) -> Entries:
        """Return where samples lie; size 0 where a row is no longer what it was when the file was opened."""
        layout, count = self._layout, len(samples)
        crc = None if self._crcs is None else self._crcs[samples]
        samples = np.ascontiguousarray(samples, np.int64)
        if count and not 0 <= samples.min() <= samples.max() < layout.samples:
            raise IndexError(f"samples {samples.min()} to {samples.max()} of {layout.samples}")
        pairs = self._pairs(samples)
        mode, height, width = np.empty(count, np.uint8), np.empty(count, np.int32), np.empty(count, np.int32)
        place, size = np.empty(count, np.int64), np.empty(count, np.int64)
        bounds = (layout.images, layout.allocations)
        _decode(pairs, self._image, samples, *self._gaps, bounds, mode, height, width, place, size)
        return Entries(mode, height, width, place, size, crc)

    def _pairs(self, samples: np.ndarray) -> np.ndarray:
        """Return the row of each sample and that of the next, uint8 (n, 2, bytes)."""
        start, step = self._layout.start, self._layout.row.itemsize
        pairs = np.empty((len(samples), 2, step), np.uint8)
        done = _gather(self._descriptor, start, samples, pairs) if hasattr(os, "pread") else 0  # Windows
        for n in range(done, len(samples)):  # what the system does not give at once is asked for patiently
            data = self._read(start + int(samples[n]) * step, 2 * step)
            pairs[n] = np.frombuffer(data, np.uint8).reshape(2, step)
        return pairs


@kernel
def _gather(descriptor, start, samples, pairs):
    step = pairs.shape[2]
    for n in range(len(samples)):
        if _pread(descriptor, pairs[n].ctypes, 2 * step, start + samples[n] * step) != 2 * step:
            return n
    return len(samples)


@kernel
def _decode(pairs, image, samples, gap_samples, gap_sizes, bounds, mode, height, width, place, size):
    for n in range(len(samples)):
        row, behind = pairs[n, 0, image:], pairs[n, 1, image:]
        mode[n], width[n], height[n] = row[0], _number(row, 1, 2), _number(row, 3, 2)
        place[n] = _number(row, 5, 8)
        gap = np.searchsorted(gap_samples, samples[n])
        is_gap = gap < len(gap_samples) and gap_samples[gap] == samples[n]
        size[n] = gap_sizes[gap] if is_gap else _number(behind, 5, 8) - place[n]
        area = np.int64(height[n]) * np.int64(width[n])
        fits = place[n] >= bounds[0] and 0 < size[n] <= bounds[1] - place[n] and area > 0
        if not fits or not (mode[n] == 0 or (mode[n] == 1 and size[n] == 3 * area)):
            size[n] = 0


@kernel
def _number(row, start, count):
    value = np.int64(0)
    for n in range(count):
        value |= np.int64(row[start + n]) << np.int64(8 * n)
    return value
