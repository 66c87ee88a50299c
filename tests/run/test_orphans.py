"""A rank ends with the process that launched it, also where that is over before the rank has imported all it needs."""

import os
import subprocess
import sys

import pytest

from poolformer.run import orphans

pytestmark = pytest.mark.skipif(os.name != "posix", reason="of processes as POSIX has them")


_PARENT = 2**30  # no process has that number


@pytest.fixture
def dead():
    """The number of a process that is over."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return str(process.pid)


@pytest.fixture
def ended(monkeypatch):
    """Return whether a process ends, one of this rank and launched from there; it is not ended while that lives."""

    def ended(rank: str | None, launcher: str | None) -> bool:
        monkeypatch.setattr(orphans, "end_after", lambda wait: None)
        monkeypatch.setattr(os, "getppid", lambda: _PARENT)
        for name, value in (("LOCAL_RANK", rank), ("POOLFORMER_LAUNCHER", launcher)):
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        try:
            orphans.end_with_launcher()
        except SystemExit:
            return True
        assert os.environ["POOLFORMER_LAUNCHER"] == str(os.getpid())  # for what this one launches
        return False

    return ended


def test_a_rank_whose_launcher_is_over_ends(ended, dead):
    assert ended("1", dead)


def test_what_is_no_rank_or_has_a_launcher_that_lives_goes_on(ended, dead):
    assert not ended("1", str(_PARENT))
    assert not ended("1", str(os.getpid()))  # of a rank's own child, started through a shell
    assert not ended("1", None)  # of torchrun
    assert not ended("0", dead)  # started from the launcher, and left alone by it
    assert not ended(None, dead)


def test_a_rank_ends_after_its_launcher(monkeypatch):
    waits = []
    monkeypatch.setattr(orphans, "end_after", waits.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("POOLFORMER_LAUNCHER", str(os.getppid()))
    orphans.end_with_launcher()
    (wait,) = waits
    monkeypatch.setattr(os, "getppid", lambda: 1)  # as after the launcher's end
    wait()
