"""Packing images as they come: how many there are, and of which classes, may be known only at the end."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ..errors import DataError, printable
from .beton import FIELD, HEADER, Stored
from .beton_stream import BetonStream, Placed
from .pack_journal import Journal, Working
from .threads import in_order
from .tiling import Tiling

_BLOCK = 1 << 23
_COMPARED = 64
"""Of image files that were packed before, so many are read again to see that they are still the same."""


class Settled(NamedTuple):
    """What a stream is known to hold when it has ended."""

    order: Sequence[int]
    """Samples by their numbers in the stream."""
    labels: list[int]
    listed: int
    """How many images a folder of the same would have, those that were skipped among them."""


class ImageFiles(Protocol):
    """Images that can be read in any order."""

    names: list[str]
    labels: list[int]
    class_names: list[str]
    remarks: str

    def read(self, n: int) -> bytes: ...


@runtime_checkable
class ImageStream(Protocol):
    """Images that come once.

    Attributes:
        names: Of the images that have come.
        estimate: How many may come; any number does.
        class_names: Known when it has settled, as are the remarks.
    """

    names: list[str]
    estimate: int
    class_names: list[str]
    remarks: str

    def images(self) -> Iterator[bytes | DataError]: ...

    def settle(self, packed: list[int]) -> Settled: ...


class Outcome(NamedTuple):
    """What has become of an image."""

    image: Stored | DataError
    crc: int
    """CRC-32 of its file."""
    tiles: dict[str, int]
    """Counts of the tiles made of it."""


def write(
    files: ImageFiles | ImageStream,
    journal: Journal,
    store: Callable[[bytes, str], tuple[Stored, dict[str, int]]],
    settings: dict[str, Any],
    tiling: Tiling,
    *,
    on_error: str,
    workers: int,
    progress: Callable[[int], None],
    working: Working,
) -> list[int]:
    """Write images to an unfinished file, from where its journal says; the file says in no way how they came.

    Args:
        files: The images.
        journal: The journal, and the name of the file.
        store: From bytes and a name for messages to what is stored, and counts of tiles.
        settings: What the file says of itself.
        tiling: Counts tiles.
        on_error: What to do with a file that is no sound image: `fail` or `skip`.
        workers: Number of threads.
        progress: Called after each image with the number of images done.
        working: Called while it does something else: with what, how much, of how much, and the unit.

    Returns:
        The labels of what is packed.

    Raises:
        DataError: An image is none, none is sound, or those that were packed before are others now.
        OSError: The disk refuses.
    """

    def load(item: tuple[str, Callable[[], bytes]]) -> Outcome:
        name, read = item
        try:
            data = read()
            image, tiles = store(data, f"'{printable(name)}'")
            return Outcome(image, zlib.crc32(data), tiles)
        except DataError as error:
            return Outcome(error, 0, {})

    with open(journal.beton, "r+b" if journal.is_resumed else "w+b") as file:
        estimate = files.estimate if isinstance(files, ImageStream) else len(files.names)
        stream = _GrowingStream(file, estimate=estimate)
        if journal.is_resumed:
            journal.restore(file, stream, working)
            if journal.tiles:
                tiling.add(journal.tiles)
            if journal.skipped and on_error == "fail":
                raise DataError("--on_error was skip and is fail, and images have been left out already")
        items = _rest_of(files, journal, working)
        for n, outcome in enumerate(in_order(load, items, workers=workers, ahead=4 * workers), journal.next):
            if not isinstance(outcome.image, DataError):
                journal.add(n, outcome.crc, stream.add(outcome.image, 0), tiling.counts, file)
                tiling.add(outcome.tiles)
            elif on_error == "skip":
                journal.skip(n, str(outcome.image))
            else:
                raise DataError(f"{outcome.image} (--on_error skip packs the others)")
            progress(n + 1)
        settled = _settled(files, journal)
        stream.arrange(np.searchsorted(journal.packed, settled.order), settled.labels, settled.listed)
        stream.finish(files.class_names, settings)
    return settled.labels


def _settled(files: ImageFiles | ImageStream, journal: Journal) -> Settled:
    packed, skipped = journal.packed, journal.skipped
    if not packed:
        found = f"none of the {len(skipped)} files is a sound image; the first: {skipped[0]}" if skipped else ""
        raise DataError(found or "there are no images in it")
    if isinstance(files, ImageStream):
        return files.settle(packed.tolist())
    return Settled(packed, [files.labels[n] for n in packed], len(files.names))


def _rest_of(
    files: ImageFiles | ImageStream, journal: Journal, working: Working
) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield names and what reads them of the images that are still to be packed; those before are compared."""
    before = list(zip(journal.packed, journal.crcs, strict=True))
    if not isinstance(files, ImageStream):
        for n, crc in before[:: len(before) // _COMPARED + 1]:
            _check_equal(files.read(n), crc, files.names[n])
        for n in range(journal.next, len(files.names)):
            yield files.names[n], partial(files.read, n)
        return
    n, known = -1, dict(before)
    for n, data in enumerate(files.images()):
        if n >= journal.next:
            yield files.names[-1], partial(_given, data)
            continue
        if n in known:
            _check_equal(data, known[n], files.names[-1])
        working("read again", n + 1, journal.next, "images")
    if n + 1 < journal.next:
        raise DataError(f"there are {n + 1} images, fewer than were packed already: pack without --resume")


def _given(data: bytes | DataError) -> bytes:
    if isinstance(data, DataError):
        raise data
    return data


def _check_equal(data: bytes | DataError, crc: int, name: str) -> None:
    if zlib.crc32(_given(data)) != crc:
        raise DataError(f"'{printable(name)}' has changed since it was packed: pack without --resume to start anew")


class _GrowingStream(BetonStream):
    def __init__(self, file: IO[bytes], *, estimate: int) -> None:
        super().__init__(file, capacity=max(1, estimate))
        self._reserved = self._end

    def enter(self, image: Placed, label: int) -> None:
        if self._samples == len(self._index):
            self._index, self._allocations, self._crcs = (
                _doubled(rows) for rows in (self._index, self._allocations, self._crcs)
            )
        super().enter(image, label)

    def arrange(self, order: Sequence[int] | np.ndarray, labels: list[int], listed: int) -> None:
        """Bring the samples into an order, with their labels, behind an index of as many rows as are listed."""
        rows = np.asarray(order, np.int64)
        tables = self._index, self._allocations, self._crcs
        if np.array_equal(rows, np.arange(len(rows))):
            self._index, self._allocations, self._crcs = (each[: len(rows)] for each in tables)
        else:
            self._index, self._allocations, self._crcs = (_chosen(each, rows) for each in tables)
        self._index["label"], self._allocations["sample"], self._samples = labels, np.arange(len(rows)), len(rows)
        needed = HEADER.itemsize + 2 * FIELD.itemsize + max(listed, len(rows)) * self._index.itemsize
        # Images must not lie across pages, which are larger where an image is.
        shift = -(-(needed - self._reserved) // self._page_size) * self._page_size
        if shift:
            _move(self._file, self._reserved, self._end, shift)
            self._index["image"]["place"] = (self._index["image"]["place"].astype(np.int64) + shift).astype(np.uint64)
            self._allocations["place"] = self._index["image"]["place"]
            self._end += shift


# By bytes: NumPy does not copy what fills the rows up, and checksums are of all of them.
def _doubled(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows.view(np.uint8), np.zeros(rows.nbytes, np.uint8)]).view(rows.dtype)


def _chosen(rows: np.ndarray, which: np.ndarray) -> np.ndarray:
    return rows.view(np.uint8).reshape(len(rows), -1)[which].reshape(-1).view(rows.dtype)


def _move(file: IO[bytes], start: int, end: int, shift: int) -> None:
    blocks = range(start, end, _BLOCK)
    for place in reversed(blocks) if shift > 0 else blocks:
        file.seek(place)
        data = file.read(min(_BLOCK, end - place))
        file.seek(place + shift)
        file.write(data)
    file.truncate(end + shift)
