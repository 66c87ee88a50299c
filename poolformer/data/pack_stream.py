"""Packing what comes once: how many images there are, and of which classes, is known at the end."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ..errors import DataError, printable
from .beton import FIELD, HEADER, BetonStream, Stored
from .threads import in_order

_BLOCK = 1 << 23


class Settled(NamedTuple):
    """What a stream is known to hold when it has ended."""

    order: list[int]
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


def write_stream(
    files: ImageStream,
    beton: Path,
    store: Callable[[bytes, str], Stored],
    settings: dict[str, Any],
    *,
    on_error: str,
    workers: int,
    progress: Callable[[int], None],
) -> tuple[list[int], list[str]]:
    """Write a stream to a file; its bytes are those of a folder of the same, if they come in that order.

    Returns:
        The labels of what is packed, and what was skipped.

    Raises:
        DataError: An image is none, or none is sound.
        OSError: The disk refuses.
    """

    def load(item: tuple[str, bytes | DataError]) -> Stored | DataError:
        name, data = item
        try:
            return data if isinstance(data, DataError) else store(data, f"'{printable(name)}'")
        except DataError as error:
            return error

    skipped, packed = [], []
    with open(beton, "w+b") as file:
        stream = _GrowingStream(file, estimate=files.estimate)
        items = ((files.names[-1], data) for data in files.images())
        for n, image in enumerate(in_order(load, items, workers=workers, ahead=4 * workers)):
            if not isinstance(image, DataError):
                stream.add(image, 0)
                packed.append(n)
            elif on_error == "skip":
                skipped.append(str(image))
            else:
                raise DataError(f"{image} (--on_error skip packs the others)")
            progress(n + 1)
        if not packed:
            found = f"none of the {len(skipped)} files is a sound image; the first: {skipped[0]}" if skipped else ""
            raise DataError(found or "there are no images in it")
        order, labels, listed = files.settle(packed)
        place = {n: at for at, n in enumerate(packed)}
        stream.arrange([place[n] for n in order], labels, listed)
        stream.finish(files.class_names, settings)
    return labels, skipped


class _GrowingStream(BetonStream):
    def __init__(self, file: IO[bytes], *, estimate: int) -> None:
        super().__init__(file, capacity=max(1, estimate))
        self._reserved = self._end

    def add(self, image: Stored, label: int) -> None:
        if self._samples == len(self._index):
            self._index, self._allocations, self._crcs = (
                _doubled(rows) for rows in (self._index, self._allocations, self._crcs)
            )
        super().add(image, label)

    def arrange(self, order: list[int], labels: list[int], listed: int) -> None:
        """Bring the samples into an order, with their labels, behind an index of as many rows as are listed."""
        rows = np.asarray(order, np.int64)
        self._index, self._allocations, self._crcs = (
            _chosen(each, rows) for each in (self._index, self._allocations, self._crcs)
        )
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
