"""Texts of your own: class folders of text files, or a table of texts and labels."""

import csv
from pathlib import Path

from poolformer.errors import DataError

from .texts import TextModule


class TextData(TextModule):
    """Class folders of ``.txt`` files, a file a text; or a ``.csv`` or ``.tsv`` with the columns text and label.

    Args:
        train: Folder or table to train on.
        val: Folder or table to validate on; of the same classes.
        batch_size: Texts a device and step.
        image_size: Bytes of a text that are looked at; what is longer is cut.
        seed: Seed of the order; null for that of --seed_everything.

    Raises:
        DataError: There is no such folder or table, or no text in it.
    """

    def __init__(self, train: str, val: str, batch_size: int = 64, image_size: int = 128, seed: int | None = None):
        super().__init__(batch_size, image_size, seed)
        self.save_hyperparameters()
        self._rows = {"train": _read(Path(train)), "val": _read(Path(val))}
        self.class_names = sorted({name for _, name in self._rows["train"]})
        unknown = sorted({name for _, name in self._rows["val"]} - set(self.class_names))
        if unknown:
            raise DataError(f"{val} has classes that {train} has not: {', '.join(unknown[:5])}")

    def splits(self) -> dict[str, list[tuple[str, int]]]:
        """Number the classes by their names."""
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return {split: [(text, numbers[name]) for text, name in rows] for split, rows in self._rows.items()}


def _read(source: Path) -> list[tuple[str, str]]:
    """Read (text, class)."""
    try:
        if source.is_dir():
            rows = [(_text(file), file.parent.name) for file in sorted(source.glob("*/*.txt"))]
            wanted = "CLASS/*.txt in it"
        else:
            rows, wanted = _table(source), "row in it"
    except OSError as error:
        raise DataError(f"{error.filename or source}: {error.strerror}") from error
    if not rows:
        raise DataError(f"{source}: there is no {wanted}")
    return rows


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from error


def _table(source: Path) -> list[tuple[str, str]]:
    csv.field_size_limit(2**31 - 1)  # what a C long of Windows holds
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t" if source.suffix.lower() == ".tsv" else ",", strict=True)
            columns = reader.fieldnames or []
            if not {"text", "label"} <= set(columns):
                raise DataError(f"{source}: the first line names the columns, and has no text and label: {columns}")
            rows = []
            for row in reader:
                if None in row:  # such as a text with commas
                    raise DataError(
                        f"{source}, line {reader.line_num}: there is more than the {len(columns)} columns; a text with "
                        "the separator in it stands in quotes"
                    )
                if row["text"] is None or row["label"] is None:
                    raise DataError(f"{source}, line {reader.line_num}: a column is missing")
                if not row["label"]:
                    raise DataError(f"{source}, line {reader.line_num}: the label is empty")
                rows.append((row["text"], row["label"]))
            return rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source} cannot be read as a table: {error}") from error
