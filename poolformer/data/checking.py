"""The check of a .beton file: each sample is decoded and the whole summed up, in one pass over the disk."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from ..errors import DataError
from .beton import JPEG, Beton
from .pixels.jpeg import decode
from .threads import in_order

CHUNK = 16
"""Samples a thread takes at once: handing each over alone costs more than a small image."""
_BLOCK = 1 << 22


def damage(beton: Beton, *, workers: int) -> Iterator[str | None]:
    """Decode each sample and yield what is wrong with it, or None."""
    chunks = (range(first, min(first + CHUNK, len(beton))) for first in range(0, len(beton), CHUNK))
    for faults in in_order(lambda chunk: [_fault(beton, n) for n in chunk], chunks, workers=workers, ahead=4 * workers):
        yield from faults


def _fault(beton: Beton, sample: int) -> str | None:
    try:
        image = beton.read(sample)
        if image.mode == JPEG and decode(image.data, beton.name(sample)).shape != (image.height, image.width):
            return f"{beton.name(sample)}: its size is not what the index says"
        if beton.class_names is not None and beton.labels[sample] >= len(beton.class_names):
            return f"{beton.name(sample)}: label {beton.labels[sample]} of {len(beton.class_names)} classes"
    except DataError as error:
        return str(error)
    return None


def sha256(path: Path, progress: Callable[[int], None] = lambda done: None) -> str:
    """Of a whole file.

    Args:
        path: The file.
        progress: Called now and then with the number of bytes read.
    """
    digest, done = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            progress(done)
    return digest.hexdigest()


class Sha256Behind:
    """The checksum of a file that something else is reading: a thread follows it, while the bytes are in memory.

    Use it as a context; leaving it ends the thread.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file, self._size = open(path, "rb"), path.stat().st_size  # noqa: SIM115  closed by the context
        self._digest, self._read, self._is_left = hashlib.sha256(), 0, False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="poolformer-sha256")
        self._last: Future[None] | None = None

    def __enter__(self) -> "Sha256Behind":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_left = True
        self._thread.shutdown(cancel_futures=True)
        self._file.close()

    def follow(self, share: float) -> None:
        """Take in what lies in the first share of the file, 0 to 1, if the thread is not busy with what was before."""
        if self._last is None or self._last.done():
            self._last = self._thread.submit(self._take_in, int(share * self._size))

    def hexdigest(self) -> str:
        """Read what is left and return the checksum.

        Raises:
            OSError: The disk refuses.
        """
        if self._last is not None:
            self._last.result()
        self._thread.submit(self._take_in, None).result()
        return self._digest.hexdigest()

    def _take_in(self, end: int | None) -> None:
        while not self._is_left and (end is None or self._read < end):
            block = self._file.read(_BLOCK)
            if not block:
                return
            self._digest.update(block)
            self._read += len(block)
