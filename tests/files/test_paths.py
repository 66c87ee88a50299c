"""Paths that are options: ``~`` is the home directory everywhere, and what is no path of this machine is a line."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.cli import dispatch as cli
from poolformer.errors import ConfigError
from poolformer.files.paths import check_new, each_text, local, with_home

FIT = [
    *("fit", "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1", "--trainer.max_epochs", "1"),
    *("--trainer.enable_progress_bar", "false", "--model.warmup_epochs", "0", "--trainer.log_every_n_steps", "1"),
]
# Commands with a path to be given, and how the message calls it.
PATHS = [
    (["fit", "--trainer.default_root_dir={}"], "--trainer.default_root_dir"),
    (["fit", "--ckpt_path={}"], "--ckpt_path"),
    (["fit", "--config={}"], "--config"),
    (["fit", "--model.pretrained={}"], "--model.pretrained"),
    (["fit", "--data=FolderData", "--data.train={}"], "--data.train"),
    (["fit", "--data=FFCVData", "--data.val={}"], "--data.val"),
    (["validate", "--ckpt_path={}"], "--ckpt_path"),
    (["predict", "--config=s12", "--ckpt_path=best", "--data.predict={}"], "--data.predict"),
    (["test", "--ckpt_path=best", "--trainer.default_root_dir={}"], "--trainer.default_root_dir"),
    (["pack", "images", "{}"], "argument dst: the path"),
    (["pack", "{}", "x.beton"], "argument src: the path"),
    (["verify", "{}"], "argument FILE: the path"),
    (["export", "{}"], "argument CKPT: the path"),
    (["export", "x.ckpt", "{}"], "argument FILE: the path"),
    (["cam", "x.ckpt", "x.png", "--out={}"], "argument --out: the path"),
    (["cam", "x.ckpt", "{}"], "argument IMAGE: the path"),
    (["ablate", "--out={}"], "argument --out: the path"),
    (["new-plugin", "my_mix", "{}"], "argument DIR: the path"),
    (["bench", "data", "{}"], "argument src: the path"),
]


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home directory, and an empty current one beside it."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def call(*arguments: str) -> int:
    try:
        return cli.main(list(arguments))
    except SystemExit as left:
        return left.code


# Those that may be the URL of a run or of a checkpoint.
OF_RUNS = ("--trainer.default_root_dir", "--ckpt_path", "--config", "argument CKPT: the path")
# Those that may be the URL of a .beton.
OF_BETONS = ("--data.val", "--data.predict", "argument src: the path")


URLS = ["s3://bucket/run", "https://example.org/x", "file:///tmp/x", "a::gs://b/c"]


@pytest.mark.parametrize(
    ("command", "name", "given"),
    [(*path, given) for path in PATHS for given in ["", *([] if path[1] in (*OF_RUNS, *OF_BETONS) else URLS)]],
)
def test_what_is_no_path_of_this_machine_is_a_line(home, capsys, command, name, given):
    assert call(*(word.format(given) for word in command)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"{name} is empty" in err if not given else f"{name} {given}: this is a URL" in err
    assert list(Path().iterdir()) == []


@pytest.mark.slow
def test_the_home_directory_is_written_out_wherever_a_path_is_read(home):
    for _ in range(2):
        assert call(*FIT, "--trainer.default_root_dir=~/run") == 0
    assert (home / "run/previous/1/config.yaml").is_file()
    assert call("validate", "--config=~/run/config.yaml", "--ckpt_path=best") == 0
    assert call("validate", "--ckpt_path=~/run/checkpoints/best.ckpt") == 0
    assert call("export", "~/run/checkpoints/best.ckpt", "~/run/net.safetensors") == 0
    assert {path.name for path in (home / "run").iterdir()} >= {"net.safetensors", "config.yaml", "previous"}
    assert list(Path().iterdir()) == []


@pytest.mark.slow
def test_callbacks_and_loggers_have_the_home_directory_too(home):
    Path("csv.yaml").write_text(
        "trainer: {logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: ~/logs}}}\n"
    )
    assert call(*FIT, "--config=digits", "--config=csv.yaml", "--trainer.default_root_dir=~/run") == 0
    assert list(home.glob("logs/**/metrics.csv"))
    assert {path.name for path in Path().iterdir()} == {"csv.yaml"}


@pytest.mark.slow
def test_a_name_with_a_dollar_or_a_tilde_inside_is_that_name(home, monkeypatch):
    monkeypatch.setenv("X", "elsewhere")
    assert call(*FIT, "--trainer.default_root_dir=a~$X") == 0
    assert {path.name.partition(".")[0] for path in Path("a~$X").iterdir()} == {
        *("checkpoints", "config", "events", "hparams", "metrics", "summary")
    }
    assert [path.name for path in Path().iterdir()] == ["a~$X"]


def test_without_a_home_directory_it_is_said(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)
    with pytest.raises(ConfigError, match="--x ~/run: there is no home directory here; write the path in full"):
        local("~/run", "--x")


def test_only_what_begins_as_a_path_below_home_is_written_out(home):
    values = {"a": ["~/x", "a~/x", "~"], "b": {"c": "~~", "d": 1}}
    assert each_text(values, with_home) == {"a": [f"{home}/x", "a~/x", str(home)], "b": {"c": "~~", "d": 1}}


# ---- relative paths of a run


@pytest.fixture
def project(home, tmp_path, write_images) -> Path:
    """A project with images and a run of them, by relative paths: ``run``."""
    project = tmp_path / "project"
    write_images(project / "images")
    os.chdir(project)
    Path("keep.yaml").write_text(
        "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: "
        "{dirpath: run/kept, filename: kept, monitor: val/loss}}]}\n"
    )
    data = ["--data=FolderData", "--data.train=images", "--data.val=images", "--data.image_size=32"]
    data += ["--data.batch_size=2", "--data.num_workers=0", "--model.num_classes=2"]
    assert call(*FIT, "--config=digits", "--config=keep.yaml", *data, "--trainer.default_root_dir=run") == 0
    return project


@pytest.fixture
def write_images():
    from data_images import write_class_folders

    def write(folder: Path) -> None:
        write_class_folders(folder, classes=2, images=4)

    return write


@pytest.mark.slow
def test_a_run_s_data_is_found_from_anywhere(project, tmp_path, capsys):
    assert "Relative paths start from " in Path("run/config.yaml").read_text().splitlines()[1]
    os.chdir(tmp_path / "work")
    (tmp_path / "work/images/none").mkdir(parents=True)  # not those of the run
    assert call("validate", f"--config={project}/run/config.yaml", "--ckpt_path=best") == 0
    assert call("validate", f"--ckpt_path={project}/run/checkpoints/best.ckpt") == 0
    shutil.move(project, tmp_path / "moved")
    assert call("validate", "--config=../moved/run/config.yaml", "--ckpt_path=best") == 0
    assert call("validate", "--config=../moved/run/config.yaml", "--ckpt_path=best", "--data.val=images") == 2
    assert "images" in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_run_s_callbacks_write_goes_with_its_directory(project):
    shutil.copytree("run", "copy")
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}
    for run_dir, options in (("copy", []), ("other", ["--trainer.default_root_dir=other"])):
        assert call("fit", "--config=copy/config.yaml", *options) == 0
        assert Path(run_dir, "kept/kept.ckpt").is_file()
        saved = yaml.safe_load(Path(run_dir, "config.yaml").read_text())
        assert saved["trainer"]["callbacks"][0]["init_args"]["dirpath"] == f"{run_dir}/kept"
    assert {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")} == before


def test_a_file_that_cannot_be_new_is_refused(tmp_path):
    check_new(str(tmp_path / "new.jsonl"), "--out", [".csv", ".jsonl"])
    (tmp_path / "old.csv").touch()
    for name, message in (
        ("new.txt", r"--out '.*': the name ends in one of \.csv, \.jsonl"),
        ("old.csv", "is already there: choose another name"),
        ("nowhere/new.csv", "there is no folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_new(str(tmp_path / name), "--out", [".csv", ".jsonl"])
