"""Learning curves of several rows in one figure: a line for the mean of a row's seeds, a band for their spread."""

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .paper import BASELINE, headings, look, new_figure, settings, shown_name, tidy, whole_numbers
from .spread import Band, Curve, spread, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES_IN_A_COLUMN = 22  # of the legend, which has two at most
_FEW_POINTS = 9
_MOST_POINTS = 400


class Series(NamedTuple):
    """A row with the curves of its seeds.

    Attributes:
        name: As in the legend.
        curves: One a seed.
        baseline: Whether the others are compared with it: it is drawn in black.
    """

    name: str
    curves: Sequence[Curve]
    baseline: bool = False


def draw_curves(rows: Sequence[Series], *, title: str, x_label: str, y_label: str, digits: int = 1) -> "Figure":
    """Draw the curves; the legend has the rows in the order in which they end, the highest first.

    Args:
        rows: In an order that gives each its colour.
        title: Above it.
        x_label: Of the axis along which the places of the curves lie.
        y_label: Of their values.
        digits: Of the last values in the legend.

    Raises:
        ConfigError: matplotlib is missing.
    """
    curves, are_means = thinned([row.curves for row in rows], most=_MOST_POINTS)
    rows = [row._replace(curves=own) for row, own in zip(rows, curves, strict=True)]
    in_a_column = max(_NAMES_IN_A_COLUMN, math.ceil(len(rows) / 2))
    figure = new_figure(max(3.6, 0.19 * min(len(rows), in_a_column) + 1.3))
    window = _window(rows)
    alpha = max(0.05, min(0.18, 1 / max(1, len(rows))))  # many bands lie upon each other
    with settings():
        panels = figure.subplots(1, 2 if window else 1, squeeze=False)[0]
        for axes in panels:
            tidy(axes)
            axes.set_xlabel(x_label)
            drawn = [_draw(axes, row, place, alpha) for place, row in enumerate(rows)]
            whole_numbers(axes)
        panels[0].set_ylabel(y_label)
        panels[0].margins(x=0.02)
        if window:
            panels[1].set(xlim=window.x, ylim=window.y, title="the last third")
        order = sorted(zip(drawn, rows, strict=True), key=lambda one: -one[0].y)
        panels[-1].legend(
            [end.handle for end, _ in order],
            [
                f"{shown_name(row.name)}  {end.y:.{digits}f}" if end.x is not None else shown_name(row.name)
                for end, row in order
            ],
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            frameon=False,
            ncols=1 if len(order) <= in_a_column else 2,
        )
        headings(figure, title, _note(rows, are_means))
    return figure


class Window(NamedTuple):
    """A part of the figure that is shown once more, larger: from where to where along both axes."""

    x: tuple[float, float]
    y: tuple[float, float]


def _window(rows: Sequence[Series]) -> Window | None:
    """Return the last third of the curves, where rows are told apart; None for curves of few points.

    Rows that end far from the others are not in it, or these would be one line again.
    """
    bands = [own for row in rows if (own := spread(row.curves))]
    if max(map(len, bands), default=0) < _FEW_POINTS:
        return None
    last = max(own[-1].x for own in bands)
    first = last - (last - min(own[0].x for own in bands)) / 3
    late = [shown for own in bands if (shown := [band for band in own if band.x >= first])]
    ends = [shown[-1].mean for shown in late]
    middle = statistics.median(ends)
    usual = statistics.median(abs(end - middle) for end in ends)
    near = [shown for shown, end in zip(late, ends, strict=True) if abs(end - middle) <= 6 * usual]
    low = min(band.low for shown in near for band in shown)
    high = max(band.high for shown in near for band in shown)
    margin = 0.05 * (high - low) or 1e-3
    start = min(band.x for shown in near for band in shown)
    return Window((start, last), (low - margin, high + margin)) if start < last else None


class End(NamedTuple):
    """Where a row's line ends, and the line."""

    x: float | None
    y: float
    handle: Any


def _draw(axes: "Axes", row: Series, place: int, alpha: float) -> End:
    style = {"color": BASELINE, "linestyle": "-"} if row.baseline else look(place)
    bands = spread(row.curves)
    if not bands:
        return End(None, -math.inf, axes.plot([], [], **style)[0])
    marker = "o" if len(bands) == 1 else ""
    several = [band for band in bands if band.seeds > 1]
    if several:
        x, low, high = ([getattr(band, name) for band in several] for name in ("x", "low", "high"))
        axes.fill_between(x, low, high, color=style["color"], alpha=alpha, linewidth=0, zorder=2)
    # The baseline lies below the others, and wider: neither hides the other where they are equal.
    width, order = (2.4, 3) if row.baseline else (1.2, 4)
    options = {**style, "marker": marker, "ms": 4, "lw": width, "zorder": order, "solid_capstyle": "butt"}
    whole, rest = _parts(bands, len(row.curves))
    lines = [axes.plot([band.x for band in part], [band.mean for band in part], **options)[0] for part in (whole, rest)]
    lines[1].set_linestyle(":")
    return End(bands[-1].x, bands[-1].mean, lines[0])


def _parts(bands: Sequence[Band], seeds: int) -> tuple[Sequence[Band], Sequence[Band]]:
    """Return the line as far as all seeds go, and what only some have reached."""
    reached = max((place for place, band in enumerate(bands) if band.seeds == seeds), default=-1)
    return bands[: reached + 1], bands[max(0, reached) :] if reached + 1 < len(bands) else []


def _note(rows: Sequence[Series], are_means: bool) -> str:
    parts = f" Points: means over 1/{_MOST_POINTS} of the axis." if are_means else ""
    if all(len(row.curves) < 2 for row in rows):
        return f"One seed each.{parts}"
    unequal = any(band.seeds < len(row.curves) for row in rows for band in spread(row.curves))
    dotted = "; dotted: the mean of those seeds that are there" if unequal else ""
    counts = sorted({len(row.curves) for row in rows if row.curves})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Lines: means over seeds (n = {n}); bands: from the lowest to the highest seed{dotted}.{parts}"
