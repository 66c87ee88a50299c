"""Images in a folder or an archive whose classes a list says, as those of ImageNet's validation set."""

import os
import re
from pathlib import Path

from ..errors import DataError, printable
from .archive_files import Read, open_archive
from .class_folders import existing_folder, read_file
from .file_tree import list_folder
from .label_lists import LabelList, Row, read_label_list
from .listing import Found, Listing

_NUMBER = re.compile(r"-?\d+(\.0+)?")
_MOST_CLASSES = 100_000


class LabelledFiles:
    """The image files that a list names, class by class, in each in the order of their names.

    Args:
        path: Folder, tar or zip of the images.
        labels: The list, see `read_label_list`.
        split: Take only the rows that have this in a column called split.
        skip_missing: Leave out rows whose image is not there.

    Attributes: those of FolderFiles. Classes that are numbers keep them; others are numbered in their sorted order.

    Raises:
        DataError: Either is missing or damaged, an image that is named is not there, or has two classes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        labels: str | os.PathLike[str],
        *,
        split: str | None = None,
        skip_missing: bool = False,
    ) -> None:
        listed = read_label_list(labels, split=split)  # the list first: an archive may take minutes
        self._list, self.path = Path(labels), Path(path).expanduser()
        listing, self._read, front = _opened(self.path)
        chosen, remarks = self._match(listed.rows, _Index(listing.images), skip_missing)
        self.class_names, number_of = self._classes(listed)
        named = sorted((number_of[row.label], (*image.folders, image.name), image) for image, row in chosen)
        self.labels = [label for label, _, _ in named]
        self.names = [f"{front}{'/'.join(parts)}" for _, parts, _ in named]
        self._places = [image.place for _, _, image in named]
        if unnamed := len(listing.images) - len(chosen):
            remarks.append(f"{unnamed} images that '{self._list.name}' does not name")
        remarks = [f"left out: {', '.join(remarks + listing.left_out())}"] if remarks or listing.left_out() else []
        if self.class_names == [str(n) for n in range(len(self.class_names))] and 0 not in self.labels:
            remarks.append("no image has the label 0: labels count from 0")
        self.remarks = "; ".join(remarks)

    def read(self, n: int) -> bytes:
        """Return the bytes of a file."""
        return self._read(self._places[n], self.names[n])

    def _match(self, rows: list[Row], index: "_Index", skip_missing: bool) -> tuple[list[tuple[Found, Row]], list[str]]:
        """Return the image of each row, and what is to be said of rows without one."""
        chosen: dict[tuple[tuple[str, ...], str], tuple[Found, Row]] = {}
        missing: list[Row] = []
        repeated = 0
        for row in rows:
            image = index.find(self._inside(row))
            if image is None:
                missing.append(row)
                continue
            earlier = chosen.setdefault((image.folders, image.name), (image, row))[1]
            repeated += earlier is not row
            if earlier.label != row.label:
                raise DataError(
                    f"'{self._list}', lines {earlier.line} and {row.line}: '{printable(row.name)}' is of two classes, "
                    f"'{printable(earlier.label)}' and '{printable(row.label)}'"
                )
        if missing and not (skip_missing and chosen):
            more = f" ({len(missing)} of {len(rows)} are not there; --on_error skip leaves them out)"
            raise DataError(
                f"'{self._list}', line {missing[0].line}: there is no image '{printable(missing[0].name)}' in "
                f"'{self.path}'{more if chosen else ', nor any other that it names'}"
            )
        remarks = [f"{repeated} rows that say the same again"] if repeated else []
        if missing:
            remarks.append(f"{len(missing)} rows without an image ('{printable(missing[0].name)}')")
        return list(chosen.values()), remarks

    def _inside(self, row: Row) -> str:
        """Return the path of a row as it is seen from the folder, for those that are written in full."""
        name = row.name.replace("\\", "/")
        if name.startswith("/") and Path(name).is_relative_to(self.path.absolute()):
            name = str(Path(name).relative_to(self.path.absolute()))
        parts = [part for part in name.split("/") if part != "."]
        if ".." in parts:
            raise DataError(f"'{self._list}', line {row.line}: '{printable(row.name)}' leads outside of '{self.path}'")
        return "/".join(parts)

    def _classes(self, listed: LabelList) -> tuple[list[str], dict[str, int]]:
        words = {row.label: row for row in listed.rows}
        if listed.class_names is None and all(map(_NUMBER.fullmatch, words)):
            number_of = {word: int(word.partition(".")[0]) for word in words}
            wrong = next((words[word] for word, number in number_of.items() if not 0 <= number < _MOST_CLASSES), None)
            if wrong:
                raise DataError(
                    f"'{self._list}', line {wrong.line}: the label {wrong.label} is out of range; labels that are "
                    f"numbers count the classes from 0 (below {_MOST_CLASSES})"
                )
            return [str(n) for n in range(max(number_of.values()) + 1)], number_of
        names = listed.class_names or sorted(words)
        return names, {name: label for label, name in enumerate(names)}


class _Index:
    """Images by their paths, with or without the ending; a file's name alone will do where only one image has it."""

    def __init__(self, images: list[Found]) -> None:
        self._paths: dict[str, Found | None] = {}
        self._names: dict[str, Found | None] = {}
        whole = {"/".join((*image.folders, image.name)): image for image in images}
        for path, image in whole.items():
            for known, name in ((self._paths, path), (self._names, image.name)):
                short = name.rpartition(".")[0]
                known[short] = None if short in known else image  # of two nobody knows which
                if known is self._names:
                    known[name] = None if name in known else image
        self._paths |= whole

    def find(self, name: str) -> Found | None:
        """Return the image that a path means, which may begin above the folder."""
        parts = name.strip("/").split("/")
        inside = ("/".join(parts[start:]) for start in range(len(parts)))
        found = next((image for path in inside if (image := self._paths.get(path))), None)
        return found or (self._names.get(name) if len(parts) == 1 else None)


def _opened(path: Path) -> tuple[Listing, Read, str]:
    """Return the images, what reads them, and what their names begin with."""
    if path.is_dir():
        return list_folder(existing_folder(path)), lambda place, name: read_file(place), f"{path}/"
    return *open_archive(path), f"{path}:"
