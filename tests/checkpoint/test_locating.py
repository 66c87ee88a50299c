"""``last``, ``best`` and paths stand for files; what is missing is answered with what there is."""

import os

import pytest
from checkpoints import saved

from poolformer.checkpoint.locating import locate
from poolformer.checkpoint.reading import read
from poolformer.errors import CheckpointError


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_name_stands_for_the_file_of_the_run(tmp_path, name):
    file = tmp_path / "run" / "checkpoints" / f"{name}.ckpt"
    file.parent.mkdir(parents=True)
    file.touch()
    assert locate(name, tmp_path / "run") == file
    assert locate(str(file), "anywhere") == file


def test_a_missing_name_is_an_error_that_names_the_run_and_what_it_has(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        locate("last", tmp_path)
    folder = tmp_path / "checkpoints"
    assert str(caught.value) == f"the run in '{tmp_path}' has no 'last' checkpoint; '{folder}' has no checkpoints"
    folder.mkdir()
    saved(folder / "best.ckpt", {})
    with pytest.raises(CheckpointError, match=r"has no 'last' checkpoint; there is .*/best\.ckpt$"):
        locate("last", tmp_path)


def test_a_name_that_is_mistyped_is_guessed(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint at 'lastt'. Did you mean 'last'\?$"):
        locate("lastt", tmp_path)


def test_a_missing_name_leads_to_the_run_that_was_here_before(tmp_path):
    for number in (1, 2):
        (tmp_path / "previous" / str(number) / "checkpoints").mkdir(parents=True)
        file = tmp_path / "previous" / str(number) / "checkpoints" / "last.ckpt"
        saved(file, {})
        os.utime(file, (number, number))
    with pytest.raises(CheckpointError) as caught:
        locate("last", tmp_path)
    assert str(caught.value).endswith(f"; the run before it has '{tmp_path}/previous/2/checkpoints/last.ckpt'")


def test_a_run_s_folder_is_answered_with_its_checkpoints(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    saved(tmp_path / "checkpoints" / "best.ckpt", {})
    with pytest.raises(CheckpointError) as caught:
        locate(str(tmp_path), "runs")
    assert str(caught.value) == f"'{tmp_path}' is a folder; there is {tmp_path}/checkpoints/best.ckpt"


@pytest.mark.parametrize("name", ["net.onnx", "net.PT2"])
def test_an_exported_network_is_told_from_a_checkpoint(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="it is an exported network: pass the checkpoint or the"):
        read(tmp_path / name)


@pytest.mark.parametrize("text", ["model: {lr: 1}\n", "# pytorch\nseed_everything: 42\n", "hello\n", ""])
def test_a_text_is_said_to_be_no_checkpoint(tmp_path, text):
    (tmp_path / "checkpoints").mkdir()
    saved(tmp_path / "checkpoints" / "best.ckpt", {})
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path / "config.yaml")
    assert str(caught.value) == (
        f"'{tmp_path}/config.yaml' is not a checkpoint that can be loaded as data: torch.save did not write it; "
        f"there is {tmp_path}/checkpoints/best.ckpt"
    )


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        locate(str(tmp_path / "nope.ckpt"), "run")
    assert str(caught.value) == f"no checkpoint at '{tmp_path / 'nope.ckpt'}'; '{tmp_path}' has no checkpoints"
