"""What is found in a file is told in the order of its samples; its checksum is that of the whole."""

import hashlib
import threading

import numpy as np
import pytest

from poolformer.data.beton import RAW, Beton, Stored
from poolformer.data.beton_stream import BetonWriter
from poolformer.data.checking import Sha256Behind, damage, sha256


def _pixels(n: int) -> np.ndarray:
    return np.array([n, 77, 201, 5, 111, 93], np.uint8)


@pytest.fixture
def beton(tmp_path) -> Beton:
    """Forty samples of two pixels, of which those that a seven divides are damaged, and one has a label too high."""
    path = tmp_path / "x.beton"
    with BetonWriter(path, capacity=40) as stream:
        for n in range(40):
            stream.add(Stored(RAW, 1, 2, _pixels(n)), 9 if n == 39 else n % 3)
        stream.finish(["a", "b", "c"], {})
    content = bytearray(path.read_bytes())
    for n in range(0, 40, 7):
        content[content.index(_pixels(n).tobytes())] ^= 1
    path.write_bytes(content)
    return Beton(path)


@pytest.mark.parametrize("workers", [1, 3])
def test_faults_come_one_a_sample_in_order(beton, workers):
    found = list(damage(beton, workers=workers))
    assert [n for n, fault in enumerate(found) if fault] == [0, 7, 14, 21, 28, 35, 39]
    assert "sample 21: its bytes are not those that were packed" in found[21]
    assert found[39].endswith("sample 39: label 9 of 3 classes")


def test_a_checksum_that_follows_is_that_of_the_whole_file(beton):
    expected = hashlib.sha256(beton.path.read_bytes()).hexdigest()
    read: list[int] = []
    assert sha256(beton.path, read.append) == expected
    assert read[-1] == beton.path.stat().st_size
    with Sha256Behind(beton.path) as behind:
        for done in range(11):
            behind.follow(done / 10)
        assert behind.hexdigest() == expected
    with Sha256Behind(beton.path) as behind:
        assert behind.hexdigest() == expected


def test_a_checksum_that_nobody_waits_for_ends(beton):
    with Sha256Behind(beton.path) as behind:
        behind.follow(1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("poolformer-sha256")]
