"""Bit rot: what was changed behind a checkpoint's back is never loaded as its weights."""

import io
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.serialization import config

from poolformer.backbones import create_backbone
from poolformer.checkpoint.archive import _number_is_known
from poolformer.checkpoint.pretrained import load_pretrained
from poolformer.checkpoint.reading import read, read_run
from poolformer.errors import CheckpointError
from poolformer.trained import load_classifier

WEIGHTS = {"a": torch.rand(3000), "b": torch.rand(40), "c": torch.rand(40)}
CONTENT = {"state_dict": WEIGHTS, "epoch": 3, "pytorch-lightning_version": "2.6.6"}


def archive(content: Any = CONTENT, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


WHOLE = archive()


def is_as_saved(path: Path) -> bool:
    loaded = read(path)
    weights = loaded.pop("state_dict")
    return loaded == {key: value for key, value in CONTENT.items() if key != "state_dict"} and all(
        torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS
    )


@pytest.mark.parametrize("damage", ["a bit", "a page", "two pages swapped"])
def test_damage_is_found_or_does_not_matter(tmp_path, damage):
    path, refused = tmp_path / "last.ckpt", 0
    for case in range(150):
        draw, data = random.Random(case), bytearray(WHOLE)
        place = draw.randrange(len(data))
        if damage == "a bit":
            data[place] ^= 1 << draw.randrange(8)
        elif damage == "a page":
            data[place : place + 512] = bytes(len(data[place : place + 512]))
        else:
            first, second = (512 * draw.randrange(len(data) // 512) for _ in range(2))
            kept = data[first : first + 512]
            data[first : first + 512] = data[second : second + 512]
            data[second : second + 512] = kept
        path.write_bytes(data)
        try:
            assert is_as_saved(path), f"case {case}"
        except CheckpointError:
            refused += 1
    assert refused > 100


@pytest.fixture
def damaged(tmp_path) -> Path:
    """One bit of a weight in last.ckpt is not what it was; best.ckpt is whole."""
    data = bytearray(WHOLE)
    data[WHOLE.index(WEIGHTS["a"].numpy().tobytes()) + 5001] ^= 64
    (tmp_path / "best.ckpt").write_bytes(WHOLE)
    (tmp_path / "last.ckpt").write_bytes(data)
    return tmp_path / "last.ckpt"


def test_a_damaged_file_is_named_with_its_part_and_the_one_that_is_whole(damaged):
    with pytest.raises(CheckpointError) as caught:
        read(damaged)
    assert str(caught.value) == (
        f"'{damaged}' is not a checkpoint that can be loaded as data: it is damaged: the bytes of its part "
        f"'archive/data/0' are not those that were written (CRC-32); there is {damaged.parent}/best.ckpt"
    )


def test_a_damaged_file_is_not_offered_in_the_place_of_another(damaged):
    (damaged.parent / "best.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"the others in .* cannot be loaded either"):
        read(damaged.parent / "best.ckpt")


@pytest.mark.parametrize("use", [read, read_run, load_classifier])
def test_no_reader_takes_a_damaged_file(damaged, use):
    with pytest.raises(CheckpointError, match="it is damaged"):
        use(damaged)


def test_damaged_weights_of_others_are_refused(tmp_path):
    network = create_backbone("poolformer_tiny", num_classes=2)
    data = bytearray(archive(network.state_dict()))
    data[data.index(network.head.fc.weight.detach().numpy().tobytes())] ^= 1
    (tmp_path / "poolformer.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"poolformer\.pth' is not .*: it is damaged"):
        load_pretrained(network, tmp_path / "poolformer.pth", name="poolformer_tiny")


def rewritten(content: bytes, changes: dict[str, str]) -> bytes:
    """The archive with some of its parts under other names, each with the checksum of what it holds."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(file, "w") as target:
        for name in source.namelist():
            target.writestr(changes.get(name, name), source.read(name))
    return file.getvalue()


def test_parts_that_have_changed_places_are_found(tmp_path):
    changes = {"archive/data/1": "archive/data/2", "archive/data/2": "archive/data/1"}
    (tmp_path / "x.ckpt").write_bytes(rewritten(WHOLE, changes))
    with pytest.raises(CheckpointError, match="it is damaged: its parts are not those that were written together"):
        read(tmp_path / "x.ckpt")


def test_parts_of_one_name_are_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        (tmp_path / "x.ckpt").write_bytes(rewritten(WHOLE, {"archive/data/1": "archive/data/2"}))
    with pytest.raises(CheckpointError, match="it is damaged: two of its parts have one name"):
        read(tmp_path / "x.ckpt")


def test_an_archive_that_was_packed_anew_is_whole(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(rewritten(WHOLE, {}))
    assert is_as_saved(tmp_path / "last.ckpt")


def test_files_without_checksums_are_read(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(archive(_use_new_zipfile_serialization=False))
    assert is_as_saved(tmp_path / "last.ckpt")
    with config.patch("save.compute_crc32", False):  # not by monkeypatch, which would take the option away at its end
        (tmp_path / "last.ckpt").write_bytes(archive())
    assert is_as_saved(tmp_path / "last.ckpt")


def test_the_number_that_torch_writes_is_known():
    # A later PyTorch may make it in another way: then parts that have changed places go unnoticed.
    assert _number_is_known()
