"""Lists of images and their classes: CSV and TSV of any make, Kaggle's for ImageNet, and ImageNet's development kit."""

import csv
import io
import os
import re
import tarfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from .listing import is_image

_PATHS = [
    *("path", "filepath", "file_path", "image_path", "img_path", "filename", "file_name", "file", "image", "img"),
    *("image_name", "image_id", "imageid", "name", "id"),
]
_LABELS = [
    *("label", "labels", "class", "class_name", "category", "target", "predictionstring", "fine_label", "species"),
    *("breed", "class_id", "label_id", "category_id", "y"),
]
_SPLITS = ["split", "subset", "set", "partition", "fold"]
_LARGEST = 1 << 28
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"


class Row(NamedTuple):
    """An image and its class, as a list says."""

    name: str
    """Path of the image; its ending may be missing."""
    label: str
    line: int


class LabelList(NamedTuple):
    """Images and their classes."""

    rows: list[Row]
    class_names: list[str] | None
    """All classes, in the order of their numbers, where the list says; else they are those of the rows."""


def read_label_list(path: str | os.PathLike[str], *, split: str | None = None) -> LabelList:
    """Read a list.

    With a header, the columns are found by their names; without, they are path and label. Separators are commas,
    semicolons, tabs, or in a list of two columns spaces.

    Args:
        path: A CSV or TSV, Kaggle's LOC_val_solution.csv, or ILSVRC2012_devkit_t12.tar.gz.
        split: Take only the rows that have this in a column called split.

    Raises:
        DataError: There is none, it cannot be read, or a line of it is not what it should be.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataError(f"there is no list of labels '{path}'")
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if path.stat().st_size > _LARGEST and not head.startswith(b"\x1f\x8b"):
            raise DataError(f"'{path}' is larger than a list of labels can be")
        if head.startswith((b"\x1f\x8b", b"BZh")) or head[257:262] == b"ustar":
            return _of_devkit(path)
        text = _text(path.read_bytes(), path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}") from error
    return LabelList(_Table(text, path, split).rows(), None)


class _Table:
    def __init__(self, text: str, path: Path, split: str | None) -> None:
        self._text, self._path, self._split = text, path, split
        first = next((line for line in text.splitlines() if line.strip()), "")
        self._separator = next((sign for sign in ("\t", ";", ",") if sign in first), None)

    def rows(self) -> list[Row]:
        lines: Iterator[tuple[int, list[str]]] = self._lines()
        number, first = next(lines, (0, []))
        if not first:
            raise DataError(f"'{self._path}' is empty: a line an image is expected, its path and its class")
        header = [cell.lower().strip("# ") for cell in first]
        has_header = not any(map(is_image, first)) and bool({*header} & {*_PATHS, *_LABELS})
        second = next(lines, None)
        lines = chain([second] if second else [], lines)
        are_words = all(re.fullmatch(r"[a-z][a-z_ -]*", cell) for cell in header)
        if are_words and not has_header and second and any(map(is_image, second[1])):
            raise self._unknown(header, f"one of them 'path' (or {', '.join(_PATHS[1:9])}), and one 'label'")
        if has_header:
            name, label, part = self._columns(header)
        elif self._split:
            raise DataError(f"'{self._path}' has no header with a column called split, where '{self._split}' would be")
        elif len(first) != 2:
            raise self._error(number, f"has {len(first)} columns; expected are two, or a header with path and label")
        else:
            name, label, part = 0, 1, None
        found = [] if has_header else [(number, first)]
        last = max(name, label, part or 0)
        rows = []
        for number, cells in [*found, *lines]:
            if len(cells) <= last or not cells[name] or not cells[label]:
                raise self._error(number, "has no path or no label")
            if part is None or cells[part] == self._split:
                text = cells[label].split()[0] if header[label] == "predictionstring" else cells[label]
                rows.append(Row(cells[name], text, number))
        if not rows:
            of = f" of split '{self._split}'" if self._split else ""
            raise DataError(f"'{self._path}' names no images{of}")
        return rows

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        if self._separator is None:
            for number, line in enumerate(self._text.splitlines(), 1):
                if line.strip():
                    yield number, line.strip().rsplit(None, 1)
            return
        reader = csv.reader(io.StringIO(self._text, newline=""), delimiter=self._separator, skipinitialspace=True)
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, [cell.strip() for cell in cells]
        except csv.Error as error:
            raise self._error(reader.line_num, f"cannot be read ({error})") from error

    def _columns(self, header: list[str]) -> tuple[int, int, int | None]:
        name = next((header.index(known) for known in _PATHS if known in header), None)
        label = next((header.index(known) for known in _LABELS if known in header), None)
        if len(header) == 2 and (name is None) != (label is None):
            name, label = (1 - label, label) if name is None and label is not None else (name, 1 - (name or 0))
        if name is None or label is None:
            missing = "path" if name is None else "label"
            raise self._unknown(header, f"one of them '{missing}'")
        if not self._split:
            return name, label, None
        part = next((header.index(known) for known in _SPLITS if known in header), None)
        if part is None:
            raise DataError(f"'{self._path}' has no column called split, where '{self._split}' would be")
        return name, label, part

    def _unknown(self, header: list[str], remedy: str) -> DataError:
        return DataError(f"'{self._path}' has the columns {', '.join(header)[:200]}: call {remedy}")

    def _error(self, number: int, what: str) -> DataError:
        return DataError(f"'{self._path}', line {number}: {what}")


def _text(content: bytes, path: Path) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # of Excel
        encoding = "utf-16"
    elif b"\0" in content[:4096]:
        raise DataError(f"'{path}' is no list of labels: it is no text")
    else:
        encoding = "utf-8-sig"
    try:
        return re.sub(r"\Asep=.\r?\n", "", content.decode(encoding))
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not encoded in UTF-8 (byte {error.start}): save it so") from error


def _of_devkit(path: Path) -> LabelList:
    """Read which class each validation image of ImageNet has: the n-th line is the number of the n-th image's."""
    try:
        with tarfile.open(path) as archive:
            files = {Path(member.name).name: member for member in archive if member.isfile()}
            if not {_TRUTH, _META} <= files.keys():
                raise DataError(
                    f"'{path}' is neither a list of labels nor ImageNet's development kit "
                    f"(ILSVRC2012_devkit_t12.tar.gz): there is no {_TRUTH} in it"
                )
            truth, meta = (archive.extractfile(files[name]) for name in (_TRUTH, _META))
            assert truth is not None
            assert meta is not None
            numbers, wnids = [int(line) for line in truth.read().split()], _wnids(meta.read())
        rows = [Row(f"ILSVRC2012_val_{n:08}.JPEG", wnids[number], n) for n, number in enumerate(numbers, 1)]
    except DataError:
        raise
    except (tarfile.TarError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"'{path}' cannot be read as ImageNet's development kit ({error}): fetch it again") from error
    return LabelList(rows, sorted(wnids.values()))


def _wnids(meta: bytes) -> dict[int, str]:
    """Return the names of the classes by their numbers in the kit, of those without classes below them."""
    from scipy.io import loadmat

    synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    return {int(each["ILSVRC2012_ID"]): str(each["WNID"]) for each in synsets if int(each["num_children"]) == 0}
