"""Reading files from within kernels: without the interpreter lock, and with no Python for each of them."""

import os
import sys
from typing import NamedTuple

import numpy as np
from numba import types

from .jit import kernel

IS_POSSIBLE = hasattr(os, "pread") and sys.maxsize > 2**32 and sys.byteorder == "little"
"""Not on Windows, nor where places in files have 32 bits: there a source reads each file by itself."""

# In C, `open` takes the mode of a new file by `...`, and Apple's arm64 passes such arguments on the stack; only the
# named arguments are passed here.
_open = types.ExternalFunction("open", types.int32(types.uintp, types.int32))
_close = types.ExternalFunction("close", types.int32(types.int32))
_lseek = types.ExternalFunction("lseek", types.int64(types.int32, types.int64, types.int32))
pread = types.ExternalFunction("pread", types.intp(types.int32, types.uintp, types.uintp, types.int64))
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe is not waited for
_SEEK_END = 2
_LARGEST = 1 << 31
_POLYNOMIAL = 0xEDB88320
_AT_ONCE = 16  # bytes


class Pieces(NamedTuple):
    """Pieces of open files, or whole files by their paths; arrays of one number each."""

    descriptors: np.ndarray
    """int32; -1 where there is a path."""
    places: np.ndarray
    """int64, of the first byte."""
    sizes: np.ndarray
    """int64."""
    crcs: np.ndarray
    """uint32, CRC-32 of the bytes; empty where that is not known."""
    paths: np.ndarray
    """uint8, paths as the system writes them, each with a zero behind it."""
    starts: np.ndarray
    """int64, of the paths in it."""


def pieces_of_files(descriptors: np.ndarray, places: np.ndarray, sizes: np.ndarray, crcs: np.ndarray | None) -> Pieces:
    """Return pieces of open files; the arguments are as in `Pieces`."""
    known = np.empty(0, np.uint32) if crcs is None else crcs
    return Pieces(descriptors, places, sizes, known, np.empty(0, np.uint8), np.empty(0, np.int64))


def whole_files(paths: list[str]) -> Pieces:
    """Return whole files, which are opened when they are read."""
    names = [os.fsencode(path) + b"\0" for path in paths]
    lengths = np.fromiter(map(len, names), np.int64, len(names))
    text, starts = np.frombuffer(b"".join(names), np.uint8), np.cumsum(lengths) - lengths
    unknown = np.full(len(names), -1, np.int64)
    return Pieces(unknown.astype(np.int32), unknown, unknown, np.empty(0, np.uint32), text, starts)


@kernel
def read_piece(pieces, n):
    """Return the bytes of a piece, uint8; none where they cannot be read or are not what they were."""
    if pieces.descriptors[n] >= 0:
        data = _read(pieces.descriptors[n], pieces.places[n], pieces.sizes[n])
    else:
        data = _read_file(pieces.paths.ctypes.data + pieces.starts[n])
    if len(pieces.crcs) and crc32(data) != pieces.crcs[n]:
        return data[:0]
    return data


@kernel
def _read_file(path):
    descriptor = _open(np.uintp(path), np.int32(_FLAGS))
    if descriptor < 0:
        return np.empty(0, np.uint8)
    data = _read(descriptor, 0, _lseek(descriptor, np.int64(0), np.int32(_SEEK_END)))
    _close(descriptor)
    return data


@kernel
def _read(descriptor, place, size):
    if size <= 0 or size > _LARGEST:
        return np.empty(0, np.uint8)
    data, done = np.empty(size, np.uint8), 0
    while done < size:  # some file systems hand out less at once
        more = pread(
            np.int32(descriptor), np.uintp(data.ctypes.data + done), np.uintp(size - done), np.int64(place + done)
        )
        if more <= 0:
            return data[:0]
        done += more
    return data


def _crc_tables() -> np.ndarray:
    """Return what a byte changes in the sum when up to 15 more follow it, uint32 (16, 256)."""
    tables = np.zeros((_AT_ONCE, 256), np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        tables[0, byte] = value
    for n in range(1, _AT_ONCE):
        tables[n] = tables[n - 1] >> 8 ^ tables[0, tables[n - 1] & 255]
    return tables


_TABLES = _crc_tables()


@kernel
def crc32(data):
    """Return the CRC-32 of bytes, as zlib's."""
    crc, whole = np.uint64(0xFFFFFFFF), len(data) - len(data) % _AT_ONCE
    for place in range(0, whole, _AT_ONCE):
        total = np.uint64(0)
        for n in range(4):
            total ^= _TABLES[_AT_ONCE - 1 - n, data[place + n] ^ (crc >> np.uint64(8 * n)) & np.uint64(255)]
        for n in range(4, _AT_ONCE):
            total ^= _TABLES[_AT_ONCE - 1 - n, data[place + n]]
        crc = total
    for place in range(whole, len(data)):
        crc = _TABLES[0, (crc ^ data[place]) & np.uint64(255)] ^ crc >> np.uint64(8)
    return crc ^ np.uint64(0xFFFFFFFF)
