"""A start hurts nothing that lies in its directory: another run, somebody's project, a run that is going on there."""

import os
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback

from poolformer.checkpoint.reading import read
from poolformer.cli import dispatch as cli
from poolformer.files.lock import lock
from poolformer.run import earlier_runs
from poolformer.run import files as run_files
from poolformer.run import trainer as run_trainer

SHORT = [
    *("--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1", "--trainer.log_every_n_steps", "1"),
    *("--trainer.enable_progress_bar", "false", "--model.warmup_epochs", "0", "--trainer.accelerator", "cpu"),
]
FIT = ["fit", *SHORT, "--trainer.max_epochs", "1"]
PROJECT = {
    ".git/HEAD": "ref: refs/heads/main\n",
    "src/net.py": "import torch\n",
    "images/cat/1.png": "an image",
    "checkpoints/pretrained.pth": "weights of others",
    "previous/notes.txt": "mine",
    "events.out.tfevents.1.host.1.0": "of another program",
    "result.json": '{"mine": 1}',
    "predictions.csv": "name,score\n",
}


@pytest.fixture
def call(tmp_path, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Call the command in this process, in an empty directory: exit code, stdout, stderr."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as left:
            code = left.code
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Two runs that differ, ``k1`` and ``k2``, of relative names in one directory; copy it before changing it."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.chdir(folder)
        patch.setattr(os, "environ", os.environ.copy())
        for name, seed in (("k1", "1"), ("k2", "2")):
            assert cli.main([*FIT, "--trainer.default_root_dir", name, "--seed_everything", seed]) == 0
    return folder


@pytest.fixture
def runs(call, trained) -> Path:
    for name in ("k1", "k2"):
        shutil.copytree(trained / name, name)
    return Path()


def contents(folder: Path | str) -> dict[str, bytes]:
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def write(folder: Path | str, files: dict[str, str]) -> dict[str, bytes]:
    for name, text in files.items():
        Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
        Path(folder, name).write_text(text)
    return contents(folder)


# ---- what is no run


@pytest.mark.slow
@pytest.mark.parametrize("logger", [[], ["--trainer.logger", "false"]], ids=["logger", "no logger"])
def test_a_project_is_trained_in_beside_what_is_there_however_often(call, logger):
    before = write(".", PROJECT)
    for number in (1, 2):
        code, _, err = call(*FIT, *logger, "--trainer.default_root_dir", ".")
        assert code == 0, err
        now = contents(".")
        assert before.items() <= now.items()
        assert {"config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt"} <= now.keys()
        earlier = {name for name in now if name.startswith(f"previous/{number - 1}/")}
        assert len(earlier) == (0 if number == 1 else 5 if logger else 7)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "model: {mixer: identity}\n"),
        ("checkpoints/last.ckpt", "weights"),
        ("checkpoints/best.ckpt", {"state_dict": {"fc.weight": torch.zeros(2)}, "pytorch-lightning_version": "2.6.6"}),
    ],
)
def test_a_file_of_somebody_else_is_not_overwritten(call, name, content):
    before = write(".", PROJECT)
    if isinstance(content, str):
        Path(name).write_text(content)
    else:
        torch.save(content, name)
    before = contents(".")
    config = ["--config", name] if name == "config.yaml" else []
    code, _, err = call(*FIT, *config, "--trainer.default_root_dir", ".")
    assert code == 2
    assert err.endswith(
        f"poolformer: error: '{name}' was not written by a run, and this one would overwrite it: choose another "
        "--trainer.default_root_dir, or move that file\n"
    )
    assert contents(".") == before


@pytest.mark.slow
def test_a_run_s_configuration_in_a_project_is_the_project_s(call, runs):
    write("project", {"src/net.py": "import torch\n"})
    shutil.copy("k1/config.yaml", "project/config.yaml")
    before = contents("project")
    code, _, err = call(*FIT, "--config", "project/config.yaml", "--trainer.default_root_dir", "project")
    assert (code, "'project/config.yaml' was not written by a run" in err) == (2, True)
    assert contents("project") == before


@pytest.mark.slow
def test_only_the_files_of_a_run_are_moved(call, runs):
    write("k1", {**PROJECT, "checkpoints/epoch=7.ckpt": "of others"})
    run = {
        "config.yaml",
        "hparams.yaml",
        "metrics.csv",
        "summary.json",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
    }
    before = contents("k1")
    events = {name for name in before if name.endswith(".poolformer")}
    assert call(*FIT, "--trainer.default_root_dir", "k1")[0] == 0
    now = contents("k1")
    assert {name.removeprefix("previous/1/") for name in now if name.startswith("previous/1/")} == run | events
    for name in before:
        assert now[f"previous/1/{name}" if name in run | events else name] == before[name]


@pytest.mark.slow
def test_checkpoints_that_a_callback_recorded_are_moved_with_the_run(call):
    Path("keep.yaml").write_text(
        "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: "
        "{dirpath: run/kept, filename: '{epoch}', save_top_k: -1, monitor: val/loss}}]}\n"
    )
    for _ in range(2):
        code, _, err = call(*FIT, "--config", "digits", "--config", "keep.yaml", "--trainer.default_root_dir", "run")
        assert code == 0, err
        write("run", {"kept/mine.ckpt": "of others"})
    assert {"previous/1/kept/epoch=0.ckpt", "kept/epoch=0.ckpt", "kept/mine.ckpt"} <= contents("run").keys()


@pytest.mark.slow
def test_predictions_and_results_of_a_run_go_with_it(call, runs):
    assert call("predict", "--ckpt_path", "k1/checkpoints/best.ckpt")[0] == 0
    Path("k1/result.json").write_text('{\n "top1": 0.5\n}\n')
    assert call(*FIT, "--trainer.default_root_dir", "k1")[0] == 0
    assert {"previous/1/predictions.csv", "previous/1/result.json"} <= contents("k1").keys()
    assert not {"predictions.csv", "result.json"} & contents("k1").keys()


@pytest.mark.slow
def test_a_run_of_the_version_before_is_a_run(call, runs):
    config = Path("k1/config.yaml")
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("# poolformer")))
    events = next(Path("k1").glob("events.*"))
    events.rename(str(events).removesuffix(".poolformer"))
    before = contents("k1")
    assert call(*FIT, "--trainer.default_root_dir", "k1")[0] == 0
    assert contents("k1/previous/1") == before


# ---- a run that is going on


class StartAnother(Callback):
    """Starts another run in the middle of training, and keeps what lay in the directory before and after."""

    def __init__(self, call, run_dir: str, *options: str):
        self.call, self.run_dir, self.options, self.done = call, run_dir, options, None

    def on_train_end(self, trainer, *_: Any) -> None:
        if self.done is None:
            write(self.run_dir, {f"checkpoints/.last.ckpt.{os.getpid()}-abcdef.tmp": "half a checkpoint"})
            before = contents(self.run_dir), os.stat(self.run_dir).st_mtime_ns
            self.done = self.call(*FIT, "--trainer.default_root_dir", self.run_dir, *self.options)
            self.unchanged = before == (contents(self.run_dir), os.stat(self.run_dir).st_mtime_ns)


@pytest.mark.slow
@pytest.mark.parametrize("first", [[], ["--trainer.logger", "false"]], ids=["logger", "no logger"])
@pytest.mark.parametrize("second", [[], ["--trainer.logger", "false"], ["--ckpt_path", "last"]], ids=" ".join)
def test_a_second_start_is_refused_and_changes_nothing(call, runs, monkeypatch, first, second):
    another = StartAnother(call, "k1", *second)
    of_a_run = run_trainer.callbacks_of_a_run

    def with_another(run: run_trainer.RunOptions, *, logs: bool) -> list[Callback]:
        monkeypatch.setattr(run_trainer, "callbacks_of_a_run", of_a_run)
        return [another, *of_a_run(run, logs=logs)]

    monkeypatch.setattr(run_trainer, "callbacks_of_a_run", with_another)
    code, _, err = call(*FIT, *first, "--trainer.default_root_dir", "k1")
    assert code == 0, err
    assert another.done[0] == 2
    assert "another run is writing to 'k1': wait for it, stop it, or choose another" in another.done[2]
    assert another.unchanged
    assert read(Path("k1/checkpoints/last.ckpt"))["global_step"] == 1


def test_a_start_that_fails_leaves_no_folder_behind(call):
    code, _, _ = call(*FIT, "--data", "FolderData", "--data.train", "gone", "--data.val", "gone")
    assert code == 2
    assert list(Path().iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Experiment logs directory")
@pytest.mark.filterwarnings("ignore:'k1/metrics.csv' of the earlier run has been removed")
def test_the_lock_is_taken_before_a_logger_of_the_user_s_writes(call, runs):
    Path("csv.yaml").write_text(
        "trainer: {logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: "
        "{save_dir: k1, name: '', version: ''}}}\n"
    )
    options = ["--config", "digits", "--config", "csv.yaml", "--trainer.default_root_dir", "k1"]
    assert call(*FIT, *options)[0] == 0
    before = contents("k1")
    descriptor = lock(Path("k1"))
    try:
        assert call(*FIT, *options)[0] == 2
    finally:
        os.close(descriptor)
    assert contents("k1") == before


# ---- config.yaml means the directory that it lies in


def top1(done: tuple[int, str, str]) -> str:
    assert done[0] == 0, done[2]
    return next(line for line in done[1].splitlines() if "val/loss" in line).split()[-2]


@pytest.mark.slow
def test_a_copied_or_moved_run_is_itself(call, runs, tmp_path, monkeypatch):
    validate = ["validate", "--trainer.limit_val_batches", "1", "--trainer.enable_progress_bar", "false"]
    first, second = (top1(call(*validate, "--ckpt_path", f"{name}/checkpoints/best.ckpt")) for name in ("k1", "k2"))
    assert first != second
    shutil.copytree("k2", "k3")
    shutil.rmtree("k1")
    shutil.move("k2", "k1")  # k2's own name is gone, and k1's is another run's
    for name in ("k1", "k3"):
        assert top1(call(*validate, "--config", f"{name}/config.yaml", "--ckpt_path", "best")) == second
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = tmp_path / "work/k3/config.yaml"
    assert top1(call(*validate, "--config", config, "--ckpt_path", "best")) == second
    assert call("predict", "--config", config, "--ckpt_path", "best")[0] == 0
    assert (tmp_path / "work/k3/predictions.csv").is_file()
    assert list(Path().iterdir()) == []


@pytest.mark.slow
def test_fit_with_a_copied_run_s_configuration_trains_there(call, runs):
    shutil.copytree("k1", "k3")
    before = contents("k1")
    config = ["--config", "k3/config.yaml"]
    assert call("fit", *config, "--ckpt_path", "last", "--trainer.max_epochs", "2")[0] == 0
    assert read(Path("k3/checkpoints/last.ckpt"))["global_step"] == 2
    assert call("fit", *config)[0] == 0
    assert "previous/1/config.yaml" in contents("k3")
    assert contents("k1") == before
    assert call("fit", *config, "--trainer.default_root_dir", "k4")[0] == 0  # flags win
    assert contents("k1") == before
    assert yaml.safe_load(Path("k4/config.yaml").read_text())["trainer"]["default_root_dir"] == "k4"


# ---- an interrupted move


@pytest.mark.slow
@pytest.mark.parametrize("command", ["validate", "fit"])
def test_a_run_whose_move_was_interrupted_is_found_by_the_printed_command(call, runs, command):
    before = contents("k1")
    earlier_runs.move(Path("k1"), run_files.look(Path("k1")).files)
    assert "checkpoints/last.ckpt" not in contents("k1")
    options = ["--trainer.max_epochs", "2"] if command == "fit" else []
    code, _, err = call(command, "--config", "k1/config.yaml", "--ckpt_path", "last", *options)
    assert code == 0, err
    if command == "validate":
        now = contents("k1")
        assert now.pop("validate-1.json")
        assert now == before
    assert not Path("k1/previous/1").exists()
