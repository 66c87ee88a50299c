"""What passes is waited for, what stays is raised."""

import errno
import os

import pytest

from poolformer.data import patience


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    return slept


def failing(number: int, code: int):
    left = [number]

    def read() -> str:
        if left[0]:
            left[0] -= 1
            raise OSError(code, os.strerror(code))
        return "read"

    return read


@pytest.mark.parametrize("times", range(len(patience.PAUSES_S) + 1))
def test_what_passes_is_read_after_longer_and_longer_pauses(pauses, caplog, times):
    assert patience.patiently(failing(times, errno.EIO), "a.jpg") == "read"
    assert pauses == [*patience.PAUSES_S[:times]]
    assert caplog.text.count("a.jpg: Input/output error; trying again in") == times


def test_what_does_not_pass_is_raised_after_the_last_pause(pauses):
    with pytest.raises(OSError, match="Input/output error"):
        patience.patiently(failing(len(patience.PAUSES_S) + 1, errno.EIO), "a.jpg")
    assert pauses == [*patience.PAUSES_S]


def test_a_missing_file_is_not_waited_for(pauses):
    with pytest.raises(FileNotFoundError):
        patience.patiently(failing(1, errno.ENOENT), "a.jpg")
    assert pauses == []


def test_a_file_is_read_to_its_end_and_no_further(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    with open(tmp_path / "a", "rb") as file:
        assert patience.read_at(file.fileno(), 3, 4, "a") == b"3456"
        assert patience.read_at(file.fileno(), 8, 100, "a") == b"89"
