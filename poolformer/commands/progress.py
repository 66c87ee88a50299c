"""How far a command is, on stderr: a bar on a terminal, a line every half minute in a log file."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from ..data.pace import Pace
from ..errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

GIB = 2**30
_TELLING = 10  # things done: fewer took the time of a start, and say nothing of the rest


class Progress:
    """Says how much is done, how fast, and how long the rest takes; to be used as a context.

    Args:
        work: What is done, as `packed`.
        total: How much there is to do.
        unit: What is counted: `images`, or `bytes`, which are shown in GiB.
        clock: Seconds, as of `time.monotonic`.
    """

    def __init__(
        self, work: str, total: int, *, unit: str = "images", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._work = clock, ""
        self._bar = _bar() if sys.stderr is not None and sys.stderr.isatty() else None
        self.turn_to(work, total, unit=unit)

    def turn_to(self, work: str, total: int, *, unit: str = "images", begun: int = 0) -> None:
        """Begin with other work, of which so much was done before; what is at work already goes on."""
        if work == self._work:
            return
        self._work, self._total, self._begun, self._is_bytes = work, total, begun, unit == "bytes"
        self._unit = "GiB" if self._is_bytes else unit
        self._pace, self._start = Pace(clock=self._clock), self._clock()
        if self._bar is not None:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._task = self._bar.add_task("", total=max(1, total), text="")

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int) -> None:
        """Say, where it is due, that so much is done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=self.line(done))
        elif done != self._total and self._pace.is_due():
            say(self.line(done))

    def line(self, done: int) -> str:
        """Return what is said of so much that is done."""
        rate = (done - self._begun) / max(1e-9, self._clock() - self._start)
        is_known = done <= self._total  # of a stream it is an estimate, or nothing
        amounts = f"{self._amount(done)}{f' of {self._amount(self._total)}' if is_known else ''} {self._unit}"
        if not self._is_bytes and done - self._begun < _TELLING:
            return f"{self._work} {amounts}"
        left = f", {duration((self._total - done) / rate)} left" if rate and is_known else ""
        return f"{self._work} {amounts}, {self._amount(rate)} {self._unit}/s{left}"

    def _amount(self, count: float) -> str:
        return f"{count / GIB:,.2f}" if self._is_bytes else f"{count:,.0f}"


def duration(seconds: float) -> str:
    """Return a time to wait, in its two largest units at most: `40 s`, `12 min`, `3 h 5 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _bar() -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(BarColumn(), TextColumn("{task.fields[text]}"), console=Console(stderr=True))


def say(line: str) -> None:
    """Print a line on stderr, where there is one."""
    if sys.stderr is not None:
        print(printable(line), file=sys.stderr, flush=True)
