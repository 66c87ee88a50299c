"""What an interrupted pack keeps beside its target, so that `--resume` continues from the last whole page.

    .FILE.beton.unfinished    the file, as far as it is written
    .FILE.beton.journal       a line of what is packed and how, and one for each page: its images, and what was skipped

A page counts if its line is whole and its bytes in the file have the checksums that the line says: then it does not
matter what was killed when, or whether the disk had written it at a power cut.
"""

import json
import os
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..errors import DataError
from ..files.atomic_write import beginning, unfinished_name
from .beton import PAGE
from .beton_stream import BetonStream, Placed

Working = Callable[[str, int, int, str], None]
"""Takes what is done beside packing, how much of it, of how much, and its unit."""

_SOURCE = ("SRC", "split", "labels")


class _Page(NamedTuple):
    images: list[tuple[int, int, Placed]]
    """Number in the source, CRC-32 of the file there, and what is stored of it."""
    skipped: list[tuple[int, str]]
    tiles: dict[str, int]
    """Counts of all pages up to here."""
    end: int
    """Of its line in the journal."""


class Journal:
    """The journal of an unfinished file: says what an earlier process packed, and keeps what this one does.

    Args:
        beton: The unfinished file.
        path: Path of the journal; None keeps nothing.
        say: Takes a line of what is resumed.

    Attributes:
        is_resumed: Whether an earlier process has left both.
        packed: Numbers of the images in the file, in the source.
        crcs: CRC-32 of the source's file of each that an earlier process packed.
        skipped: What was left out, a line each.
        tiles: Counts of tiles.
        next: Number of the first image that is neither packed nor skipped.
        is_kept: Whether there is a whole page, that an error or a signal must leave.
    """

    def __init__(self, beton: Path, path: Path | None, say: Callable[[str], None]) -> None:
        self.beton, self.is_resumed, self._say = beton, False, say
        self.packed, self.crcs = array("q"), array("I")
        self.skipped: list[str] = []
        self.tiles: dict[str, int] = {}
        self.next, self.is_kept = 0, False
        self._path, self._file = path, None if path is None else open(path, "a+b")  # noqa: SIM115
        self._images: list[tuple[int, int, Placed]] = []
        self._skipped: list[tuple[int, str]] = []
        self._page = -1

    def begin(self, identity: dict[str, Any]) -> None:
        """Begin with an empty file, forgetting what was there."""
        self.beton.unlink(missing_ok=True)
        if self._file is not None:
            self._file.truncate(0)
            self._line(identity)
            os.fsync(self._file.fileno())

    def read_identity(self) -> dict[str, Any] | None:
        """Return what an earlier process packed, and how; None where there is nothing of it."""
        if self._file is None or not self.beton.is_file():
            return None
        self._file.seek(0)
        found = next(_lines(self._file), None)
        return found[0] if found and isinstance(found[0], dict) else None

    def restore(self, file: IO[bytes], stream: BetonStream, working: Working) -> None:
        """Enter into a stream what is sound in the unfinished file, and cut the rest off.

        Args:
            file: The unfinished file, open for reading and writing.
            stream: The stream into it, still empty.
            working: Told how much of it has been read.
        """
        assert self._file is not None
        size, start, sound = os.fstat(file.fileno()).st_size, stream.end, 0
        for page in self._pages():
            if not all(_is_sound(file, image) for _, _, image in page.images):
                break
            for n, crc, image in page.images:
                stream.enter(image, 0)
                self.packed.append(n)
                self.crcs.append(crc)
            self.skipped += [line for _, line in page.skipped]
            self.tiles, sound = page.tiles, page.end
            self.next = 1 + max([n for n, _, _ in page.images] + [n for n, _ in page.skipped])
            working("checked", stream.end, size, "bytes")
        self._page, self.is_kept = (stream.end - 1) // PAGE, bool(self.packed)
        resumed = f"resumed after {len(self.packed):,} images"
        self._say(resumed if self.is_kept else "no whole page is left: packing from the start")
        self._file.truncate(sound or self._first_end)
        file.truncate(stream.end)
        file.seek(0)
        file.write(bytes(start))  # an index, if it was written already: of fewer rows, should a file be gone

    def add(self, n: int, crc: int, image: Placed, tiles: dict[str, int], file: IO[bytes]) -> None:
        """Keep what is known of an image that was packed.

        Args:
            n: Its number in the source.
            crc: CRC-32 of the file there.
            image: What is stored of it.
            tiles: Counts of those before it.
            file: The unfinished file, which has its bytes.
        """
        if image.place // PAGE != self._page:
            if self._images and self._file is not None:
                file.flush()
                self._line({"images": self._images, "skipped": self._skipped, "tiles": tiles})
                self._images, self._skipped, self.is_kept = [], [], True
            self._page = image.place // PAGE
        if self._file is not None:
            self._images.append((n, crc, image))
        self.packed.append(n)

    def skip(self, n: int, line: str) -> None:
        """Keep what is to be said of an image that was left out."""
        self._skipped.append((n, line))
        self.skipped.append(line)

    def close(self) -> None:
        """Let go of the journal."""
        if self._file is not None:
            with suppress(OSError):  # on a full disk, of a line that could not be written and does not count
                self._file.close()

    def remove(self) -> None:
        """Remove the journal: the file is finished, or not worth keeping."""
        self.is_kept = False
        self.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _line(self, content: dict[str, Any]) -> None:
        assert self._file is not None
        text = json.dumps(content, separators=(",", ":")).encode()
        self._file.write(b"%08x %s\n" % (zlib.crc32(text), text))
        self._file.flush()

    def _pages(self) -> Iterator[_Page]:
        assert self._file is not None
        self._file.seek(0)
        lines = _lines(self._file)
        self._first_end = next(lines)[1]
        for page, end in lines:
            images = [(n, crc, Placed(*image)) for n, crc, image in page["images"]]
            yield _Page(images, page["skipped"], page["tiles"], end)


@contextmanager
def kept(
    path: Path, identity: dict[str, Any], *, is_locked: bool, resume: bool, say: Callable[[str], None]
) -> Iterator[Journal]:
    """Give the journal of a file to be; an error or a signal leaves it and the unfinished file if a page is whole.

    Args:
        path: Path of the .beton file to be.
        identity: What is packed and how, under the names of options.
        is_locked: Whether nobody else writes to it; otherwise nothing is resumed or kept.
        resume: Whether to continue what an earlier process has left.
        say: Takes a line about what is left, or was.

    Raises:
        DataError: What was left is of other options or another source.
    """
    journal = _opened(path, say, is_locked=is_locked)
    try:
        known = journal.read_identity()
        if known is not None and resume:
            _check_same(known, identity, journal.beton)
            journal.is_resumed = journal.is_kept = True
        else:
            if known is not None:
                say(f"the unfinished '{journal.beton}' is packed anew; --resume would continue it")
            elif resume:
                say(f"nothing unfinished is left of '{path.name}': packing from the start")
            journal.begin(identity)
    except BaseException:
        journal.close()
        raise
    try:
        yield journal
    except BaseException:
        journal.close()
        if journal.is_kept and journal.beton.exists():  # its description may be all that was not published
            say(f"what is packed is kept in '{journal.beton}': the same command with --resume continues")
        else:
            journal.beton.unlink(missing_ok=True)
            journal.remove()
        raise


def _opened(path: Path, say: Callable[[str], None], *, is_locked: bool) -> Journal:
    if not is_locked:
        return Journal(unfinished_name(path), None, say)
    beside = path.with_name(f".{beginning(path.name)}")
    return Journal(Path(f"{beside}.unfinished"), Path(f"{beside}.journal"), say)


def _lines(file: IO[bytes]) -> Iterator[tuple[Any, int]]:
    """Yield the content of each line and where it ends, as far as lines are whole."""
    end = 0
    for line in file:
        end += len(line)
        try:
            crc, text = int(line[:8], 16), line[9:-1]
            if not line.endswith(b"\n") or zlib.crc32(text) != crc:
                return
        except ValueError:
            return
        yield json.loads(text), end


def _is_sound(file: IO[bytes], image: Placed) -> bool:
    file.seek(image.place)
    data = file.read(image.size)
    return len(data) == image.size and zlib.crc32(data) == image.crc


def _check_same(known: dict[str, Any], identity: dict[str, Any], beton: Path) -> None:
    """Refuse to continue with other options: the file would be half of this and half of that."""
    differing = [name for name in identity if known.get(name) != identity[name]]
    source = [name for name in differing if name in _SOURCE]
    options = [name for name in differing if name not in (*_SOURCE, "images")]
    if "images" in differing:  # else the source is the same, however it is written
        options += source
    said = [f"{_option(name)} was {_value(known.get(name))} and is {_value(identity[name])}" for name in options]
    if "images" in differing and not source:
        said.append(f"{identity['SRC']} holds other images or classes than it did")
    if said:
        raise DataError(f"'{beton}' cannot be resumed: {', '.join(said)}; pack without --resume to start anew")


def _option(name: str) -> str:
    return name if name in ("SRC", "poolformer") else f"--{name}"


def _value(value: Any) -> str:
    return "not given" if value is None or value is False else "given" if value is True else f"{value}"
