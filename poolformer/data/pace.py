"""When work that takes long says how far it is: after a few seconds without an end, and then every half minute."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

FIRST_S = 5.0
"""Until the first line: whoever waits longer asks whether anything happens."""
EVERY_S = 30.0
"""Between lines: a log file of a day stays readable."""


class Pace:
    """Tells when a line is due.

    Args:
        first_s: Seconds until the first.
        every_s: Seconds between two.
        clock: Seconds, as of `time.monotonic`.
    """

    def __init__(
        self, *, first_s: float = FIRST_S, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s, self._clock = every_s, clock
        self._next = clock() + first_s

    def is_due(self) -> bool:
        """Return whether a line is due now; the next one is then due later."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._every_s
        return True


class Scan:
    """Counts the files of a folder and says how many there are so far.

    Args:
        folder: What is read.
        say: Takes a line.
        pace: When lines are due.
    """

    def __init__(
        self, folder: str | os.PathLike[str], say: Callable[[str], None] = lambda line: None, pace: Pace | None = None
    ) -> None:
        self._folder, self._say, self._pace = folder, say, pace or Pace()
        self.files = 0

    def counted(self, files: Iterable[Item]) -> Iterator[Item]:
        """Yield files, and count them."""
        for file in files:
            self.files += 1
            self.tick()
            yield file

    def tick(self) -> None:
        """Say how many there are, where it is due."""
        if self._pace.is_due():
            self._say(f"reading '{self._folder}': {self.files:,} files so far")
