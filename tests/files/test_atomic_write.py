"""A file that is written is there whole or not at all, and only what is a file is replaced."""

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys

import pytest

from poolformer.files.atomic_write import atomic_write, replacing


def fail_halfway(path) -> None:
    with atomic_write(path, "w") as file:
        file.write("after")
        raise RuntimeError("halfway")


def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path):
    (tmp_path / "a").write_text("before")
    with pytest.raises(RuntimeError, match="halfway"):
        fail_halfway(tmp_path / "a")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "before")]


def test_a_kill_leaves_what_was_there(tmp_path):
    (tmp_path / "a").write_text("before")
    script = (
        "import os, sys; from poolformer.files.atomic_write import atomic_write\n"
        "with atomic_write(sys.argv[1], 'w') as file:\n"
        "    file.write('x' * 100_000); file.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_text() == "before"


def test_what_writes_to_a_name_can_be_given_one(tmp_path):
    with replacing(tmp_path / "a") as unfinished:
        unfinished.write_bytes(b"whole")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a").write_text("before")
    (tmp_path / "a").symlink_to(tmp_path / "disk" / "a")
    with atomic_write(tmp_path / "a", "w") as file:
        file.write("after")
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "disk" / "a").read_text() == "after"


def test_devices_and_folders_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match="not a regular file"), atomic_write(tmp_path / name):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_flushes_no_folders_is_written_to(tmp_path, monkeypatch, code):
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    expected = pytest.raises(OSError, match="Input/output") if code == errno.EIO else contextlib.nullcontext()
    with expected, atomic_write(tmp_path / "a", "w") as file:
        file.write("after")
    assert (tmp_path / "a").read_text() == "after"


def test_a_folder_that_cannot_be_read_is_written_to(tmp_path, monkeypatch):
    opened = os.open

    def refuse(path, flags: int, *arguments) -> int:
        if os.path.isdir(path):  # what root, too, is refused, unlike by its mode
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, flags, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    with atomic_write(tmp_path / "a", "w") as file:
        file.write("after")
    assert (tmp_path / "a").read_text() == "after"


@pytest.mark.parametrize("name", ["x" * 250, "数" * 82, "\udce9" * 250], ids=["ASCII", "UTF-8", "neither"])
def test_a_long_name_is_written(tmp_path, name):
    with atomic_write(tmp_path / name, "w") as file:
        file.write("after")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "after")]


def test_the_umask_decides_who_may_read_it(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
