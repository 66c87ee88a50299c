"""Checkpoints that are whole at any moment: under kills, on full and on read-only disks."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.checkpoint.reading import read
from poolformer.checkpoint.writing import SafeCheckpointIO, has_saved, remove_unfinished
from poolformer.classifier import ImageClassifier
from poolformer.cli.dispatch import main
from poolformer.errors import RunError
from poolformer.files.store import Store

MIB = 2**20
# Saves for ever, and says when a write begins; argv: class, path, MiB.
WRITER = """
import sys, torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from poolformer.checkpoint.writing import SafeCheckpointIO
io, path, n = {"safe": SafeCheckpointIO, "lightning": TorchCheckpointIO}[sys.argv[1]](), sys.argv[2], 0
weights = torch.rand(int(sys.argv[3]) * 2**18)
while True:
    print(n, flush=True)
    io.save_checkpoint({"weights": weights, "n": n}, path)
    n += 1
"""
KILLS = int(os.environ.get("POOLFORMER_KILLS", 3))


def kill_in_mid_write(path: Path, kind: str, *, mib: int, draw: random.Random) -> int:
    """Kill a process that saves for ever somewhere in a write; return how many writes it had completed."""
    # TMPDIR on another file system than the checkpoints: the normal layout of a cluster.
    environment = os.environ | {"TMPDIR": "/dev/shm"}
    command = [sys.executable, "-c", WRITER, kind, str(path), str(mib)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        starts = []
        while len(starts) < 3:
            process.stdout.readline()
            starts.append(time.monotonic())
        time.sleep(draw.uniform(0, 1) * (starts[2] - starts[1]))
        process.send_signal(signal.SIGKILL)
        return 2 + len(process.stdout.read().split())


@pytest.mark.exhaustive
def test_a_checkpoint_loads_after_a_kill_in_the_middle_of_a_write(tmp_path):
    """POOLFORMER_KILLS says how many kills; POOLFORMER_KILLED=lightning shows what they do to Lightning's own."""
    kind, draw, left = os.environ.get("POOLFORMER_KILLED", "safe"), random.Random(0), 0
    for kill in range(KILLS):
        path = tmp_path / f"{kill}" / "last.ckpt"
        path.parent.mkdir()
        completed = kill_in_mid_write(path, kind, mib=80, draw=draw)
        assert completed - 2 <= read(path)["n"] <= completed
        left += len(list(path.parent.glob(".*")))
        remove_unfinished(path.parent)
        assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    assert left > 0  # some of the kills did come in the middle of a write


def test_what_is_written_is_read_back_and_nothing_stays_beside_it(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    for n in range(2):
        SafeCheckpointIO().save_checkpoint({"n": n, "weights": torch.ones(3)}, path)
    assert read(path)["n"] == 1
    assert list(path.parent.iterdir()) == [path]


def test_only_what_a_killed_write_left_is_removed(tmp_path):
    for name in ("last.ckpt", ".hidden", ".last.ckpt.123.tmp", "notes.tmp"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "last.ckpt", "notes.tmp"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_leaves_the_checkpoint_before(small_disk):
    path = small_disk / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"n": 0, "weights": torch.zeros(MIB)}, path)
    with pytest.raises(RunError, match=r"last.ckpt' cannot be written .*No space left.*what was there before is kept"):
        SafeCheckpointIO().save_checkpoint({"n": 1, "weights": torch.zeros(4 * MIB)}, path)
    assert read(path)["n"] == 0
    assert list(small_disk.iterdir()) == [path]


def test_training_may_go_on_when_the_disk_is_full(small_disk):
    path = small_disk / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"n": 0}, path)
    with pytest.warns(UserWarning, match="No space left on device"):
        SafeCheckpointIO("continue").save_checkpoint({"n": 1, "weights": torch.zeros(8 * MIB)}, path)
    assert read(path)["n"] == 0


@pytest.fixture
def fit_while_the_disk_fills(small_disk, monkeypatch, capsys):
    """Trains four epochs; the disk is full from the start of the second, and has room again from the fourth."""
    filler = small_disk / "filler"

    def at_the_start_of_an_epoch(self: ImageClassifier) -> None:
        if self.trainer.current_epoch == 1:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
        elif self.trainer.current_epoch == 3:
            filler.unlink()

    def fit(if_saving_fails: str, *, epochs: int = 4) -> tuple[int, Path, str]:
        options = ["--trainer.max_epochs", str(epochs), "--model.warmup_epochs", "0", "--trainer.accelerator", "cpu"]
        options += ["--trainer.default_root_dir", str(small_disk / "run"), "--trainer.enable_progress_bar", "false"]
        options += ["--trainer.log_every_n_steps", "1"]  # more than what may be left of the log's last page
        code = main(["fit", *options, "--if_saving_fails", if_saving_fails])
        return code, small_disk / "run", capsys.readouterr().err

    monkeypatch.setattr(ImageClassifier, "on_train_epoch_start", at_the_start_of_an_epoch)
    before = os.environ.copy()
    yield fit
    os.environ.clear()
    os.environ.update(before)


def curve(run: Path, tag: str, *, values: bool = False) -> list[float]:
    """The steps, or the values, of a curve as TensorBoard shows it."""
    events = EventAccumulator(str(run)).Reload()
    return [event.value if values else event.step for event in events.Scalars(tag)]


@pytest.mark.slow
def test_a_run_goes_on_over_a_full_disk_where_the_user_chose_that(fit_while_the_disk_fills):
    with pytest.warns(UserWarning, match="No space left on device") as warnings:
        code, run, _ = fit_while_the_disk_fills("continue")
    assert code == 0
    assert read(run / "checkpoints" / "last.ckpt")["epoch"] == 3
    # What could not be written was no best epoch.
    best = read(run / "checkpoints" / "best.ckpt")
    assert best["epoch"] in (0, 3)
    state = next(each for name, each in best["callbacks"].items() if name.startswith("BestCheckpoint"))
    scores = dict(zip(curve(run, "val/top1"), curve(run, "val/top1", values=True), strict=True))
    assert state["best_model_score"] == pytest.approx(max(scores.values()))
    assert len([warning for warning in warnings if "the log in" in str(warning.message)]) == 1
    # Epochs of 22 steps: two were lost, those before and after them are there.
    assert curve(run, "val/top1") == [21, 87]
    assert all(path.stat().st_size for path in run.glob("events.*"))


@pytest.mark.slow
def test_a_run_whose_end_could_not_be_saved_says_so(fit_while_the_disk_fills):
    with pytest.warns(UserWarning, match="No space left on device"):
        code, run, said = fit_while_the_disk_fills("continue", epochs=3)
    assert code == 2
    assert f"the end of the run in '{run}' could not be saved; its checkpoints are older" in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* cannot be written")
def test_a_run_ends_in_a_line_when_the_disk_is_full(fit_while_the_disk_fills):
    code, run, said = fit_while_the_disk_fills("stop")
    assert code == 2
    assert re.search(r"^poolformer: error: .*/run.*cannot be written.*No space left on device", said, re.MULTILINE)
    assert "Traceback" not in said
    assert read(run / "checkpoints" / "last.ckpt")["epoch"] == 0
    assert curve(run, "val/top1") == [21]


def test_a_signal_on_a_full_disk_is_not_said_to_be_saved(small_disk):
    path = small_disk / "last.ckpt"
    checkpoint_io = SafeCheckpointIO("continue")
    trainer = pl.Trainer(accelerator="cpu", logger=False, plugins=[checkpoint_io])
    checkpoint_io.save_checkpoint({"n": 0}, path)
    assert has_saved(trainer)
    with pytest.warns(UserWarning, match="No space left on device"):
        checkpoint_io.save_checkpoint({"n": 1, "weights": torch.zeros(8 * MIB)}, path)
    assert not has_saved(trainer)


def test_a_run_that_the_disk_has_no_room_for_is_refused_before_its_first_step(small_disk, capsys):
    (small_disk / "filler").write_bytes(bytes(10 * MIB))
    before = os.environ.copy()
    options = ["--trainer.max_epochs", "1", "--model.warmup_epochs", "0", "--trainer.accelerator", "cpu"]
    try:
        code = main(["fit", "--trainer.default_root_dir", str(small_disk / "run"), *options])
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert code == 2
    assert re.search(r"has 6 MiB free, and the checkpoints of this run need 11: make room", capsys.readouterr().err)
    assert not (small_disk / "run").exists()


def test_a_read_only_disk_is_refused_before_its_first_step(small_disk, capsys):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    run = small_disk / "run"
    assert main(["fit", "--trainer.default_root_dir", str(run)]) == 2
    refusal = f"the run cannot be written to '{run}': '{small_disk}' is no folder to write in (Read-only file system)"
    assert capsys.readouterr().err == f"poolformer: error: {refusal}\n"


def test_a_read_only_folder_of_checkpoints_is_refused_before_the_first_step(small_disk, capsys):
    """As when it is mounted into a container: the run's directory itself can be written to."""
    folder = small_disk / "run" / "checkpoints"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        before = os.environ.copy()
        try:
            options = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--model.warmup_epochs", "0"]
            code = main(["fit", "--trainer.default_root_dir", str(small_disk / "run"), *options])
        finally:
            os.environ.clear()
            os.environ.update(before)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    assert code == 2
    refusals = [line for line in capsys.readouterr().err.splitlines() if line.startswith("poolformer: error: ")]
    what = f"no checkpoint can be written to '{folder}' (Read-only file system)"
    how = "make it writable, or choose another --trainer.default_root_dir"
    assert refusals == [f"poolformer: error: {what}: {how}"]
    assert [path.name for path in (small_disk / "run").iterdir()] == ["checkpoints"]


def test_a_checkpoint_of_a_callback_of_ones_own_is_written_to_its_url(tmp_path):
    url = f"memory://{tmp_path.name}/of/mine.ckpt"
    SafeCheckpointIO().save_checkpoint({"epoch": 3}, url)
    Store(url.rpartition("/")[0]).fetch("mine.ckpt", tmp_path / "mine.ckpt")
    assert read(tmp_path / "mine.ckpt") == {"epoch": 3}
    with pytest.raises(RunError, match=r"'https://127.0.0.1:9/x.ckpt' cannot be written"):
        SafeCheckpointIO().save_checkpoint({}, "https://127.0.0.1:9/x.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.ckpt"]
