"""A file of very many samples, whose rows are read for each batch: the same as those that are held."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from data_betons import without_notes, write_beton

from poolformer.data import beton_index
from poolformer.data.beton import FIELD, HEADER, ROW, Beton
from poolformer.data.beton_rows import ReadRows
from poolformer.errors import DataError


@pytest.fixture
def path(tmp_path):
    """Two images that begin a page, so that what lies before them does not end where they begin."""
    sizes = [100, 200, 5 << 20, 10, 5 << 20, 300, 7]
    return write_beton(tmp_path / "x.beton", [n * 1000 for n in range(7)], sizes=sizes)


@pytest.fixture
def reading(monkeypatch):
    monkeypatch.setattr(beton_index, "MOST_HELD", 0)
    monkeypatch.setattr(beton_index, "_RARE", 1)
    monkeypatch.setattr(beton_index, "_BLOCK", 2)


def assert_same(entries, others):
    for one, other in zip(entries, others, strict=True):
        np.testing.assert_array_equal(one, other)
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)


@pytest.mark.slow
@pytest.mark.parametrize("has_notes", [True, False])
def test_rows_that_are_read_are_those_that_would_be_held(path, has_notes, monkeypatch, request):
    path = path if has_notes else without_notes(path)
    held = Beton(path)
    request.getfixturevalue("reading")
    beton, asked = Beton(path), np.array([3, 6, 1, 1, 0, 4, 5, 2])
    assert isinstance(beton.rows, ReadRows)
    assert beton.fingerprint == held.fingerprint
    assert_same(beton.entries(asked), held.entries(asked))
    assert_same(beton.entries(asked[:0]), held.entries(asked[:0]))
    with ThreadPoolExecutor(4) as pool:
        for entries in pool.map(beton.entries, [asked] * 40):
            assert_same(entries, held.entries(asked))
    for n in range(7):
        np.testing.assert_array_equal(beton.read(n).data, held.read(n).data)
    with pytest.raises(IndexError):
        beton.entries(np.array([7]))


def test_a_row_that_has_changed_since_gives_no_image(path, reading):
    beton = Beton(path)
    with path.open("r+b") as file:
        file.seek(HEADER.itemsize + 2 * FIELD.itemsize + 3 * ROW.itemsize + 5)
        file.write(b"\xff" * 8)
    assert beton.entries(np.array([1, 3])).size.tolist() == [200, 0]
    with pytest.raises(DataError, match=r"sample 3: its place in the file is damaged"):
        beton.read(3)


def test_an_index_that_was_cut_off_since_is_an_error_not_a_signal(path, reading):
    beton = Beton(path)
    os.truncate(path, HEADER.itemsize + 2 * FIELD.itemsize + 3 * ROW.itemsize)
    assert beton.entries(np.array([0, 1])).size.tolist() == [100, 200]
    with pytest.raises(DataError, match=r"x\.beton' was cut off since it was opened"):
        beton.read(3)


def test_where_gaps_are_many_the_rows_are_held(path, monkeypatch):
    monkeypatch.setattr(beton_index, "MOST_HELD", 0)
    beton = Beton(path)
    assert not isinstance(beton.rows, ReadRows)
    assert beton.entries(np.array([4, 0])).size.tolist() == [5 << 20, 100]
