"""One run writes to a directory; the system lets go of it."""

import pickle

import pytest

from poolformer.errors import ConfigError
from poolformer.files.lock import RunLock

fcntl = pytest.importorskip("fcntl")


def test_a_directory_is_made_and_locked_until_it_is_released(tmp_path):
    first, second = RunLock(tmp_path / "a" / "run"), RunLock(tmp_path / "a" / "run")
    first.take()
    with pytest.raises(ConfigError, match=r"another run is writing to '.*run': wait for it, stop it, or choose"):
        second.take()
    first.release()
    second.take()
    second.release()


def test_a_start_that_fails_removes_the_folders_that_it_made_and_no_others(tmp_path):
    (tmp_path / "a").mkdir()
    lock = RunLock(tmp_path / "a" / "b" / "run")
    lock.take()
    lock.discard()
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]


def test_what_has_something_in_it_stays(tmp_path):
    lock = RunLock(tmp_path / "b" / "run")
    lock.take()
    (tmp_path / "b" / "mine").touch()
    lock.discard()
    assert [path.name for path in tmp_path.rglob("*")] == ["b", "mine"]


def test_a_refused_start_does_not_remove_what_another_run_has(tmp_path):
    first, second = RunLock(tmp_path / "run"), RunLock(tmp_path / "run")
    first.take()
    with pytest.raises(ConfigError):
        second.take()
    second.discard()
    assert (tmp_path / "run").is_dir()
    first.release()


def test_a_file_in_its_place_is_a_line(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(ConfigError, match=r"the run cannot be written to '.*taken/run' \(Not a directory\)"):
        RunLock(tmp_path / "taken" / "run").take()


def test_another_process_that_gets_the_object_does_not_hold_the_lock(tmp_path):
    lock = RunLock(tmp_path / "run")
    lock.take()
    pickle.loads(pickle.dumps(lock)).discard()
    with pytest.raises(ConfigError):
        RunLock(tmp_path / "run").take()
    lock.release()
