"""Lines are due after five seconds and then every half minute, by a clock that the test turns."""

from poolformer.data.file_tree import list_folder
from poolformer.data.pace import Pace, Scan


class Clock:
    def __init__(self, step: float):
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_line_is_due_after_five_seconds_and_then_every_thirty():
    clock = Clock(1)
    pace = Pace(clock=clock)
    due = []
    for _ in range(100):
        if pace.is_due():
            due.append(clock.now - 1)
    assert due == [5, 35, 65, 95]


def test_a_long_scan_says_how_many_files_there_are_so_far(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for n in range(10):
            (tmp_path / folder / f"{n}.jpg").touch()
    lines: list[str] = []
    listing = list_folder(tmp_path, Scan("photos", lines.append, Pace(clock=Clock(1))))
    assert len(listing.images) == 20
    # A clock that goes on by a second at each look, twice a file.
    assert lines[0] == "reading 'photos': 3 files so far"
    assert 1 < len(lines) < 4
    list_folder(tmp_path, Scan(tmp_path, lines.append))
    assert len(lines) == 2
