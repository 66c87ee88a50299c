"""What the numbers say, in sentences that never say more than the intervals do."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..ablation.paired import MOST_SEEDS, Difference
from ..counts import counted
from .comparison import Comparison

_OFF_CHANCE = 0.05
_ERRORS = 3
_OF_TWO = "; 2 seeds are few: an interval from one degree of freedom is wide, and rests on a normal distribution"


class Cell(NamedTuple):
    """The scores of a row in a task at a side, one a seed, with the levels that they are held against.

    Attributes:
        task: Its name.
        side: Tokens along H and W.
        scores: Fractions, one a seed.
        chance: What guessing gets.
        solved: From where on the task is solved.
        maps: That each score is the share of.
    """

    task: str
    side: int
    scores: tuple[float, ...]
    chance: float
    solved: float
    maps: int

    @property
    def level(self) -> str:
        """``solved``, ``in part`` or ``chance``, by the worst seed."""
        worst = min(self.scores)
        if worst >= self.solved:
            return "solved"
        error = math.sqrt(self.chance * (1 - self.chance) / self.maps)
        return "in part" if worst > self.chance + max(_OFF_CHANCE, _ERRORS * error) else "chance"


RULE = (
    "Solved: every seed reaches the task's level. In part: every seed is more than "
    f"{100 * _OFF_CHANCE:.0f} points, and {_ERRORS} standard errors of a guess, above chance. "
    "Otherwise it is not told from chance."
)


def difference(one: Difference | None) -> str:
    """Return a difference in points with its interval.

    Example:
        >>> difference(Difference(1.234, 0.5, 2.0, std=0.3, n=3, unpaired_error=1.0))
        '+1.23 (0.50 to 2.00)'
    """
    if one is None:
        return "-"
    if one.low is None or one.high is None:
        return f"{one.mean:+.2f} (no interval)"
    return f"{one.mean:+.2f} ({one.low:.2f} to {one.high:.2f})"


def verdict(row: str, comparisons: Sequence[Comparison], *, of: str) -> str:
    """Say in one sentence how a row stands to its bases.

    Args:
        row: Name of the row.
        comparisons: With each base, that of the paper first.
        of: What was measured, such as ``val/top1``.
    """
    if not comparisons:
        return f"Nothing can be said of {row} yet: there is no seed with which it and a reference row are finished."
    parts = [_part(one) for one in comparisons]
    seeds = min(one.at_end.n for one in comparisons)
    caution = _OF_TWO if any(one.at_end.n == 2 and one.at_end.low is not None for one in comparisons) else ""
    return f"In {of} over {counted(seeds, 'seed')}, {row} is {'; '.join(parts)}{caution}."


def _part(one: Comparison) -> str:
    found = one.at_end
    size = f"{abs(found.mean):.2f} points"
    if found.low is None or found.high is None:
        side = f"{size} {'above' if found.mean > 0 else 'below'} {one.base}" if found.mean else f"as {one.base} is"
        seeds = "one seed" if found.n == 1 else f"{found.n} seeds that all say the same"
        return f"{side}, which {seeds} cannot tell from chance"
    interval = f"95 % interval {found.low:.2f} to {found.high:.2f}"
    if found.low > 0:
        return f"better than {one.base} by {size} ({interval})"
    if found.high < 0:
        return f"worse than {one.base} by {size} ({interval})"
    return f"not to be told from {one.base} (no difference can be told: {found.mean:+.2f} points, {interval})"


def further_seeds(one: Comparison) -> str:
    """Say how many seeds more a difference of half a point would need."""
    if one.seeds_needed is None or one.further_seeds is None:
        few = counted(one.at_end.n, "seed")
        return f"How many seeds a difference of 0.5 points to {one.base} needs, {few} cannot tell."
    if one.seeds_needed >= MOST_SEEDS:
        return f"A difference of 0.5 points to {one.base} would need more than {MOST_SEEDS:,} seeds."
    if not one.further_seeds:
        return f"A difference of 0.5 points to {one.base} needs {counted(one.seeds_needed, 'seed')}: these are enough."
    rough = " (roughly: it rests on the spread of few seeds)" if one.at_end.n < 5 else ""
    return (
        f"A difference of 0.5 points to {one.base} would need {counted(one.further_seeds, 'seed')} more, "
        f"{one.seeds_needed:,} in all, for a power of 0.8{rough}."
    )


def profile(row: str, cells: Sequence[Cell]) -> list[str]:
    """Say which tasks a row solves, which in part, and which it cannot be told from chance in."""
    levels: dict[str, dict[str, list[int]]] = {"solved": {}, "in part": {}, "chance": {}}
    for cell in cells:
        levels[cell.level].setdefault(cell.task, []).append(cell.side)
    words = {
        "solved": f"{row} solves",
        "in part": f"{row} does in part",
        "chance": f"{row} is not told from chance in",
    }
    return [f"{words[level]} {_tasks(tasks)}." for level, tasks in levels.items() if tasks]


def _tasks(tasks: dict[str, list[int]]) -> str:
    return ", ".join(f"{task} ({', '.join(f'{side}x{side}' for side in sides)})" for task, sides in tasks.items())
