"""The tables of a .beton: narrow labels, sizes from any allocation table, what cannot be true."""

import zlib

import numpy as np
import pytest
from data_betons import without_notes, write_beton

from poolformer.data import beton_index
from poolformer.data.beton import HEADER, Beton
from poolformer.data.beton_index import ALLOCATION
from poolformer.errors import DataError


@pytest.mark.parametrize(
    ("highest", "kind"), [(127, "i1"), (128, "i2"), (21840, "i2"), (1 << 15, "i4"), (1 << 40, "i8")]
)
def test_labels_are_kept_in_the_smallest_integers_that_hold_them(tmp_path, monkeypatch, highest, kind):
    monkeypatch.setattr(beton_index, "_BLOCK", 2)
    labels = Beton(write_beton(tmp_path / "x.beton", [3, 0, highest, 1, 2])).labels
    assert labels.tolist() == [3, 0, highest, 1, 2]
    assert labels.dtype == kind


@pytest.mark.parametrize("block", [3, 1 << 16])
def test_an_allocation_table_may_have_any_order(tmp_path, monkeypatch, block):
    monkeypatch.setattr(beton_index, "_BLOCK", block)
    path = without_notes(write_beton(tmp_path / "x.beton", range(8), sizes=[100 + n for n in range(8)]))
    content = path.read_bytes()
    place = int(np.frombuffer(content, HEADER, 1)["allocations"][0])
    table = np.frombuffer(content[place:], ALLOCATION)
    path.write_bytes(content[:place] + table[[5, 3, 7, 0, 1, 2, 6, 4]].tobytes())
    assert Beton(path).entries(np.arange(8)).size.tolist() == [100 + n for n in range(8)]
    path.write_bytes(content[:place] + table[[5, 3, 7, 0, 1, 2, 6, 6]].tobytes())
    with pytest.raises(DataError, match=r"sample 4: its place in the file is damaged"):
        Beton(path)


def test_the_fingerprint_is_that_of_the_whole_tables(tmp_path):
    path = write_beton(tmp_path / "x.beton", range(5))
    content = path.read_bytes()
    header = np.frombuffer(content, HEADER, 1)[0]
    index, allocations = 24 + 2 * 1041, int(header["allocations"])
    tables = content[:24] + content[index : index + 5 * 24] + content[allocations:]
    assert Beton(path).fingerprint.endswith(f"{zlib.crc32(tables):08x}")
