"""What is said of what a run is told to use."""

import os
from pathlib import Path

import pytest

from poolformer.doctor import job as jobs
from poolformer.doctor.job import Job


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def texts(checks):
    return [(check.name, check.state, check.text) for check in checks]


def test_data_of_a_config_that_is_not_there_is_wrong_and_flags_win_over_it(here):
    (here / "mine.yaml").write_text(
        "data: {class_path: FolderData, init_args: {train: imgs, val: [imgs, gone], num_workers: 3}}\n"
    )
    (here / "imgs" / "cat").mkdir(parents=True)
    asked = Job(["s12", "mine.yaml"], {})
    folder = "'imgs', a folder with 1 folder in it"
    assert texts(asked.data()) == [
        ("data.train", "ok", folder),
        ("data.val", "ok", folder),
        ("data.val", "wrong", "'gone': No such file or directory"),
    ]
    assert asked.workers == 3
    assert [check.state for check in asked.checks] == ["ok", "ok"]
    assert asked.place().text.endswith(f"free in 'runs/s12-mine', which will be made in '{here}'")
    (here / "x.beton").write_bytes(b"0" * (1 << 20))
    over = Job(["mine.yaml"], {"data.val": "x.beton", "data.num_workers": 0})
    assert texts(over.data())[1:] == [("data.val", "ok", "'x.beton', 1 MiB")]
    assert over.workers == 0


def test_what_is_no_folder_and_no_file_or_has_no_classes_is_said(here):
    os.mkfifo("pipe")
    Path("empty").mkdir()
    for number in range(2):
        Path(f"train-{number}.beton").write_bytes(b"0")
    asked = Job([], {"data": "FFCVData", "data.train": "train-*.beton", "data.val": "pipe", "data.test": "empty"})
    assert texts(asked.data()) == [
        ("data.train", "ok", "'train-*.beton', 2 files"),
        ("data.val", "wrong", "'pipe' is neither a folder nor a regular file"),
        ("data.test", "note", "'empty', a folder with 0 folders in it"),
    ]


def test_a_config_without_data_is_said(here):
    [check] = Job(["s12"], {}).data()
    assert (check.state, check.name) == ("note", "data")
    assert Job(["digits"], {}).data() == Job([], {}).data() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file 'mine.yaml'"),
        ("model: [", "'mine.yaml' is not YAML"),
        ("model: {mixer: {name: poling}}", "no token mixer is called 'poling'. Did you mean 'pooling'?"),
        ("model: {mixer: [pooling, pooling, poling, pooling]}", "no token mixer is called 'poling'"),
        ("model: {mixr: pooling}", "there is no option 'model.mixr' in 'mine.yaml'. Did you mean 'model.mixer'"),
        ("trainer: {max_epochs: ten}", "--trainer.max_epochs got 'ten' in 'mine.yaml', but expects an integer"),
        ("model: {backbone: poolformer_s13}", "no backbone is called 'poolformer_s13'"),
    ],
)
def test_mistakes_in_a_config_are_wrong_in_fit_s_words(here, content, message):
    if content is not None:
        (here / "mine.yaml").write_text(content)
    asked = Job(["mine.yaml"], {})
    wrong = [check.text for check in [*asked.checks, *asked.names()] if check.state == "wrong"]
    assert len(wrong) == 1
    assert wrong[0].startswith(message)


def test_a_class_of_one_s_own_is_imported_and_blamed(here):
    asked = Job([], {"data": "my_package.data.Mine"})
    assert asked.data_module == "my_package.data:Mine"
    [check] = asked.own_class({"my_package.data:Mine": {"error": "ImportError: x", "facts": {}}})
    assert (check.state, check.text) == ("wrong", "my_package.data:Mine cannot be imported: ImportError: x")
    assert Job([], {"data": "poolformer.data.FolderData"}).data_module is None
    assert Job([], {"data": "FolderData"}).data_module is None


def test_a_url_of_a_run_is_written_to_and_left_as_it_was(here):
    import fsspec

    check = Job([], {"trainer.default_root_dir": "memory://doctor/run"}).place()
    assert (check.state, check.text) == ("ok", "memory://doctor/run can be written")
    assert not fsspec.filesystem("memory").find("doctor")


def test_a_url_that_is_no_store_s_or_of_nothing_is_wrong(here):
    assert Job([], {"trainer.default_root_dir": "nosuch://x"}).place().state == "wrong"
    [check] = Job([], {"data.train": "memory://doctor/none.beton"}).data()
    assert (check.state, check.text) == ("wrong", "memory://doctor/none.beton: there is no such file")


def test_a_server_that_is_not_there_is_no_missing_file(here):
    pytest.importorskip("aiohttp")
    [check] = Job([], {"data.train": "http://127.0.0.1:9/x.beton"}).data()
    assert check.state == "wrong"
    assert "connect" in check.text.lower()


def test_a_store_that_does_not_answer_is_given_up(here, monkeypatch):
    import time

    monkeypatch.setattr(jobs, "LIMIT_S", 0.1)
    monkeypatch.setattr(jobs, "_write_a_byte", lambda url: time.sleep(1))
    check = Job([], {"trainer.default_root_dir": "memory://x/y"}).place()
    assert (check.state, check.text) == ("wrong", "memory://x/y does not answer within 0.1 s")
