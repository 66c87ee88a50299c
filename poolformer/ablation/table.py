"""What an ablation shows: a table as Markdown and CSV, the rank correlation with the paper."""

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ..files.atomic_write import atomic_write
from .paired import FEW, Difference, RankCorrelation, like_the_paper, paired_difference
from .rows import Row
from .runs import Result

HEADER = ("row", "paper's top-1, %", "ours, %", "parameters", "MACs", "images/s", "train time")
COLUMNS = (
    *("row", "paper_top1_percent", "top1_percent", "top1_std_percent", "best_top1_percent", "seeds"),
    *("parameters", "frozen_parameters", "macs", "images_per_s", "train_s"),
)


@dataclass(frozen=True)
class Line:
    """A row with the results of its finished runs, one a seed.

    Attributes:
        row: The row.
        results: Of its seeds, as far as they are finished.
        seeds: Of the results, in their order.
    """

    row: Row
    results: tuple[Result, ...]
    seeds: tuple[int, ...] = ()

    @property
    def by_seed(self) -> dict[int, float]:
        """val/top1 after the last epoch in percent, by seed."""
        return {seed: 100 * result.top1 for seed, result in zip(self.seeds, self.results, strict=False)}

    @property
    def top1(self) -> float | None:
        """Mean val/top1 after the last epoch in percent; None without results."""
        return self.mean("top1", scale=100)

    @property
    def top1_std(self) -> float | None:
        """Sample standard deviation over the seeds in percent; None for less than two."""
        percents = [100 * result.top1 for result in self.results]
        return statistics.stdev(percents) if len(percents) > 1 else None

    def mean(self, column: str, *, scale: float = 1) -> float | None:
        """Return the mean of a column of `Result` over the seeds; None without results."""
        values = [scale * getattr(result, column) for result in self.results]
        return statistics.fmean(values) if values else None


def markdown(lines: Sequence[Line]) -> str:
    """Return the table, a line for each row."""
    cells = [HEADER, ("---",) * len(HEADER), *map(_cells, lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _cells(line: Line) -> tuple[str, ...]:
    paper = "-" if line.row.paper_top1 is None else f"{line.row.paper_top1}"
    images_per_s, train_s = line.mean("images_per_s"), line.mean("train_s")
    if images_per_s is None or train_s is None:
        return (line.row.name, paper, *("-",) * (len(HEADER) - 2))
    spread = "" if line.top1_std is None else f" ± {line.top1_std:.2f}"
    one = line.results[0]
    frozen = f" + {one.frozen_parameters:,} frozen" if one.frozen_parameters else ""
    return (
        line.row.name,
        paper,
        f"{line.top1:.2f}{spread} (n={len(line.results)})",
        f"{one.parameters:,}{frozen}",
        f"{one.macs / 1e9:.3f} G" if one.macs >= 1e9 else f"{one.macs / 1e6:.2f} M",
        f"{images_per_s:,.0f}",
        duration(train_s),
    )


def differences(lines: Sequence[Line]) -> str:
    """Return each row's difference to the first, paired by seed: a line each, none for rows without a common seed."""
    if not lines:
        return ""
    base, *others = lines
    said = [(line.row.name, paired_difference(line.by_seed, base.by_seed)) for line in others]
    shown = [f"- {name}: {_difference(found)}" for name, found in said if found]
    title = f"difference to {base.row.name} in points, paired by seed, with its 95 % interval:"
    return "\n".join([title, *shown]) if shown else ""


def _difference(found: Difference) -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:+.2f} (n = 1: no interval)"
    few = f"n = {found.n}" + (f": {found.n} seeds are few" if found.n < FEW else "")
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}] ({few})"


def duration(seconds: float) -> str:
    """Return a time for people: ``41 s``, ``1:02:03``."""
    return f"{seconds:.0f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))


def write_csv(lines: Sequence[Line], path: Path) -> None:
    """Write the table with plain numbers; what there is none of is empty."""
    with atomic_write(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for line in lines:
            top1 = (line.top1, line.top1_std, line.mean("best_top1", scale=100))
            sizes = [getattr(line.results[0], name) if line.results else None for name in COLUMNS[6:9]]
            speeds = (line.mean("images_per_s"), line.mean("train_s"))
            rows.writerow([line.row.name, line.row.paper_top1, *top1, len(line.results), *sizes, *speeds])


def rank_correlation(lines: Sequence[Line]) -> RankCorrelation | None:
    """Return how our order of the rows of mixers agrees with the paper's, if there are enough of them."""
    rows = [line for line in lines if line.row.of_mixers and line.results]
    paper = {line.row.name: line.row.paper_top1 for line in rows if line.row.paper_top1 is not None}
    return like_the_paper(paper, {line.row.name: dict(enumerate(one.top1 for one in line.results)) for line in rows})
