"""What few seeds can tell: differences paired by seed, the seeds that one needs, the order of the paper's rows.

Two rows trained with one seed see the same samples in the same order under the same random transforms, so a seed moves
both alike. The difference within each seed is free of that, where the difference of two means has it twice. Scores are
in one unit, whichever: what comes out is in it too.
"""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

FEW = 3  # of fewer seeds the interval exists, and is wide
_PERMUTATIONS = 2000
_ROUNDING = 1e-9
MOST_SEEDS = 2**20  # a count of as many means this or more


class Difference(NamedTuple):
    """The difference of a row to another, paired by seed.

    Attributes:
        mean: Of the differences.
        low: Lower end of its interval by Student's t; None for one seed, and where all seeds differ by the same: scores
            of so few images have no spread to tell it from.
        high: Upper end.
        std: Sample standard deviation of the differences; None for one seed.
        n: How many seeds both rows have.
        unpaired_error: Standard error that the difference of the two means has without pairing; None for one seed.
    """

    mean: float
    low: float | None
    high: float | None
    std: float | None
    n: int
    unpaired_error: float | None

    @property
    def error(self) -> float | None:
        """Standard error of the mean difference; None for one seed."""
        return None if self.std is None else self.std / math.sqrt(self.n)


class RankCorrelation(NamedTuple):
    """Spearman's rank correlation with the paper, and the pairs of rows ordered as there.

    Attributes:
        rho: The correlation, of mean ranks where there are ties.
        low: Lower end of its 95 % interval; None for less than four rows.
        high: Upper end.
        p: How often an order drawn at random correlates as much or more, in either direction.
        rows: How many rows it is of.
        pairs_right: Pairs in the paper's order.
        pairs: Pairs that differ in the paper.
    """

    rho: float
    low: float | None
    high: float | None
    p: float
    rows: int
    pairs_right: int
    pairs: int


def paired_difference(
    ours: Mapping[int, float], base: Mapping[int, float], *, level: float = 0.95
) -> Difference | None:
    """Return the mean difference over the seeds that both have, with its interval; None where they share none."""
    seeds = sorted(set(ours) & set(base))
    if not seeds:
        return None
    differences = [ours[seed] - base[seed] for seed in seeds]
    n, mean = len(seeds), statistics.fmean(differences)
    if n == 1:
        return Difference(mean, None, None, None, 1, None)
    from scipy.stats import t  # 1 s

    std = statistics.stdev(differences)
    apart = sum(statistics.variance([side[seed] for seed in seeds]) for side in (ours, base))
    unpaired = math.sqrt(apart / n)
    if std <= _ROUNDING * max(abs(side[seed]) for seed in seeds for side in (ours, base)):
        return Difference(mean, None, None, 0.0, n, unpaired)
    half = float(t.ppf((1 + level) / 2, n - 1)) * std / math.sqrt(n)
    return Difference(mean, mean - half, mean + half, std, n, unpaired)


def seeds_needed(std: float, *, difference: float = 0.5, power: float = 0.8, level: float = 0.95) -> int:
    """Return of how many seeds a paired t test finds a difference, given the standard deviation within pairs.

    No more than `MOST_SEEDS` are counted, which stands for as many or more.

    Args:
        std: Of the paired differences, as `Difference.std`.
        difference: The true difference to be found, in the same unit.
        power: How often it shall be found.
        level: 1 less the two-sided test's size.
    """
    if not (difference > 0 and std >= 0 and 0 < power < 1 and 0 < level < 1):
        raise ValueError(f"there is no number of seeds for {std=}, {difference=}, {power=}, {level=}")
    few, enough = 1, 2
    while enough < MOST_SEEDS and _power(enough, std, difference, level) < power:
        few, enough = enough, 2 * enough
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if _power(middle, std, difference, level) >= power else (middle, enough)
    return enough


def _power(n: int, std: float, difference: float, level: float) -> float:
    from scipy.stats import nct, t

    shift = math.sqrt(n) * difference / std if std else math.inf
    critical = float(t.ppf((1 + level) / 2, n - 1))
    if shift > 30 and shift > 3 * critical:  # scipy's series ends there, and so does what is left to find
        return 1.0
    return float(nct.sf(critical, n - 1, shift) + nct.cdf(-critical, n - 1, shift))


def like_the_paper(paper: Mapping[str, float], ours: Mapping[str, Mapping[int, float]]) -> RankCorrelation | None:
    """Return how our order of rows, by their means over the seeds, agrees with the paper's.

    The interval is Fisher's z with the variance of Bonett and Wright (2000), (1 + rho^2 / 2) / (rows - 3), which
    keeps its level from few rows on; a bootstrap over ten rows draws ties that are none and comes out too narrow. An
    order that agrees wholly counts as half of the smallest step away from it, for z has no value there. It says what
    other rows of the kind would give; that seeds move our means is not in it.

    Returns:
        None for less than three rows, or where either side has one value only.
    """
    names = [name for name in paper if ours.get(name)]
    theirs = [paper[name] for name in names]
    means = [statistics.fmean(ours[name].values()) for name in names]
    if len(names) < 3 or len(set(theirs)) == 1 or len(set(means)) == 1:
        return None
    from scipy.stats import permutation_test, spearmanr  # 1 s

    # Of few rows it tries every order.
    orders = permutation_test(
        (theirs,),
        lambda order: abs(spearmanr(order, means).statistic),
        permutation_type="pairings",
        n_resamples=_PERMUTATIONS,
        alternative="greater",
        random_state=0,
    )
    rho = float(spearmanr(theirs, means).statistic)
    low, high = _interval(rho, len(names))
    return RankCorrelation(rho, low, high, float(orders.pvalue), len(names), *_pairs(theirs, means))


def _interval(rho: float, rows: int) -> tuple[float | None, float | None]:
    if rows < 4:
        return None, None
    most = 1 - 6 / (rows * (rows**2 - 1))
    z = math.atanh(max(-most, min(rho, most)))
    half = statistics.NormalDist().inv_cdf(0.975) * math.sqrt((1 + rho**2 / 2) / (rows - 3))
    return min(rho, math.tanh(z - half)), max(rho, math.tanh(z + half))


def _pairs(theirs: Sequence[float], ours: Sequence[float]) -> tuple[int, int]:
    both = itertools.combinations(zip(theirs, ours, strict=True), 2)
    apart = [(a - b) * (c - d) for (a, c), (b, d) in both if a != b]
    return sum(product > 0 for product in apart), len(apart)
