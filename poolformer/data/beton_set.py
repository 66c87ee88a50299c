"""Several .beton files as one data set, as the parts that `poolformer pack --shard` makes."""

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError, printable
from ..files.paths import is_url, without_scheme
from .beton import Beton, Stored
from .beton_index import Entries, HeldRows
from .pages import Pages

Given = str | list[str]
"""What an option of images takes: a path, a URL or a pattern, or a list of these."""


def expand(given: Given) -> list[str]:
    """Return the files, folders and URLs that an option gives; what a pattern matches is sorted.

    A name with letters of a pattern in it that is there is no pattern.

    Raises:
        ConfigError: A list is empty, a pattern is one of URLs, or something is given twice.
        DataError: Nothing matches a pattern.
    """
    if isinstance(given, str):
        return _matches(given)
    places = [place for one in given for place in _matches(one)]
    if not places:
        raise ConfigError("the list is empty: give at least one file")
    if twice := sorted({place for place in places if places.count(place) > 1}):
        raise ConfigError(f"'{printable(twice[0])}' is given twice")
    return places


def _matches(pattern: str) -> list[str]:
    if is_url(pattern):
        if glob.has_magic(pattern.partition("?")[0]):
            raise ConfigError(f"{pattern}: nothing looks URLs up by a pattern; give a list of them")
        return [pattern]
    path = without_scheme(pattern)
    if not glob.has_magic(path) or os.path.lexists(path):
        return [path]
    found = sorted(glob.glob(path, recursive=True))
    if not found:
        raise DataError(f"nothing matches '{printable(path)}'")
    return found


def as_text(given: Any) -> Any:
    """Return what an option of images is given with paths as texts, as the command line gives them."""
    if isinstance(given, list | tuple):
        return [os.fspath(one) for one in given]
    return given if given is None else os.fspath(given)


def shown(given: Given) -> str:
    """Return what to call what an option gives in a message."""
    if isinstance(given, str):
        return given
    return given[0] if len(given) == 1 else f"{given[0]} and {len(given) - 1} more"


class BetonSet:
    """Several files as one: the samples of the first, then those of the second, and so on.

    Args:
        betons: The files.
        path: What to call them together.

    Attributes:
        labels, class_names, settings, has_checksums, fingerprint: As of one file.

    Raises:
        DataError: They are not of one data set: their classes or the way they are stored differ.
    """

    def __init__(self, betons: Sequence[Beton], path: str) -> None:
        self.betons, self.path = betons, Path(path)
        for other in betons[1:]:
            _compare(betons[0], other)
        sizes = [len(beton) for beton in betons]
        self._firsts = np.cumsum([0, *sizes[:-1]])
        kind = np.result_type(*(beton.labels.dtype for beton in betons))
        self.labels = np.concatenate([beton.labels for beton in betons], dtype=kind)
        self.class_names, self.settings = betons[0].class_names, betons[0].settings
        self.has_checksums = betons[0].has_checksums
        self.fingerprint = "+".join(beton.fingerprint for beton in betons)
        self._descriptors = np.array([beton.descriptor for beton in betons], np.int32)
        self._held = _held(betons)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, sample: int) -> str:
        """Return what to call a sample in a message."""
        beton, number = self._place(sample)
        return beton.name(number)

    def entries(self, samples: np.ndarray) -> Entries:
        """Return where samples lie, each in its file."""
        if self._held is not None:
            return self._held.entries(samples)
        files = self._files(samples)
        back = np.empty(len(samples), np.int64)
        back[np.argsort(files, kind="stable")] = np.arange(len(samples))
        parts = [
            self.betons[file].entries(samples[files == file] - self._firsts[file]) for file in np.unique(files).tolist()
        ]
        return Entries.joined(parts).at(back)

    def descriptors(self, samples: np.ndarray) -> np.ndarray:
        """Return the descriptor of each sample's file, int32."""
        return self._descriptors[self._files(samples)]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(beton.bytes for beton in self.betons)

    def pages(self) -> Pages:
        """Return which page of which file each sample lies in, all numbered in one row."""
        pages = self.betons[0].pages()
        for beton in self.betons[1:]:
            pages = beton.pages().behind(pages)
        return pages

    def read(self, sample: int) -> Stored:
        """Return the stored bytes of a sample, as `Beton.read`."""
        beton, number = self._place(sample)
        return beton.read(number)

    def _files(self, samples: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._firsts, samples, side="right") - 1

    def _place(self, sample: int) -> tuple[Beton, int]:
        file = int(self._files(np.array([sample]))[0])
        return self.betons[file], sample - int(self._firsts[file])


def open_betons(given: Given, *, fetched: Callable[[str], Path]) -> "Beton | BetonSet":
    """Open the file or files that an option gives.

    Args:
        given: A path, a URL or a pattern, or a list of these.
        fetched: Returns the copy of what lies at a URL.

    Raises:
        ConfigError: As `expand`.
        DataError: One of them is missing, a folder, unfinished, cut off or damaged, or not of the same data set.
    """
    places = expand(given)
    betons = [Beton(fetched(place) if is_url(place) else place) for place in places]
    return betons[0] if len(betons) == 1 else BetonSet(betons, shown(given))


def _compare(one: Beton, other: Beton) -> None:
    for what, first, second in (
        ("classes", one.class_names, other.class_names),
        ("settings", one.settings, other.settings),
        ("checksums", one.has_checksums, other.has_checksums),
    ):
        if first != second:
            raise DataError(
                f"'{one.path}' and '{other.path}' are no parts of one data set: "
                f"{_difference(what, first, second)}; pack them alike"
            )


def _difference(what: str, one: object, other: object) -> str:
    if what == "checksums":
        return "only one of them has checksums"
    if what == "settings":
        return f"one is packed with {one or 'nothing said'}, the other with {other or 'nothing said'}"
    if not isinstance(one, list) or not isinstance(other, list):
        return "only one of them names its classes"
    odd = sorted({*one} ^ {*other})
    alone = f"{len(odd)} are in one of them alone: {', '.join(map(printable, odd[:3]))}" if odd else "their order"
    return f"their classes differ ({alone})"


def _held(betons: Sequence[Beton]) -> HeldRows | None:
    """Hold the rows of all files as one, in place of those that each holds; None where one holds none."""
    rows = [beton.rows for beton in betons]
    held = [each for each in rows if isinstance(each, HeldRows)]
    if len(held) < len(rows):
        return None
    joined = HeldRows.joined(held)
    first = 0
    for beton in betons:
        beton.rows = joined.part(first, first + len(beton))  # no second copy
        first += len(beton)
    return joined
