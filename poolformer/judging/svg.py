"""Two kinds of small figures as SVG, by hand, so that a page always has its pictures: bars, and curves with a spread.

Colours are classes, which the style below gives values for light and dark.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from ..plots.palette import COLOURS
from ..plots.spread import spread, whole

WIDTH, HEIGHT = 340, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 24, 24
_STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
STYLE = (
    "svg text{font:11px system-ui,sans-serif;fill:currentColor}svg .title{font-weight:600;font-size:12px}"
    "svg .axis{stroke:currentColor;stroke-width:.6;opacity:.35}svg .level{stroke:currentColor;stroke-width:1;"
    "stroke-dasharray:4 3}svg .solved{stroke-dasharray:none;opacity:.6}svg .curve{fill:none;stroke-width:1.8}"
    "svg .spread{opacity:.18;stroke:none}svg .whisker{stroke:currentColor;stroke-width:1}"
    + "".join(f"svg .c{place}{{fill:{light};stroke:{light}}}" for place, (light, _) in enumerate(COLOURS))
    + "svg .bar{stroke:none}svg .curve{fill:none}"
    "@media (prefers-color-scheme:dark){"
    + "".join(f"svg .c{place}{{fill:{dark};stroke:{dark}}}" for place, (_, dark) in enumerate(COLOURS))
    + "svg .bar{stroke:none}svg .curve{fill:none}svg .spread{stroke:none}}"
)


class Figure(NamedTuple):
    """A panel: what it shows in words, for who cannot see it, and its drawing of `WIDTH` by `HEIGHT`."""

    title: str
    drawing: str

    def inline(self) -> str:
        """Return it as an element of an HTML page."""
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.title)}">'
            f"<title>{escape(self.title)}</title>{self.drawing}</svg>"
        )


def bars(title: str, groups: Mapping[str, Sequence[tuple[float, ...]]], *, chance: float, solved: float) -> Figure:
    """Draw bars from 0 to 100 %: in each group one for each row, as high as its mean, its seeds as a whisker.

    Args:
        title: Above it.
        groups: Below the axis: for each row the scores of its seeds, fractions; none where it has none yet.
        chance: Drawn dashed.
        solved: Drawn as a line.
    """
    parts = [_heading(title), *_axis_y([0, 0.25, 0.5, 0.75, 1])]
    wide = (WIDTH - _LEFT - _RIGHT) / max(1, len(groups))
    for place, (name, rows) in enumerate(groups.items()):
        left, each = _LEFT + place * wide + 0.1 * wide, 0.8 * wide / max(1, len(rows))
        parts.append(_text(left + 0.4 * wide, HEIGHT - 8, name, "middle"))
        for number, scores in enumerate(rows):
            if not scores:
                continue
            x, y = left + number * each, _y(sum(scores) / len(scores), 0, 1)
            parts.append(
                f'<rect class="bar c{number % len(COLOURS)}" x="{x:.1f}" y="{y:.1f}" width="{max(1, each - 1.5):.1f}" '
                f'height="{max(0.5, _y(0, 0, 1) - y):.1f}"/>'
            )
            if len(scores) > 1:
                middle = x + (each - 1.5) / 2
                parts.append(_line("whisker", middle, _y(max(scores), 0, 1), middle, _y(min(scores), 0, 1)))
    for kind, level in (("level", chance), ("level solved", solved)):
        parts.append(_line(kind, _LEFT, _y(level, 0, 1), WIDTH - _RIGHT, _y(level, 0, 1)))
    return Figure(title, "".join(parts))


def curves(title: str, rows: Sequence[Sequence[Sequence[tuple[float, float]]]]) -> Figure:
    """Draw learning curves: for each row the mean of its seeds, and the range between them as a band.

    Args:
        title: Above it.
        rows: For each row the curves of its seeds: points of a share of the training, and a score.
    """
    ticks = _ticks([score for row in rows for curve in row for _, score in curve if math.isfinite(score)])
    low, high = ticks[0], ticks[-1]
    parts = [_heading(title), *_axis_y(ticks), *_axis_x()]
    for number, row in enumerate(rows):
        bands = whole(spread(row), len(row))
        if not bands:
            continue
        colour = f"c{number % len(COLOURS)}"
        if len(row) > 1:
            there = [(_x(band.x), _y(band.high, low, high)) for band in bands]
            back = [(_x(band.x), _y(band.low, low, high)) for band in reversed(bands)]
            parts.append(f'<polygon class="spread {colour}" points="{_points([*there, *back])}"/>')
        means = [(_x(band.x), _y(band.mean, low, high)) for band in bands]
        parts.append(f'<polyline class="{colour} curve" points="{_points(means)}"/>')
    return Figure(title, "".join(parts))


def legend(names: Sequence[str]) -> str:
    """Return the rows' colours as an element of an HTML page."""
    items = (
        f'<li><svg viewBox="0 0 10 10" width="10" height="10"><rect class="bar c{place % len(COLOURS)}" width="10" '
        f'height="10"/></svg> {escape(name)}</li>'
        for place, name in enumerate(names)
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def sheet(figures: Sequence[Figure], names: Sequence[str], *, columns: int = 3) -> str:
    """Return panels and the rows' names as a file of their own, readable on light and on dark ground."""
    columns = min(columns, max(1, len(figures)))
    height = HEIGHT * math.ceil(len(figures) / columns) + 22
    panels = "".join(
        f'<g transform="translate({place % columns * WIDTH},{22 + place // columns * HEIGHT})">{figure.drawing}</g>'
        for place, figure in enumerate(figures)
    )
    x, keys = 8.0, ""
    for place, name in enumerate(names):
        keys += f'<rect class="bar c{place % len(COLOURS)}" x="{x:.0f}" y="6" width="10" height="10"/>'
        keys += _text(x + 14, 15, name, "start")
        x += 30 + 6.6 * len(name)
    width = max(columns * WIDTH, math.ceil(x))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        "<style>svg{color:#1c1e21;background:#fff}@media (prefers-color-scheme:dark){svg{color:#e6e6e6;"
        f"background:#16181c}}}}{STYLE}</style>{keys}{panels}</svg>\n"
    )


def _ticks(scores: Sequence[float]) -> list[float]:
    """Return round levels around some scores, five at most where these fill the axis."""
    low, high = min(scores, default=0.0), max(scores, default=1.0)
    step = next((step for step in _STEPS if math.ceil(high / step) - math.floor(low / step) <= 5), _STEPS[-1])
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * place, 4) for place in range(first, max(last, first + 1) + 1)]


def _axis_y(ticks: Sequence[float]) -> list[str]:
    digits = 0 if all(abs(100 * tick - round(100 * tick)) < 1e-9 for tick in ticks) else 1
    parts = []
    for tick in ticks:
        y = _y(tick, ticks[0], ticks[-1])
        parts += [
            _line("axis", _LEFT, y, WIDTH - _RIGHT, y),
            _text(_LEFT - 5, y + 4, f"{100 * tick:.{digits}f}", "end"),
        ]
    return parts


def _axis_x() -> list[str]:
    ends = [(0.0, "0", "middle"), (0.5, "50", "middle"), (1.0, "100 %", "end")]
    return [_text(_x(share), HEIGHT - 8, text, anchor) for share, text, anchor in ends]


def _heading(title: str) -> str:
    return f'<text class="title" x="{_LEFT}" y="14">{escape(title)}</text>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _x(share: float) -> float:
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - _BOTTOM - (value - low) / ((high - low) or 1) * (HEIGHT - _TOP - _BOTTOM)
