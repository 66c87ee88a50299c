"""Which files of a directory a run has written."""

import pytest

from poolformer.run.files import are_hyper_parameters, is_run, look, remove_unfinished

HEADER = "# poolformer: the run in this directory\n"


def test_an_empty_directory_is_no_run(tmp_path):
    found = look(tmp_path)
    assert (found.is_run, found.files, found.in_the_way) == (False, (), ())


def test_a_run_that_has_just_begun_is_one(tmp_path):
    (tmp_path / "config.yaml").write_text(HEADER)
    assert not is_run(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    assert look(tmp_path).files == (tmp_path / "config.yaml",)


def test_files_of_somebody_else_are_in_the_way_of_a_run(tmp_path):
    (tmp_path / "config.yaml").write_text("mine: 1\n")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_text("mine too")
    found = look(tmp_path)
    assert not found.is_run
    assert {*found.in_the_way} == {tmp_path / "config.yaml", tmp_path / "checkpoints" / "last.ckpt"}


@pytest.mark.parametrize(("text", "expected"), [("backbone: a\nmixer: b\n", True), ("mixer: b\n", False), ("", False)])
def test_hyper_parameters_are_known_by_what_they_say(tmp_path, text, expected):
    (tmp_path / "hparams.yaml").write_text(text)
    assert are_hyper_parameters(tmp_path / "hparams.yaml") is expected


def test_what_killed_writes_left_is_removed_and_nothing_else(tmp_path):
    for name in (".config.yaml.12-ab.tmp", ".hparams.yaml.3-0f.tmp", ".mine.tmp", "config.yaml"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", "config.yaml"]
