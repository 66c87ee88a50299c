"""Curves of several seeds brought together: the mean, and the range between them."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

Curve = Sequence[tuple[float, float]]
"""Points from left to right: a place, and a value."""


class Band(NamedTuple):
    """What the seeds have at a place.

    Attributes:
        x: The place.
        low: The lowest value.
        mean: Their mean.
        high: The highest value.
        seeds: How many there are.
    """

    x: float
    low: float
    mean: float
    high: float
    seeds: int


def spread(curves: Sequence[Curve]) -> list[Band]:
    """Return mean and range at each place, from left to right; of numbers alone, without what is not finite.

    Example:
        >>> spread([[(1, 0.2), (2, 0.4)], [(1, 0.4)]])[0]
        Band(x=1, low=0.2, mean=0.30000000000000004, high=0.4, seeds=2)
    """
    values: dict[float, list[float]] = {}
    for curve in curves:
        for x, value in curve:
            if math.isfinite(value):
                values.setdefault(x, []).append(value)
    return [Band(x, min(own), statistics.fmean(own), max(own), len(own)) for x, own in sorted(values.items())]


def whole(bands: Sequence[Band], seeds: int) -> list[Band]:
    """Return the places that all seeds have reached, as a mean of others is one of another thing."""
    return [band for band in bands if band.seeds == seeds]


def thinned(rows: Sequence[Sequence[Curve]], *, most: int) -> tuple[list[list[Curve]], bool]:
    """Return curves that can be seen: of long ones the means over equal parts of the axis, the same for all rows.

    Args:
        rows: For each row the curves of its seeds.
        most: Parts of the axis, and the points that a curve may have as it is.

    Returns:
        The curves, and whether they are such means.
    """
    points = [[x for x, _ in curve] for row in rows for curve in row]
    if max(map(len, points), default=0) <= most:
        return [list(row) for row in rows], False
    first, last = min(map(min, filter(None, points))), max(map(max, filter(None, points)))
    width = (last - first) / most
    return [[_means(curve, first, width, most) for curve in row] for row in rows], True


def _means(curve: Curve, first: float, width: float, most: int) -> Curve:
    parts: dict[int, list[float]] = {}
    for x, value in curve:
        if math.isfinite(value):
            parts.setdefault(min(most - 1, int((x - first) / width)), []).append(value)
    return [(first + (part + 0.5) * width, statistics.fmean(own)) for part, own in sorted(parts.items())]
