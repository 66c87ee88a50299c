"""Differences paired by seed: what two rows trained with the same draws differ by, and how sure that is."""

import math
import statistics
from collections.abc import Mapping
from typing import NamedTuple

_MOST_SEEDS = 10_000


class Difference(NamedTuple):
    """A mean difference of pairs.

    Attributes:
        mean: Of the differences.
        low: Lower end of Student's t interval; None for less than two pairs.
        high: Its upper end.
        std: Sample standard deviation of the differences; None for less than two pairs.
        n: Pairs.
        unpaired_error: Standard error that the same numbers would have if they were not paired.
    """

    mean: float
    low: float | None
    high: float | None
    std: float | None
    n: int
    unpaired_error: float | None

    @property
    def error(self) -> float | None:
        """Standard error of the mean."""
        return None if self.std is None else self.std / math.sqrt(self.n)


def paired_difference(
    ours: Mapping[int, float], base: Mapping[int, float], *, level: float = 0.95
) -> Difference | None:
    """Return the difference of two rows over the seeds that both have; None without one.

    Args:
        ours: Scores by seed.
        base: Scores by seed of what is subtracted.
        level: Of the interval.
    """
    seeds = sorted(ours.keys() & base.keys())
    differences = [ours[seed] - base[seed] for seed in seeds]
    count = len(seeds)
    if not count:
        return None
    mean = statistics.fmean(differences)
    if count == 1:
        return Difference(mean, None, None, None, count, None)
    from scipy.stats import t  # 1 s

    std = statistics.stdev(differences)
    half = float(t.ppf(0.5 + level / 2, count - 1)) * std / math.sqrt(count)
    variances = [statistics.variance([scores[seed] for seed in seeds]) for scores in (ours, base)]
    return Difference(mean, mean - half, mean + half, std, count, math.sqrt(sum(variances) / count))


def seeds_needed(std: float, *, difference: float = 0.5, power: float = 0.8, level: float = 0.95) -> int:
    """Return how many pairs a two-sided paired t test needs to see a difference.

    Args:
        std: Standard deviation of the differences, in the unit of the difference.
        difference: To be seen.
        power: How often it is to be seen.
        level: One minus how often none is seen as one.
    """
    if std == 0:
        return 2
    low, high = 2, 2
    while not _shows(high, difference / std, power, level) and high < _MOST_SEEDS:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _shows(middle, difference / std, power, level) else (middle + 1, high)
    return low


def _shows(pairs: int, effect: float, power: float, level: float) -> bool:
    from scipy.stats import nct, t

    bound = t.ppf(0.5 + level / 2, pairs - 1)
    return bool(nct.sf(bound, pairs - 1, effect * math.sqrt(pairs)) >= power)
