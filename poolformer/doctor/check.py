"""One thing that was looked at: what was found, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

from ..errors import printable

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Check:
    """A thing that was looked at.

    Attributes:
        name: What it is, in a word or two.
        state: ``ok``; ``note`` for what is missing and can be done without; ``wrong`` for what a run would fail at.
        text: What was found.
        remedy: What to do, a command where there is one; empty where nothing has to be done.
    """

    name: str
    state: State
    text: str
    remedy: str = ""

    @property
    def lines(self) -> str:
        """The thing as a person reads it."""
        mark = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}[self.state]
        remedy = f"\n{'':24}-> {printable(self.remedy)}" if self.remedy else ""
        return f"{mark}  {printable(self.name):15}  {printable(self.text)}{remedy}"


def gib(nbytes: float) -> str:
    """Return a size as people read it.

    Example:
        >>> gib(64 << 20), gib(3 << 29)
        ('64 MiB', '1.5 GiB')
    """
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.0f} MiB"
