"""Which page of a .beton each of its samples lies in."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Pages(NamedTuple):
    """Which page each sample lies in, by runs: where samples are stored in their order there is one of each page."""

    starts: np.ndarray
    """First sample of each run, int64, ascending from 0."""
    pages: np.ndarray
    """Its page, int64."""
    samples: int

    def of(self, samples: np.ndarray) -> "Pages":
        """Return the pages of some of the samples, ascending, which are then counted from 0."""
        return Pages(np.searchsorted(samples, self.starts), self.pages, len(samples))

    def behind(self, others: "Pages") -> "Pages":
        """Return these pages as those of further samples behind others, with numbers of their own."""
        first = int(others.pages.max(initial=-1)) + 1
        starts = np.concatenate([others.starts, self.starts + others.samples])
        return Pages(starts, np.concatenate([others.pages, self.pages + first]), others.samples + self.samples)


def runs_of(pages: Iterable[np.ndarray]) -> Pages:
    """Return the runs of equal pages.

    Args:
        pages: Of all samples, in blocks of int64.
    """
    starts, found, samples, last = [], [], 0, None
    for block in pages:
        changes = np.flatnonzero(np.diff(block)) + 1
        first = np.zeros(0 if last == block[0] else 1, np.int64)
        changes = np.concatenate([first, changes])
        starts.append(changes + samples)
        found.append(block[changes])
        samples, last = samples + len(block), block[-1]
    return Pages(np.concatenate(starts), np.concatenate(found), samples)
