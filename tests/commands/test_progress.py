"""How far a command is, in the lines of a log file; on a terminal a bar shows the same."""

import pytest

from poolformer.commands.progress import Progress, duration


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_file_gets_a_line_every_half_minute_with_rate_and_time_left(capsys):
    clock = Clock()
    with Progress("packed", 1_281_167, clock=clock) as progress:
        for second in range(1, 70):
            clock.now = second
            progress(second * 850)
            progress(second * 850)
    assert capsys.readouterr().err.splitlines() == [
        "packed 4,250 of 1,281,167 images, 850 images/s, 25 min left",
        "packed 29,750 of 1,281,167 images, 850 images/s, 25 min left",
        "packed 55,250 of 1,281,167 images, 850 images/s, 24 min left",
    ]


def test_other_work_begins_anew_and_what_is_quick_says_nothing(capsys):
    clock = Clock()
    with Progress("packed", 100, clock=clock) as progress:
        clock.now = 4
        progress(100)
        for done in (2**30, 5 * 2**30, 47 * 2**30):
            progress.turn_to("checksum of", 47 * 2**30, unit="bytes")
            clock.now += 5
            progress(done)
    assert capsys.readouterr().err.splitlines() == ["checksum of 1.00 of 47.00 GiB, 0.20 GiB/s, 4 min left"]


def test_the_first_few_foretell_nothing(capsys):
    clock = Clock()
    with Progress("packed", 334, clock=clock) as progress:
        clock.now = 36
        progress(1)
        clock.now = 66
        progress(10)
        progress.turn_to("checksum of", 2**30, unit="bytes")
        clock.now = 100
        progress(0)
    assert capsys.readouterr().err.splitlines() == [
        "packed 1 of 334 images",
        "packed 10 of 334 images, 0 images/s, 36 min left",
        "checksum of 0.00 of 1.00 GiB, 0.00 GiB/s",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (89, "89 s"), (120, "2 min"), (3599, "1 h 0 min"), (11100, "3 h 5 min")]
)
def test_a_time_to_wait_has_two_units_at_most(seconds, words):
    assert duration(seconds) == words


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("packed", 10) as progress:
        progress(5)
        progress.turn_to("checksum of", 2**30, unit="bytes")
        progress(2**30)
    assert "GiB" in progress.line(3)
