"""A key that could not be hashed in any time is refused before pickle reads it."""

import pickle
import time
import zipfile

import pytest
import torch

from poolformer.checkpoint.pickle_keys import check_keys
from poolformer.errors import CheckpointError


def doubled(times: int) -> tuple:
    """A tuple of twice the tuple before, many times: small in a file, endless to hash."""
    value: tuple = ("x",)
    for _ in range(times):
        value = (value, value)
    return value


@pytest.mark.parametrize("value", [{"a": torch.ones(2), (1, "b"): [1, (2, 3)]}, doubled(5), {doubled(8): 1}, set("ab")])
@pytest.mark.parametrize("new_format", [True, False])
def test_what_people_save_is_let_through(tmp_path, value, new_format):
    torch.save(value, tmp_path / "x.ckpt", _use_new_zipfile_serialization=new_format)
    check_keys(tmp_path / "x.ckpt")


def test_tuples_that_stand_for_a_billion_values_are_refused_at_once(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps([doubled(40)], 2))
    started_s = time.monotonic()
    with pytest.raises(CheckpointError, match="its tuples stand for too many values"):
        check_keys(tmp_path / "x.ckpt")
    assert time.monotonic() - started_s < 5


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x02torn"])
def test_what_is_no_pickle_is_left_to_pytorch(tmp_path, content):
    (tmp_path / "x.ckpt").write_bytes(content)
    check_keys(tmp_path / "x.ckpt")
