"""The config.yaml of a run is known by its first line and means the directory that it lies in."""

from pathlib import Path

import pytest
import yaml

from poolformer.run.config import as_text, in_its_place, is_of_a_run


@pytest.fixture
def written(tmp_path, monkeypatch) -> Path:
    """The configuration of a run below a project, whose data lies in the project."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    options = {
        "data": {"class_path": "poolformer.data.FolderData", "init_args": {"train": "images", "val": "/v"}},
        "trainer": {"default_root_dir": "runs/a", "logger": {"init_args": {"save_dir": "runs/a/logs"}}},
    }
    file = tmp_path / "runs" / "a" / "config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(as_text(yaml.safe_dump(options), options))
    return file


def test_a_run_s_file_is_told_from_another(written, tmp_path):
    assert is_of_a_run(written)
    (tmp_path / "own.yaml").write_text("model: {lr: 1}\n")
    assert not is_of_a_run(tmp_path / "own.yaml")
    assert not is_of_a_run(tmp_path / "nowhere.yaml")


def test_read_where_it_was_written_it_means_what_it_said(written):
    content = yaml.safe_load(written.read_text())
    assert in_its_place(content, Path("runs/a/config.yaml")) == content


def test_read_from_elsewhere_its_paths_lead_to_the_same_places(written, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = in_its_place(yaml.safe_load(written.read_text()), Path("../runs/a/config.yaml"))
    assert Path(found["data"]["init_args"]["train"]) == tmp_path / "images"
    assert found["data"]["init_args"]["val"] == "/v"
    assert found["trainer"]["default_root_dir"] == "../runs/a"
    assert found["trainer"]["logger"]["init_args"]["save_dir"] == "../runs/a/logs"


def test_another_directory_takes_along_what_is_written_below_it(written):
    found = in_its_place(yaml.safe_load(written.read_text()), written, run_dir="runs/b")
    assert found["trainer"]["default_root_dir"] == "runs/b"
    assert found["trainer"]["logger"]["init_args"]["save_dir"] == "runs/b/logs"


def test_absolute_paths_need_no_place_to_start_from():
    text = as_text("a: 1\n", {"data": {"class_path": "poolformer.data.FolderData", "init_args": {"train": "/x"}}})
    assert text.splitlines() == ["# poolformer: the run in this directory", "a: 1"]
