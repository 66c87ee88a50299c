"""Figures of matplotlib as papers take them: one size of text, fonts that can be edited, pictures and drawings."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..files.atomic_write import replacing
from ..registry import install
from .palette import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
WIDTH = 7.2
"""Inches: a page of two columns."""
BASELINE = "black"
_LONGEST_NAME = 30
_NOTE_CHARACTERS = 120
_DASHES = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1, 1.5)))  # when the colours are used up
_SETTINGS: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.linewidth": 0.6,
    "text.parse_math": False,  # a name may have dollars
    "pdf.fonttype": 42,  # TrueType: conferences refuse type 3
    "svg.hashsalt": "poolformer",  # the same figure is the same file
    "svg.fonttype": "path",
}


def new_figure(height: float) -> "Figure":
    """Return an empty figure as wide as a page, of a height in inches.

    Raises:
        ConfigError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(f"the figures need another package: {install('plots')}") from error
    return Figure(figsize=(WIDTH, height), layout="constrained")


def settings() -> Any:
    """Return the context in which a figure is drawn and written."""
    import matplotlib

    return matplotlib.rc_context(_SETTINGS)  # type: ignore[arg-type]  # whose keys are literals


def look(place: int) -> dict[str, Any]:
    """Return colour and dashes of the row at a place."""
    return {"color": COLOURS[place % len(COLOURS)][0], "linestyle": _DASHES[place // len(COLOURS) % len(_DASHES)]}


def shown_name(name: str) -> str:
    """Return a row's name as a figure has room for it.

    Example:
        >>> shown_name("my_package.submodule.mixers:MyOwnTokenMixer")
        'my_package.sub…MyOwnTokenMixer'
    """
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME // 2 - 1]}…{name[-_LONGEST_NAME // 2 :]}"


def tidy(axes: "Axes", *, along: str = "both") -> None:
    """Leave the two lines of the axes that are read, and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=along, color="0.88", linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def whole_numbers(axes: "Axes") -> None:
    """Have whole numbers below an axis along which epochs or steps lie, large ones as ``50k``."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if axes.dataLim.x1 >= 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def headings(figure: "Figure", title: str, note: str) -> None:
    """Put a title above and a note below, both at the left, the note in lines that the page is wide enough for."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    note = "\n".join(textwrap.fill(line, _NOTE_CHARACTERS) for line in note.splitlines())
    figure.supxlabel(note, x=0.01, ha="left", fontsize=7, color="0.35")


def write(figure: "Figure", paths: Sequence[Path]) -> list[Path]:
    """Write a figure, each file in the format that its name ends in; return the files."""
    with settings():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # once for all files: it takes longer than the drawing
        for path in paths:
            kind = path.suffix[1:].lower()
            # Without the time of writing.
            metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as unfinished:
                figure.savefig(unfinished, dpi=200, format=kind, metadata=metadata)
    return list(paths)
