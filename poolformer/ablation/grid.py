"""A grid of values that an ablation tries for every row: read from ``--try OPTION=VALUE,VALUE``."""

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from . import rows as rows_of
from .arguments import check_flags
from .rows import Row

_OPTION = re.compile(r"[A-Za-z_][\w.]*")
_PAIRS = {"[": "]", "{": "}", "(": ")"}
# They say which images there are, or which a choice is made by.
_OF_THE_IMAGES = ("data", "data.class_path", "data.train", "data.val", "data.test", "data.val_share", "data.tune_share")
_LONGEST_NAME = 120


@dataclass(frozen=True)
class Point:
    """A value of each option that is tried.

    Attributes:
        values: Options, each with its value as it was written.
    """

    values: tuple[tuple[str, str], ...]

    @property
    def flags(self) -> list[str]:
        """The flags of ``poolformer fit`` that say it."""
        return [f"--{option}={value}" for option, value in self.values]

    @property
    def name(self) -> str:
        """What it is called in a line: ``model.lr=1e-3``."""
        return ", ".join(f"{option}={value}" for option, value in self.values)

    @property
    def folder(self) -> str:
        """Its name as a folder's; what a folder may not be called is told apart by a hash."""
        name = re.sub(r"[^\w.=+-]+", "-", self.name)[:_LONGEST_NAME]
        plain = name == self.name.replace(", ", "-")
        return name if plain else f"{name}-{hashlib.blake2b(self.name.encode(), digest_size=4).hexdigest()}"


@dataclass(frozen=True)
class Grid:
    """All that is tried for every row.

    Attributes:
        options: With their values, in the order given.
        share: Of the training images, that is held out to choose by.
        seeds: With which each value is tried.
    """

    options: tuple[tuple[str, tuple[str, ...]], ...]
    share: float
    seeds: tuple[int, ...]

    @property
    def points(self) -> list[Point]:
        """Every combination of the values."""
        names = [option for option, _ in self.options]
        combined = itertools.product(*(values for _, values in self.options))
        return [Point(tuple(zip(names, values, strict=True))) for values in combined]

    @property
    def words(self) -> str:
        """What is tried: ``model.lr 1e-3, 2e-3``."""
        return "; ".join(f"{option} {', '.join(values)}" for option, values in self.options)

    def edges(self, point: Point) -> list[str]:
        """Return which of a point's values is the smallest or the largest number tried: one beyond may be better."""
        found = []
        for (option, value), (_, values) in zip(point.values, self.options, strict=True):
            numbers = [number for number in map(_number, values) if number is not None]
            own = _number(value)
            if own is not None and len(numbers) > 1 and own in (min(numbers), max(numbers)):
                end = "largest" if own == max(numbers) else "smallest"
                found.append(f"{option}={value} is the {end} that was tried")
        return found


def read_grid(texts: Sequence[str], *, share: float, seeds: Sequence[int]) -> Grid | None:
    """Return the grid of ``OPTION=VALUE,VALUE``; None of nothing.

    Raises:
        ConfigError: One is not of this form, has one value, or says what the command or the choice itself says.
    """
    options: dict[str, tuple[str, ...]] = {}
    for text in texts:
        option, equals, given = text.partition("=")
        option = option.removeprefix("--").strip()
        values = tuple(_split(given))
        if not equals or not _OPTION.fullmatch(option) or not all(values):
            raise ConfigError(f"--try {text}: expects OPTION=VALUE,VALUE, such as model.lr=1e-3,2e-3")
        if option in options:
            raise ConfigError(f"--try {option}: more than once; write all its values behind one")
        check_flags([f"--{option}"])
        if option.replace(".init_args", "") in _OF_THE_IMAGES:
            raise ConfigError(f"--try {option}: it says which images there are, and values are compared on the same")
        if twice := next((value for value in values if sum(_same(value, other) for other in values) > 1), None):
            raise ConfigError(f"--try {text}: {twice} more than once")
        if len(values) < 2:
            raise ConfigError(f"--try {text}: one value leaves no choice; a value for every fit stands behind '--'")
        options[option] = values
    return Grid(tuple(options.items()), share, tuple(dict.fromkeys(seeds))) if options else None


def check_grid(grid: Grid, rows: Sequence[Row], flags: Sequence[str]) -> None:
    """Check that a grid goes with the rows and with the flags for every fit.

    Raises:
        ConfigError: It would replace what a row changes, or a flag says what is to be chosen.
    """
    tried = [option for option, _ in grid.options]
    for flag in flags:
        option = flag.partition("=")[0].removeprefix("--")
        if flag.startswith("--") and (same := next((name for name in tried if _overlap(name, option)), None)):
            raise ConfigError(f"--{option} is for every fit, and --try {same} chooses it: leave one of them out")
    for row in rows:
        if changed := rows_of.replaced(row, [f"--{option}" for option in tried]):
            raise ConfigError(
                f"--try {changed.removeprefix('--')} replaces what the row {row.name} changes; name the rows it goes "
                "with in --rows"
            )


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _split(text: str) -> list[str]:
    """Return what commas part, but for those inside of brackets and quotes."""
    parts, open_, quote = [""], [], ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _PAIRS:
            open_.append(_PAIRS[letter])
        elif open_ and letter == open_[-1]:
            open_.pop()
        if letter == "," and not open_ and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _same(one: str, other: str) -> bool:
    number = _number(one)
    return one == other or (number is not None and number == _number(other))


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
