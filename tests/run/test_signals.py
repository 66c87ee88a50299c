"""Which signals stop a run, whose they are, and that a stop does not wait for a disk that hangs."""

import gc
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from data_images import write_class_folders
from forked import Started
from lightning.pytorch.callbacks import Callback
from runs import DRAWS, QUICK, SHORT, SignalAt, assert_same_state, last

from poolformer.run import stopping

pytestmark = pytest.mark.filterwarnings("ignore:`_get_value` was deprecated")

WARNINGS = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]


class SendAgain(SignalAt):
    """Sends the signal twice, as the kernel and a shell do when a terminal is closed."""

    def on_train_batch_end(self, trainer, *_):
        if self.step is None:
            os.kill(os.getpid(), self.signum)


@pytest.mark.slow
@pytest.mark.parametrize("signum", WARNINGS)
def test_a_warning_saves_as_sigterm_does_also_when_it_is_repeated(fit, signum):
    before = signal.signal(signum, signal.SIG_DFL)  # under nohup SIGHUP is ignored, and would stay so
    try:
        assert fit("run", base=QUICK, callbacks=[SendAgain("training", 1, signum)]) == 128 + signum
    finally:
        signal.signal(signum, before)
    assert last("run")["global_step"] == 2


@pytest.mark.slow
def test_sigterm_saves_also_when_slurm_sends_it_to_a_task_and_again_through_srun(fit, monkeypatch):
    for name, value in {"JOB_ID": "7", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert fit("run", base=QUICK, callbacks=[SendAgain("training", 1)]) == 143
    assert last("run")["global_step"] == 2


def test_a_signal_that_is_ignored_or_taken_is_left_alone():
    def of_the_user(signum, frame): ...

    before = signal.getsignal(signal.SIGHUP)
    stop = stopping.StopOnSignal()
    try:
        for handler in (signal.SIG_IGN, of_the_user):
            signal.signal(signal.SIGHUP, handler)
            stop._listen()
            assert signal.getsignal(signal.SIGHUP) is handler
            assert signal.getsignal(signal.SIGUSR1) == stop._note
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        stop._listen()
        assert signal.getsignal(signal.SIGHUP) == stop._note
    finally:
        signal.signal(signal.SIGHUP, before)
        for signum in stopping.SIGNALS:
            if signal.getsignal(signum) == stop._note:
                signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)


class Hang(Callback):
    """Has images hang when they are read, from a place of training on, and sends SIGTERM then."""

    def __init__(self, images: Path, hook: str, step: int):
        self.images, self.step = images, step
        setattr(self, hook, self._hang)
        self.sent_s = 0.0

    def on_train_batch_start(self, *_): ...

    def on_validation_start(self, *_): ...

    def _hang(self, trainer, *_):
        if trainer.global_step == self.step and not trainer.sanity_checking and not self.sent_s:
            hang(self.images)
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
            self.sent_s = time.monotonic()


def hang(images: Path) -> None:
    shutil.copytree(images, images.with_name("kept"), dirs_exist_ok=True)
    for path in images.rglob("*"):
        if path.is_file():
            path.unlink()
            os.mkfifo(path)  # whose reader waits for a writer


def let_go(images: Path) -> None:
    """Have the images back, and what hangs read nothing."""
    for path in images.rglob("*"):
        if path.is_fifo():
            writer = os.open(path, os.O_RDWR)
            copy = shutil.copy(images.with_name("kept") / path.relative_to(images), path.with_suffix(".copy"))
            os.replace(copy, path)
            os.close(writer)


@pytest.fixture
def images(tmp_path):
    folder = write_class_folders(tmp_path / "images", images=7)
    yield folder
    deadline = time.monotonic() + 10  # for threads to notice that they are not needed any more
    while any(each.name.startswith("poolformer-data") for each in threading.enumerate()):
        gc.collect()
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)


def of_folders(train: Path, val: Path) -> list[str]:
    base = [*SHORT, *DRAWS, "--data", "FolderData", "--data.train", str(train), "--data.val", str(val)]
    base += ["--data.image_size", "32", "--data.batch_size", "2", "--model.backbone", "poolformer_tiny"]
    base += ["--model.num_classes", "3", "--model.warmup_epochs", "0", "--model.cooldown_epochs", "0"]
    return [*base, "--data.num_workers", "1", "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "options"),
    [
        ("training", []),
        ("training", ["--trainer.accumulate_grad_batches", "2"]),  # between the batches of a step, perhaps
        ("validation", []),
    ],
)
def test_a_stop_does_not_wait_for_a_disk_that_hangs(fit, images, tmp_path, where, options):
    others = write_class_folders(tmp_path / "others", images=6)
    train, val = (images, others) if where == "training" else (others, images)
    base = [*of_folders(train, val), *options, "--trainer.num_sanity_val_steps", "0"]
    assert fit("whole", base=base) == 0
    hook, step = ("on_train_batch_start", 2) if where == "training" else ("on_validation_start", 9)
    hanging = Hang(images, hook, step)
    steps = 9 // int((options or ["1"])[-1])
    hanging.step = min(step, steps)
    try:
        assert fit("run", base=base, callbacks=[hanging]) == 143
        assert time.monotonic() - hanging.sent_s < 10
    finally:
        let_go(images)
    assert last("run")["global_step"] > 0
    assert fit("run", "--ckpt_path", "last", base=base) == 0
    assert_same_state("whole", "run")


STUCK_DATA = """
import time
import lightning.pytorch as pl, torch
from torch.utils.data import DataLoader, Dataset

class Images(Dataset):
    def __len__(self): return 64
    def __getitem__(self, index):
        if index >= self.stuck_from: time.sleep(600)
        return torch.full((3, 8, 8), index, dtype=torch.uint8), index % 10

class Stuck(pl.LightningDataModule):
    batch_size = 8
    def __init__(self, num_workers: int = 0, image_size: int = 8):
        super().__init__()
        self.num_workers, self.image_size = num_workers, image_size
    def loader(self, stuck_from):
        images = Images()
        images.stuck_from = stuck_from
        return DataLoader(images, self.batch_size, num_workers=self.num_workers)
    def train_dataloader(self): return self.loader(24)
    def val_dataloader(self): return self.loader(99)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stop_does_not_wait_for_somebody_elses_loader(fit, tmp_path, on_path, workers):
    (tmp_path / "stuck_data.py").write_text(STUCK_DATA)
    on_path(tmp_path)
    base = [*SHORT, "--data", "stuck_data.Stuck", "--data.num_workers", str(workers), "--trainer.max_epochs", "1"]
    base += ["--model.num_classes", "10", "--model.backbone", "poolformer_tiny", "--model.warmup_epochs", "0"]
    base += ["--model.cooldown_epochs", "0", "--trainer.num_sanity_val_steps", "0"]

    class SignalSoon(Callback):
        sent_s = 0.0

        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 3:
                self.sent_s = time.monotonic()
                threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()

    soon = SignalSoon()
    assert fit("run", base=base, callbacks=[soon]) == 143
    assert time.monotonic() - soon.sent_s < 10
    assert last("run")["global_step"] == 3


@pytest.mark.exhaustive
def test_a_process_whose_threads_hang_ends(tmp_path):
    """Also where nobody waits for them: Python would join them at its end."""
    images = write_class_folders(tmp_path / "images", images=7)
    command = ["-m", "poolformer", "fit", *of_folders(images, images), "--trainer.max_epochs", "900"]
    run_dir = tmp_path / "run"
    process = Started(*command, "--trainer.default_root_dir", run_dir)
    try:
        deadline = time.monotonic() + 240
        while not (run_dir / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None, process.said()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        hang(images)
        time.sleep(3)
        sent_s = time.monotonic()
        process.send_signal(signal.SIGHUP)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 129, said
        assert time.monotonic() - sent_s < 10
        assert "Traceback" not in said
    finally:
        process.kill()
