"""What an ablation shows: a table as Markdown and CSV, the rank correlation with the paper."""

import csv
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ..files.atomic_write import atomic_write
from .paired import FEW, RankCorrelation, like_the_paper, paired_difference
from .rows import Row
from .runs import Result

PAPER = "paper, ImageNet, %"
COLUMNS = (
    *("row", "paper_top1_percent", "top1_percent", "top1_std_percent", "best_top1_percent", "seeds"),
    *("parameters", "frozen_parameters", "macs", "images_per_s", "train_s"),
    *("base", "minus_base", "minus_base_low", "minus_base_high", "common_seeds", "chosen"),
)


@dataclass(frozen=True)
class Line:
    """A row with the results of its finished runs, one a seed.

    Attributes:
        row: The row.
        results: Of its seeds, as far as they are finished.
        seeds: Of the results, in their order.
        chosen: The values that were chosen for the row among those tried, where any were.
    """

    row: Row
    results: tuple[Result, ...]
    seeds: tuple[int, ...] = ()
    chosen: str | None = None

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


def markdown(lines: Sequence[Line], *, base: str | None = None) -> str:
    """Return the table as Markdown, a line for each row.

    Args:
        lines: The rows.
        base: Name of the row that the others' differences are to; the first by default.
    """
    header, *rows = table(lines, base=base)
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in (header, ("---",) * len(header), *rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def table(lines: Sequence[Line], *, base: str | None = None) -> list[tuple[str, ...]]:
    """Return the header and the rows, as texts; numbers of a column are in one unit."""
    to = base_of(lines, base)
    seconds = [time for line in lines if (time := line.mean("train_s")) is not None]
    time_unit, second = _time_unit(max(seconds, default=0))
    billions = any(result.macs >= 1e9 for line in lines for result in line.results)
    columns: dict[str, Callable[[Line], str]] = {
        "row": lambda line: line.row.name,
        PAPER: lambda line: "-" if line.row.paper_top1 is None else f"{line.row.paper_top1}",
        "ours, %": _ours,
        **({f"minus {to.row.name}": lambda line: _minus(line, to)} if to and len(lines) > 1 else {}),
        **({"chosen": lambda line: line.chosen or "-"} if any(line.chosen for line in lines) else {}),
        "parameters": _parameters,
        f"MACs, {'G' if billions else 'M'}": lambda line: _macs(line, billions=billions),
        "images/s": lambda line: _of(line.mean("images_per_s"), "{:,.0f}"),
        f"train time, {time_unit}": lambda line: _of(line.mean("train_s", scale=1 / second), "{:.1f}"),
    }
    return [tuple(columns), *(tuple(cell(line) for cell in columns.values()) for line in lines)]


def base_of(lines: Sequence[Line], base: str | None) -> Line | None:
    """Return the row that the others' differences are to: the one of a name, or the first."""
    named = [line for line in lines if line.row.name == base] if base else list(lines[:1])
    return named[0] if named else None


def _ours(line: Line) -> str:
    if line.top1 is None:
        return "-"
    spread = "" if line.top1_std is None else f" ± {line.top1_std:.2f}"
    return f"{line.top1:.2f}{spread} (n={len(line.results)})"


def _minus(line: Line, base: Line) -> str:
    found = None if line is base else paired_difference(line.by_seed, base.by_seed)
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.mean:+.2f} (n={found.n}, no interval)"
    few = ", few" if found.n < FEW else ""
    return f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}] (n={found.n}{few})"


def _parameters(line: Line) -> str:
    if not line.results:
        return "-"
    one = line.results[0]
    return f"{one.parameters:,}{f' + {one.frozen_parameters:,} frozen' if one.frozen_parameters else ''}"


def _macs(line: Line, *, billions: bool) -> str:
    if not line.results:
        return "-"
    macs = line.results[0].macs
    return f"{macs / 1e9:.3f}" if billions else f"{macs / 1e6:.2f}"


def _of(value: float | None, written: str) -> str:
    return "-" if value is None else written.format(value)


def _time_unit(longest: float) -> tuple[str, float]:
    """Return the unit that the longest of some times is written in, and its seconds."""
    if longest < 120:
        return "s", 1
    return ("min", 60) if longest < 2 * 3600 else ("h", 3600)


def duration(seconds: float) -> str:
    """Return a time for people: ``41 s``, ``1:02:03``."""
    return f"{seconds:.0f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))


def write_csv(lines: Sequence[Line], path: Path, *, base: str | None = None) -> None:
    """Write the table with plain numbers; what there is none of is empty.

    Args:
        lines: The rows.
        path: The file.
        base: Name of the row that the others' differences are to, paired by seed; the first by default.
    """
    to = base_of(lines, base)
    with atomic_write(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for line in lines:
            top1 = (line.top1, line.top1_std, line.mean("best_top1", scale=100))
            sizes = [getattr(line.results[0], name) if line.results else None for name in COLUMNS[6:9]]
            speeds = (line.mean("images_per_s"), line.mean("train_s"))
            found = paired_difference(line.by_seed, to.by_seed) if to and line is not to else None
            apart = (found.mean, found.low, found.high, found.n) if found else (None,) * 4
            compared = (to.row.name if to else None, *apart, line.chosen)
            rows.writerow([line.row.name, line.row.paper_top1, *top1, len(line.results), *sizes, *speeds, *compared])


def rank_correlation(lines: Sequence[Line]) -> RankCorrelation | None:
    """Return how our order of the rows of mixers agrees with the paper's, if there are enough of them."""
    rows = [line for line in lines if line.row.of_mixers and line.results]
    paper = {line.row.name: line.row.paper_top1 for line in rows if line.row.paper_top1 is not None}
    return like_the_paper(paper, {line.row.name: dict(enumerate(one.top1 for one in line.results)) for line in rows})
