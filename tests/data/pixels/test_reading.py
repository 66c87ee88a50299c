"""Kernels read files as Python does, and know their checksum."""

import os
import zlib

import numpy as np
import pytest

from poolformer.data.pixels.reading import IS_POSSIBLE, crc32, pieces_of_files, read_piece, whole_files

DATA = np.random.default_rng(0).integers(0, 256, 5000, np.uint8)
pytestmark = pytest.mark.skipif(not IS_POSSIBLE, reason="Windows reads files by Python")


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 5000])
def test_the_checksum_is_zlibs(size):
    assert crc32(DATA[:size]) == zlib.crc32(DATA[:size])


def test_whole_files_are_read_and_missing_ones_are_empty(tmp_path):
    names = ["one", "caf\udce9", "missing", "empty"]
    for name in (names[0], names[1]):
        (tmp_path / name).write_bytes(name.encode(errors="surrogateescape") + DATA.tobytes())
    (tmp_path / "empty").touch()
    pieces = whole_files([str(tmp_path / name) for name in names])
    read = [read_piece(pieces, n).tobytes() for n in range(4)]
    assert read == [b"one" + DATA.tobytes(), b"caf\xe9" + DATA.tobytes(), b"", b""]
    before = len(os.listdir("/dev/fd")) if os.path.isdir("/dev/fd") else 0
    for _ in range(20):
        read_piece(pieces, 0)
    assert before == 0 or len(os.listdir("/dev/fd")) == before  # they are closed


def test_pieces_are_read_where_they_lie_and_refused_where_they_are_not_what_they_were(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(DATA.tobytes())
    with open(path, "rb") as file:
        places, sizes = np.array([0, 4000, 4990, 10, 0]), np.array([10, 1000, 11, 0, 10])
        crcs = np.array([zlib.crc32(DATA[a : a + b]) for a, b in zip(places, sizes, strict=True)], np.uint32)
        crcs[4] += 1
        pieces = pieces_of_files(np.full(5, file.fileno(), np.int32), places, sizes, crcs)
        read = [read_piece(pieces, n) for n in range(5)]
    assert [len(each) for each in read] == [10, 1000, 0, 0, 0]
    assert (read[1] == DATA[4000:]).all()
