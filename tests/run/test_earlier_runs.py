"""A run is moved to ``previous/<n>`` as a whole: killed or failing at any of its file operations, it is found."""

import contextlib
import errno
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poolformer.errors import ConfigError
from poolformer.run import config as run_config
from poolformer.run.directory import RunDirectory
from poolformer.run.earlier_runs import move, recover, restore, settle

FILES = {
    "config.yaml": run_config.as_text("first", {}),
    "hparams.yaml": "backbone: poolformer_tiny\nmixer: pooling\n",
    "events.out.tfevents.1.host.2.0.poolformer": "curves",
    "checkpoints/best.ckpt": "best weights",
    "checkpoints/last.ckpt": "last weights",
}
FOREIGN = {"notes.txt": "mine", "checkpoints/pretrained.pth": "weights of others", "previous/mine.txt": "mine too"}
NEW = run_config.as_text("second", {})
OPERATIONS = ("link", "rename", "replace", "unlink", "mkdir", "rmdir", "fsync", "open")


@pytest.fixture
def run_dir(tmp_path) -> Path:
    for name, text in {**FILES, **FOREIGN}.items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text(text)
    return tmp_path / "run"


@pytest.fixture
def elsewhere(tmp_path) -> Iterator[Path]:
    """A folder of another file system."""
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no other file system here")
    with tempfile.TemporaryDirectory(dir=shared_memory) as folder:
        yield Path(folder)


def below(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp")
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


def begin(run_dir: Path) -> None:
    """Do what a start does with the directory, up to its first batch."""
    directory = RunDirectory(run_dir, resumes=False, save_config=lambda path: path.write_text(NEW))
    directory.open()
    try:
        directory.on_train_start(None, None)
    finally:
        directory.close()


def is_whole(found: dict[str, str], prefix: str = "") -> bool:
    return all(found.get(f"{prefix}{name}") == text for name, text in FILES.items())


class Counted:
    """The functions of `os` that change files, of which the N-th does something else."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, instead):
        self.count = 0
        for name in OPERATIONS:
            patch.setattr(os, name, self._counting(getattr(os, name), at, instead))

    def _counting(self, function, at, instead):
        def counted(*args, **kwargs):
            self.count += 1
            if self.count == at:
                instead()
            return function(*args, **kwargs)

        return counted


def killed_at(number: int, run_dir: Path, act: Callable[[Path], object] | None = None) -> bool:
    """Act in a process of its own that kills itself at an operation; return whether it came to that."""
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            Counted(patch, number, lambda: os.kill(os.getpid(), signal.SIGKILL))
            (act or begin)(run_dir)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


def each_kill(make, tmp_path: Path) -> Iterator[Path]:
    number, killed = 1, True
    while killed:
        run_dir = make(tmp_path / str(number))
        killed = killed_at(number, run_dir)
        yield run_dir
        number += 1
    assert number > 30


def copy_of(run_dir: Path):
    def make(place: Path) -> Path:
        for name, text in below(run_dir).items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
        return place

    return make


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_kill_at_any_moment_leaves_a_whole_run_and_nothing_of_others_moved(run_dir, tmp_path):
    for place in each_kill(copy_of(run_dir), tmp_path):
        found = below(place)
        assert is_whole(found) or is_whole(found, "previous/1/"), sorted(found)
        recover(place)
        found = below(place)
        assert is_whole(found) != is_whole(found, "previous/1/"), sorted(found)
        assert (found["config.yaml"] == NEW) == is_whole(found, "previous/1/")
        assert FOREIGN.items() <= found.items()
        begin(place)
        assert is_whole(below(place), "previous/1/")
        assert not list(place.glob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_kill_while_a_move_is_undone_leaves_it_to_be_undone(run_dir, tmp_path):
    move(run_dir, [run_dir / name for name in FILES])
    interrupted = below(run_dir)
    for number in range(1, 99):
        place = tmp_path / f"again-{number}"
        for name, text in interrupted.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
        killed = killed_at(number, place, restore)
        recover(place)
        assert below(place) == {**FILES, **FOREIGN}
        if not killed:
            break
    assert not killed


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_an_error_at_any_moment_is_a_mistake_of_nobody_and_the_run_is_back(run_dir, tmp_path, code):
    def fail() -> None:
        raise OSError(code, os.strerror(code))

    for number in range(1, 100):
        place = copy_of(run_dir)(tmp_path / str(number))
        with pytest.MonkeyPatch.context() as patch:
            counted = Counted(patch, number, fail)
            with contextlib.suppress(ConfigError):
                begin(place)
        found = below(place)
        if found["config.yaml"] == NEW:
            assert is_whole(found, "previous/1/")
        else:
            assert found == {**FILES, **FOREIGN}
        if counted.count < number:
            break
    assert 30 < number < 99


def test_where_files_have_no_second_names_they_are_copied(run_dir, monkeypatch):
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    settle(move(run_dir, [run_dir / name for name in FILES]))
    assert is_whole(below(run_dir), "previous/1/")
    assert not (run_dir / "checkpoints/last.ckpt").exists()


def test_checkpoints_on_another_disk_are_moved_too(run_dir, elsewhere):
    for name in ("best", "last"):
        (elsewhere / f"{name}.ckpt").write_text(f"{name} weights")
        (run_dir / "checkpoints" / f"{name}.ckpt").unlink()
    (run_dir / "checkpoints/pretrained.pth").unlink()
    (run_dir / "checkpoints").rmdir()
    (run_dir / "checkpoints").symlink_to(elsewhere)
    begin(run_dir)
    assert is_whole(below(run_dir), "previous/1/")
    assert list(elsewhere.iterdir()) == []
    assert (run_dir / "checkpoints").is_symlink()


def test_a_move_that_is_settled_is_not_undone(run_dir):
    begin(run_dir)
    before = below(run_dir)
    assert not recover(run_dir)
    assert below(run_dir) == before


def test_a_live_start_is_not_disturbed(run_dir):
    directory = RunDirectory(run_dir, resumes=False, save_config=lambda path: None)
    directory.open()
    target = move(run_dir, [run_dir / name for name in FILES])
    before = below(run_dir)
    assert not recover(run_dir)
    assert below(run_dir) == before
    settle(target)
    directory.started = True
    directory.close()


def test_folders_of_others_in_previous_are_left_alone(run_dir):
    for name in ("previous/3/kept.txt", "previous/.7/kept.txt", "previous/.git/kept.txt"):
        (run_dir / name).parent.mkdir(parents=True)
        (run_dir / name).write_text("mine")
    begin(run_dir)
    found = below(run_dir)
    assert is_whole(found, "previous/8/")
    assert found["previous/3/kept.txt"] == found["previous/.7/kept.txt"] == found["previous/.git/kept.txt"] == "mine"
