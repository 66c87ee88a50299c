"""The .beton format of ffcv 1.0, version 2, without ffcv: images with labels, read here (beton_stream.py writes).

    header | field descriptions | index (a row a sample) | pages of image bytes | notes | allocation table

Everything is little-endian. ffcv stores no magic number and no checksum. Files written here carry both, in bytes that
ffcv leaves unused: the image field's arguments point to the notes, a JSON text and a CRC-32 for each sample.
"""

import json
import os
import zlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError, suggestion
from ..files.shell import quoted
from .beton_index import ALLOCATION, IMAGE, Entries, HeldRows, Layout, Read, Rows, all_rows, scan
from .beton_index import JPEG as JPEG
from .beton_index import RAW as RAW
from .open_file import OpenFile
from .pages import Pages, runs_of

VERSION = 2

HEADER = np.dtype(
    [("version", "<u2"), ("fields", "<u2"), ("page_size", "<u4"), ("samples", "<u8"), ("allocations", "<u8")]
)
FIELD = np.dtype([("type", "u1"), ("name", "S16"), ("arguments", "V1024")])
ROW = np.dtype([("image", IMAGE), ("label", "<i8")], align=True)
"""Of the index of a file written here."""
NOTES = np.dtype([("magic", "S8"), ("place", "<u8"), ("text_size", "<u8"), ("notes_crc", "<u4"), ("index_crc", "<u4")])

FLOAT_FIELD, INT_FIELD, IMAGE_FIELD = 0, 1, 2
FIELD_TYPES = {FLOAT_FIELD: np.dtype("<f8"), INT_FIELD: np.dtype("<i8"), IMAGE_FIELD: IMAGE}
MAGIC = b"metafmr1"
_MANY = 1000
"""Names in a folder among which it would take long to find the nearest one."""
SMALLEST_PAGE, PAGE = 1 << 21, 1 << 23


class Stored(NamedTuple):
    """An image as it stands in the file."""

    mode: int
    """JPEG or RAW."""
    height: int
    width: int
    data: np.ndarray
    """uint8 (bytes,): a JPEG file, or (H, W, 3) in rows."""


class Beton:
    """A .beton file of images and labels, checked and open for reading from any number of threads.

    Args:
        path: Path of the file.

    Attributes:
        labels: (samples,), of the smallest signed integers that hold them.
        class_names: Names from the notes; None where the file has none.
        settings: How it was packed; empty where the file does not say.
        has_checksums: Whether damage to image bytes is always found.
        rows: Answers where samples lie.
        fingerprint: Tells its contents from those of another file; without checksums, where its images lie.

    Raises:
        DataError: It is missing, no .beton of images and integer labels, unfinished, cut off or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not os.path.isfile(self.path):  # which is false, too, where nobody may look
            if os.path.isdir(self.path):
                raise DataError(f"'{self.path}' is a folder, not a .beton file: 'poolformer pack' makes one of it")
            makes = f"; `poolformer pack SRC {quoted(self.path)}` makes one" if self.path.suffix == ".beton" else ""
            raise DataError(f"there is no file '{self.path}'{makes or _meant(self.path)}")
        if self.path.stat().st_size < HEADER.itemsize + 2 * FIELD.itemsize:
            raise self._error("is too short to be a .beton file")
        try:
            self._file = OpenFile(self.path)
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror}") from error
        header = self._read_header()
        fields = self._part(HEADER.itemsize, FIELD, int(header["fields"]), "its field descriptions")
        layout, image_field = self._layout(header, fields)
        # Not `self`: what the rows read with must not keep this object.
        read = partial(_read, self._file, self.path)
        found = scan(read, layout, zlib.crc32(header.tobytes()))
        if found.unsound is not None:
            raise DataError(f"{self.name(found.unsound)}: its place in the file is damaged; copy or pack it again")
        self.labels = found.labels
        self._page_size, self._index = int(header["page_size"]), partial(all_rows, read, layout)
        self._read_notes(found.crc, fields[image_field])
        if found.negative is not None:
            label = _label(read, layout, found.negative)
            raise self._error(f"sample {found.negative} has the label {label}; labels count from 0")
        self.rows: Rows
        if found.held is not None:
            self.rows = HeldRows(found.held, self._crcs)
        else:
            from .beton_rows import ReadRows  # numba: half a second

            self.rows = ReadRows(read, self._file.descriptor, layout, found.gaps, self._crcs)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, sample: int) -> str:
        """Return what to call a sample in a message."""
        return f"'{self.path}', sample {sample}"

    def entries(self, samples: np.ndarray) -> Entries:
        """Return where samples lie, in the order asked for; from any number of threads.

        Args:
            samples: Their numbers, int64 (n,), below the length.
        """
        return self.rows.entries(samples)

    def pages(self) -> Pages:
        """Return which page of the file each sample lies in; this reads the whole index.

        Raises:
            DataError: It cannot be read.
        """
        return runs_of(rows["image"]["place"].astype(np.int64) // self._page_size for rows in self._index())

    @property
    def descriptor(self) -> int:
        """Descriptor of the file, open for reading as long as this object lives."""
        return self._file.descriptor

    def descriptors(self, samples: np.ndarray) -> np.ndarray:
        """Return the descriptor of each sample's file, int32."""
        return np.full(len(samples), self.descriptor, np.int32)

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self._file.size

    def read(self, sample: int) -> Stored:
        """Return the stored bytes of a sample.

        Raises:
            DataError: They cannot be read, or the file has checksums and they are not those that were packed.
        """
        mode, height, width, place, size, *crc = (
            int(each[0]) for each in self.entries(np.array([sample])) if each is not None
        )
        if size == 0:
            raise DataError(f"{self.name(sample)}: its place in the file is damaged; copy or pack it again")
        try:
            data = self._file.read(place, size, self.name(sample))
        except OSError as error:
            raise DataError(f"{self.name(sample)}: cannot be read ({error.strerror})") from error
        if len(data) < size:
            raise DataError(f"{self.name(sample)}: the file was cut off since it was opened; copy or pack it again")
        if crc and zlib.crc32(data) != crc[0]:
            raise DataError(f"{self.name(sample)}: its bytes are not those that were packed; copy or pack it again")
        return Stored(mode, height, width, np.frombuffer(data, np.uint8))

    @property
    def has_checksums(self) -> bool:
        return self._crcs is not None

    def _read_header(self) -> np.void:
        header = self._part(0, HEADER, 1, "its header")[0]
        if header["version"] != VERSION or not 1 <= header["fields"] <= 64 or header["page_size"] < SMALLEST_PAGE:
            raise self._error(f"is not a .beton file of version {VERSION}, or its header is damaged")
        if header["allocations"] == 0:
            raise self._error("is unfinished: whatever wrote it was stopped")
        if header["samples"] == 0:
            raise self._error("holds no images")
        return header

    def _layout(self, header: np.void, fields: np.ndarray) -> tuple[Layout, int]:
        """Return where the tables lie, and which field is the image."""
        types = [int(field["type"]) for field in fields]
        if types.count(IMAGE_FIELD) != 1 or types.count(INT_FIELD) != 1 or set(types) - set(FIELD_TYPES):
            raise self._error(f"should have one image and one integer label a sample; its field types are {types}")
        names = {IMAGE_FIELD: "image", INT_FIELD: "label"}
        row = np.dtype([(names.get(t, f"f{n}"), FIELD_TYPES[t]) for n, t in enumerate(types)], align=True)
        start, samples = HEADER.itemsize + fields.nbytes, int(header["samples"])
        self._check_end(start + row.itemsize * samples, "its index")
        place = int(header["allocations"])
        if (self._file.size - place) != samples * ALLOCATION.itemsize:
            raise self._error(f"is cut off or damaged: its allocation table does not fit its {samples} samples")
        return Layout(samples, start, row, place), types.index(IMAGE_FIELD)

    def _read_notes(self, index_crc: int, field: np.void) -> None:
        notes = np.frombuffer(field["arguments"].tobytes()[: NOTES.itemsize], NOTES)[0]
        self._crcs, self.class_names, self.settings = None, None, {}
        self.fingerprint = f"{index_crc:08x}"
        if notes["magic"] != MAGIC:
            return
        text_size, place = int(notes["text_size"]), int(notes["place"])
        block = self._part(place, np.dtype("u1"), text_size, "its notes")
        crcs = self._part(place + text_size, np.dtype("<u4"), len(self.labels), "its notes")
        sums = zlib.crc32(crcs.view(np.uint8).data, zlib.crc32(block.data)), index_crc
        self.fingerprint = f"{sums[0]:08x}{index_crc:08x}"  # with the checksums of all images
        if sums != (notes["notes_crc"], notes["index_crc"]):
            raise self._error("is damaged: its index or notes are not what was packed; copy or pack it again")
        # A checksum says that this is what was written, not who wrote it.
        try:
            text = json.loads(block.tobytes())
            self.class_names, self.settings = list(map(str, text["classes"])), dict(text["settings"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._error(f"is no file that `poolformer pack` wrote: its notes do not fit ({error})") from error
        self._crcs = crcs

    def _part(self, place: int, dtype: np.dtype, count: int, what: str) -> np.ndarray:
        self._check_end(place + dtype.itemsize * count, what)
        return np.frombuffer(_read(self._file, self.path, place, dtype.itemsize * count), dtype)

    def _check_end(self, end: int, what: str) -> None:
        if end > self._file.size:
            raise self._error(f"is cut off or damaged: {what} would end at byte {end} of {self._file.size}")

    def _error(self, what: str) -> DataError:
        return DataError(f"'{self.path}' {what}")


def _read(file: OpenFile, path: Path, place: int, size: int) -> bytes:
    try:
        data = file.read(place, size, f"'{path}'")
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}") from error
    if len(data) < size:
        raise DataError(f"'{path}' was cut off since it was opened; copy or pack it again")
    return data


def _label(read: Read, layout: Layout, sample: int) -> int:
    place = layout.start + sample * layout.row.itemsize
    return int(np.frombuffer(read(place, layout.row.itemsize), layout.row)["label"][0])


def index_crc(header: np.void, index: np.ndarray, allocations: np.ndarray) -> int:
    """Return the CRC-32 of what is not images."""
    return zlib.crc32(allocations.tobytes(), zlib.crc32(index.tobytes(), zlib.crc32(header.tobytes())))


def _meant(path: Path) -> str:
    """Return which file or folder beside a path that is not there may be meant; nothing where there are too many."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return ""
    near = suggestion(path.name, [name for name in names if not name.startswith(".")]) if len(names) <= _MANY else ""
    return f".{near}" if near else ""
