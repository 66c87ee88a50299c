"""Rows compared with a base by the seeds that both have: at equal epochs, and at equal training time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..ablation.paired import Difference, paired_difference, seeds_needed
from .outcomes import Outcome, by_seed, by_seed_at

BASES = ("pooling", "identity")
"""Reference rows that the judged one is compared with in the verdict."""
POINTS = 0.5


@dataclass(frozen=True)
class Comparison:
    """A row beside a base; differences are in points, of percent, above 0 where the row is ahead.

    Attributes:
        row: Name of the row.
        base: Name of the base.
        at_end: After as many images.
        at_time: After as long a training, of the one that would be done first; None where no curve says it.
        share: How much of its training the slower one is through then, the mean over measures.
        slower: Which of the two it is.
        seeds_needed: Seeds of both with which a difference of half a point would show; None without a spread.
    """

    row: str
    base: str
    at_end: Difference
    at_time: Difference | None
    share: float | None
    slower: str | None
    seeds_needed: int | None

    @property
    def further_seeds(self) -> int | None:
        """How many seeds that is beyond those there are."""
        return None if self.seeds_needed is None else max(0, self.seeds_needed - self.at_end.n)


def compare(
    outcomes: Sequence[Outcome], row: str, base: str, speeds: Mapping[tuple[str, str], float]
) -> Comparison | None:
    """Compare a row with a base; None where they have no seed in common.

    Args:
        outcomes: Of both, and perhaps of others.
        row: Name of the row.
        base: Name of the base.
        speeds: Images a second in training, by row and measure, measured alone.
    """
    # A row that fails at one side is compared at the others, and its base at those alone too.
    measured = [{outcome.measure for outcome in outcomes if outcome.row == name} for name in (row, base)]
    outcomes = [outcome for outcome in outcomes if outcome.measure in set.intersection(*measured)]
    ours, theirs = by_seed(outcomes, row), by_seed(outcomes, base)
    at_end = paired_difference(_percent(ours), _percent(theirs))
    if at_end is None:
        return None
    shares = _shares(outcomes, row, base, speeds)
    at_time = share = slower = None
    if shares:
        own, other = shares
        at_time = paired_difference(
            _percent(by_seed_at(outcomes, row, own)), _percent(by_seed_at(outcomes, base, other))
        )
        means = {row: _mean(own), base: _mean(other)}
        slower = min(means, key=lambda name: means[name])
        share = means[slower]
    needed = seeds_needed(at_end.std, difference=POINTS) if at_end.std else None
    return Comparison(row, base, at_end, at_time, share, slower, needed)


def _shares(
    outcomes: Sequence[Outcome], row: str, base: str, speeds: Mapping[tuple[str, str], float]
) -> tuple[dict[str, float], dict[str, float]] | None:
    """Return how much of their training both are through when the faster one is done, by measure."""
    measures = {outcome.measure for outcome in outcomes if outcome.row == row}
    own, other = {}, {}
    for measure in measures:
        ours, theirs = speeds.get((row, measure)), speeds.get((base, measure))
        if not ours or not theirs:
            return None
        fastest = max(ours, theirs)
        own[measure], other[measure] = ours / fastest, theirs / fastest
    return (own, other) if measures else None


def _percent(scores: Mapping[int, float]) -> dict[int, float]:
    return {seed: 100 * score for seed, score in scores.items()}


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)
