"""A sound file is said to be sound, and one that is not what its description says is not."""

import json
import shutil

import pytest
from data_images import write_class_folders

from poolformer.commands.pack import main as pack
from poolformer.commands.verify import main
from poolformer.errors import DataError


@pytest.fixture
def beton(tmp_path):
    assert pack([str(write_class_folders(tmp_path / "images", images=2)), str(tmp_path / "x.beton")]) == 0
    return tmp_path / "x.beton"


def test_a_sound_file_is_counted(beton, capsys):
    capsys.readouterr()
    assert main([str(beton), "--num_workers", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].endswith("x.beton: 6 images of 3 classes, with checksums")
    assert out[1:] == ["images a class: 2 to 2", "sound"]


def test_files_and_patterns_are_checked_one_after_the_other(beton, capsys, tmp_path):
    for name in ("train-1.beton", "train-2.beton"):
        shutil.copy(beton, tmp_path / name)
    (tmp_path / "train-1.beton.json").write_text("torn")
    capsys.readouterr()
    assert main([str(tmp_path / "train-*.beton"), str(beton), "--num_workers", "1"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert [line.rpartition("/")[2].partition(":")[0] for line in out if " images of " in line] == [
        *("train-1.beton", "train-2.beton", "x.beton")
    ]
    assert [line for line in out if line in ("sound", "1 fault")] == ["1 fault", "sound", "sound"]
    with pytest.raises(DataError, match="nothing matches"):
        main([str(tmp_path / "val-*.beton")])


def test_a_description_of_another_file_is_a_fault(beton, capsys):
    sidecar = beton.with_name("x.beton.json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "sha256": "0" * 64}))
    assert main([str(beton)]) == 1
    assert "its sha256 is not the one in 'x.beton.json'\n1 fault\n" in capsys.readouterr().out
    sidecar.write_text("torn")
    assert main([str(beton)]) == 1
    assert "is no description of a .beton file" in capsys.readouterr().out
    sidecar.unlink()
    assert main([str(beton)]) == 0
