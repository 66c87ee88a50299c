"""The figures of an ablation: top-1 of each row by its cost, with every seed, and the learning curves of all rows."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..plots.curves import draw_curves
from ..plots.paper import BASELINE, FORMATS, headings, look, new_figure, settings, shown_name, tidy, write
from ..plots.runs import read_run, series
from ..run.directory import HEADLINE
from .paired import FEW, paired_difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .table import Line

# What the rows of a figure are ordered by: the column, and its name.
FIGURES = {"top1-macs": ("macs", "MACs"), "top1-params": ("parameters", "parameters")}
CURVES = "curves"
_ROW_INCHES = 0.3
_MOST_APART = 15  # points
_DOTS = (0.04, 0.34)  # from a row's mean down: its seeds, the first one at the top
_MEAN_ABOVE = 0.16


class Placed(NamedTuple):
    """A row in a figure.

    Attributes:
        line: The row's line of the table.
        look: Its place among the rows, which gives it its colour.
        cost: As it is written beside it.
        y: Where it stands, from 0 at the top.
        group: Which of the groups of equal cost it is in.
    """

    line: "Line"
    look: int
    cost: str
    y: int
    group: int


def draw(lines: Sequence["Line"], folder: Path, *, title: str, base: str | None = None) -> list[Path]:
    """Draw top-1 by MACs and by parameters, as .png, .svg and .pdf; return the files.

    Rows stand below each other, so that none hides another: those of the lowest cost at the top, those of equal cost
    together. At the left each seed is a dot below the mean with its 95 % interval; at the right the same of the
    differences to the baseline, paired by seed.

    Args:
        lines: Of the table; those without results are left out.
        folder: To write to.
        title: Above the figures.
        base: Name of the baseline; the first line's by default.

    Raises:
        ConfigError: matplotlib is missing.
    """
    paths = []
    for name, (column, label) in FIGURES.items():
        figure = _by_cost(lines, column, label, title, base or (lines[0].row.name if lines else None))
        paths += write(figure, _files(folder, name))
    return paths


def draw_learning(
    lines: Sequence["Line"],
    directories: Mapping[str, Sequence[Path]],
    folder: Path,
    *,
    title: str,
    base: str | None = None,
) -> list[Path]:
    """Draw val/top1 of all rows by epoch, the mean and the range of the seeds; return the files.

    Args:
        lines: Of the table.
        directories: Of the finished runs of each row, by its name.
        folder: To write to.
        title: Above it.
        base: Name of the baseline; the first line's by default.

    Raises:
        ConfigError: matplotlib is missing.
        DataError: What a run has logged cannot be read.
    """
    names = [line.row.name for line in lines]
    # All rows have a place, so that each has its colour of the other figures.
    runs = {name: [read_run(directory) for directory in directories.get(name, ())] for name in names}
    rows, along = series(runs, HEADLINE, baseline=base or (names[0] if names else None))
    if not any(row.curves for row in rows):
        return []
    figure = draw_curves(rows, title=title, x_label=along, y_label=f"{HEADLINE}, %")
    return write(figure, _files(folder, CURVES))


def _files(folder: Path, name: str) -> list[Path]:
    return [folder / f"{name}.{kind}" for kind in FORMATS]


def _by_cost(lines: Sequence["Line"], column: str, label: str, title: str, base: str | None) -> "Figure":
    rows = place(lines, column)
    scores = {row.line.row.name: row.line.by_seed for row in rows}
    own = scores.get(base or "", {})
    apart = {
        name: {seed: value - own[seed] for seed, value in values.items() if seed in own}
        for name, values in scores.items()
    }
    paired = len(rows) > 1 and any(values for name, values in apart.items() if name != base)
    figure = new_figure(_ROW_INCHES * len(rows) + 1.5)
    with settings():
        panels = figure.subplots(1, 2 if paired else 1, sharey=True, squeeze=False, width_ratios=[3, 2][: 1 + paired])[
            0
        ]
        _panel(panels[0], rows, scores, base, statistics.fmean(own.values()) if own else None)
        panels[0].set_xlabel(f"{HEADLINE}, %")
        if paired:
            _panel(panels[1], rows, apart, base, 0.0)
            panels[1].set_xlabel(f"difference to {shown_name(base or '')}, points\n(paired by seed)")
        _name_rows(panels[0], panels[-1], rows, base, label)
        headings(figure, title, _note(rows, base if own else None))
    return figure


def place(lines: Sequence["Line"], column: str) -> list[Placed]:
    """Return the rows with results from top to bottom: by cost, and of equal cost the best first."""
    measured = [
        (number, line, line.top1) for number, line in enumerate(lines) if line.top1 is not None and line.by_seed
    ]
    measured.sort(key=lambda one: (getattr(one[1].results[0], column), -one[2]))
    costs = [_short(getattr(line.results[0], column)) for _, line, _ in measured]
    groups = list(dict.fromkeys(costs))
    order = sorted(range(len(costs)), key=lambda one: (groups.index(costs[one]), -measured[one][2]))
    return [
        Placed(measured[one][1], measured[one][0], costs[one], y, groups.index(costs[one]))
        for y, one in enumerate(order)
    ]


def _short(number: float) -> str:
    """Return three digits of a number: what differs less is drawn as equal."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:#.3g}".rstrip(".") + f" {unit}"
    return f"{number:g}"


def _panel(
    axes: "Axes",
    rows: Sequence[Placed],
    values: Mapping[str, Mapping[int, float]],
    base: str | None,
    level: float | None,
) -> None:
    """Draw the seeds, the means and their intervals along x, and the baseline's level as a line."""
    tidy(axes, along="x")
    low, high = _limits([values[row.line.row.name] for row in rows], level)
    axes.set_xlim((max(low, -1), min(high, 101)) if level else (low, high))  # an interval may end above 100 %
    for row in rows:
        if row.group % 2 == 0:
            axes.axhspan(row.y - 0.5, row.y + 0.5, color="0.965", linewidth=0, zorder=0)
        name = row.line.row.name
        own = values[name]
        if not own or (name == base and level == 0.0):
            continue  # its differences to itself
        colour = BASELINE if name == base else look(row.look)["color"]
        _draw_row(axes, row.y, own, colour, low)
    if level is not None:
        axes.axvline(level, color=BASELINE, linewidth=0.8, linestyle="--" if level else "-", zorder=1)


def _draw_row(axes: "Axes", y: float, own: Mapping[int, float], colour: str, low: float) -> None:
    values = list(own.values())
    mean = statistics.fmean(values)
    if mean < low:
        said = f"{mean:.1f}" + (f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else "")
        axes.plot([low], [y], marker="<", ms=6, color=colour, clip_on=False, zorder=5)
        axes.annotate(said, (low, y), (7, 0), textcoords="offset points", va="center", fontsize=7, color=colour)
        return
    if len(values) == 1:
        axes.plot(values, [y], "o", ms=4, color=colour, mew=0, zorder=4)
        return
    top, bottom = _DOTS
    step = (bottom - top) / (len(values) - 1)
    axes.plot(
        values,
        [y + top + step * place for place in range(len(values))],
        "o",
        ms=3.2,
        color=colour,
        alpha=0.65,
        mew=0,
        zorder=4,
    )
    if interval := _interval(own):
        error = [[mean - interval[0]], [interval[1] - mean]]
        axes.errorbar(
            mean, y - _MEAN_ABOVE, xerr=error, fmt="none", ecolor=colour, capsize=2.2, elinewidth=1.1, zorder=3
        )
    axes.plot([mean], [y - _MEAN_ABOVE], "D", ms=4.4, color=colour, mew=0, zorder=5)


def _name_rows(left: "Axes", right: "Axes", rows: Sequence[Placed], base: str | None, label: str) -> None:
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_yticks([row.y for row in rows], [shown_name(row.line.row.name) for row in rows])
    left.tick_params(axis="y", length=0)
    for tick, row in zip(left.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if row.line.row.name == base else "normal")
    costs = right.secondary_yaxis("right")
    middles = {
        group: statistics.fmean(row.y for row in rows if row.group == group) for group in {r.group for r in rows}
    }
    costs.set_yticks(list(middles.values()), [next(r.cost for r in rows if r.group == group) for group in middles])
    costs.tick_params(axis="y", length=0)
    right.text(1.02, 1.0, label, transform=right.transAxes, va="bottom", fontsize=8)
    costs.spines["right"].set_visible(False)
    if left is not right:
        right.tick_params(axis="y", length=0, labelleft=False)


def _limits(rows: Sequence[Mapping[int, float]], level: float | None) -> tuple[float, float]:
    """Return what is shown of the axis: all seeds, and for the intervals at most half as much on each side.

    Rows that did not learn, far below the others, stand on its lower end with their numbers, or none else would show.
    """
    means = [statistics.fmean(own.values()) for own in rows if own]
    best = max(means)
    lowest = best - max(_MOST_APART, 6 * (best - statistics.median(means)))
    learned = [own for own in rows if own and statistics.fmean(own.values()) >= lowest]
    seeds = [value for own in learned for value in own.values()]
    seeds += [level] if level is not None and level >= lowest else []
    low, high = min(seeds), max(seeds)
    room = 0.5 * (high - low)
    ends = [end for own in learned if (interval := _interval(own)) for end in interval]
    low = min(low, max([low - room, min(ends, default=low)]))
    high = max(high, min([high + room, max(ends, default=high)]))
    margin = 0.05 * (high - low) or 1
    return low - margin, high + margin


def _interval(own: Mapping[int, float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a row's mean by Student's t; None for one seed, or for equal ones."""
    found = paired_difference(own, dict.fromkeys(own, 0.0))
    return None if found is None or found.low is None or found.high is None else (found.low, found.high)


def _note(rows: Sequence[Placed], base: str | None) -> str:
    fewest, most = (ends(len(row.line.by_seed) for row in rows) for ends in (min, max))
    said = [f"Dots: seeds (n = {fewest if fewest == most else f'{fewest} to {most}'})" + "," * (most > 1)]
    if most > 1:
        said.append(
            "the first at the top; diamonds: means with 95 % intervals (Student's t), without a cap where they go on"
        )
    lines = [" ".join(said) + (f"; dashed: {shown_name(base)}." if base else ".")]
    if 1 < most < FEW:
        lines.append(f"{most} seeds are few: their intervals are wide.")
    if len({row.group for row in rows}) < len(rows):
        lines.append("Rows of equal cost, to three digits, stand together, in one shade.")
    return "\n".join(lines)
