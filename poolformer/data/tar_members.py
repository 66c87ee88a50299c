"""The members of a tar archive, read strictly: all that it says it holds is found, or it is refused.

Python's `tarfile` takes a damaged header for the end of the archive. Here an archive ends with its end marker, two
blocks of zeros, and with nothing behind it.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

from ..errors import DataError

BLOCK = 512
UNKNOWN_END = 1 << 62
"""End of an archive of which nobody knows it before it is read."""
FILE, FOLDER, SYMLINK, HARDLINK, SPARSE, OTHER = range(6)
"""Kinds of members. OTHER: devices, pipes, labels and parts of volumes."""

_KINDS = {
    **dict.fromkeys((b"0", b"\0", b"7"), FILE),
    **dict.fromkeys((b"5", b"D"), FOLDER),
    b"1": HARDLINK,
    b"2": SYMLINK,
    b"S": SPARSE,
    **dict.fromkeys((b"3", b"4", b"6", b"V", b"M", b"N"), OTHER),
}
_WITHOUT_CONTENT = b"123456"
_NAME, _LINK, _OF_ALL, _OF_NEXT = b"L", b"K", b"g", (b"x", b"X")
_LONGEST_NAME, _DEEPEST = 4096, 64
"""Characters and folders: a name of more is none on a disk, and would cost more memory than the archive has bytes."""
_LARGEST_NOTES = 1 << 26
_RECORD = re.compile(rb"([1-9]\d{0,9}) ")

Read = Callable[[int, int], bytes]
"""From place and size to bytes; fewer where the file ends."""


class Member(NamedTuple):
    """A member, as the archive says; its name as it is written."""

    name: str
    kind: int
    place: int
    """Of its first byte, in the file that holds the archive."""
    size: int
    target: str
    """Of a link."""


def members(read: Read, start: int, end: int, where: str) -> Iterator[Member]:
    """Yield the members of the archive that lies from byte `start` to byte `end`.

    Args:
        read: Function that reads the file.
        start: Start of the archive in the file.
        end: End of the archive in the file.
        where: What to call the archive in a message.

    Raises:
        DataError: It is no archive, damaged, cut off, or something follows its end marker.
    """
    return _Reader(read, start, end, where).members()


def begins_as_tar(block: bytes) -> bool:
    """Return whether a file whose first bytes these are can be a tar archive that is not compressed."""
    return len(block) == BLOCK and (not block.strip(b"\0") or _has_checksum(block))


class _Reader:
    def __init__(self, read: Read, start: int, end: int, where: str) -> None:
        self._read, self._start, self._end, self._where = read, start, end, where
        self._place, self._before = start, ""

    def members(self) -> Iterator[Member]:
        if self._start == self._end:
            self._refuse("it is empty")
        for_all: dict[bytes, bytes] = {}
        for_next: dict[bytes, bytes] = {}
        while block := self._block():
            kind, size = block[156:157], self._number(block[124:136])
            if kind in (_NAME, _LINK, _OF_ALL, *_OF_NEXT):
                notes = self._notes(kind, size)
                (for_all if kind == _OF_ALL else for_next).update(notes)
                continue
            yield self._member(block, kind, size, {**for_all, **for_next})
            for_next = {}
        if for_next:
            self._refuse("a member that was announced is not there")
        self._check_end()

    def _block(self) -> bytes | None:
        """Return the next header, None at the end marker."""
        block = self._read(self._place, max(0, min(BLOCK, self._end - self._place)))
        if len(block) == BLOCK and not block.strip(b"\0"):
            return None
        if self._place == self._start and not _has_checksum(block):
            self._refuse(f"it does not begin as one{_seems(block)}")
        if len(block) < BLOCK:
            self._refuse(
                f"it ends at byte {self._end - self._start}{self._after()} without an end marker: it is cut off"
            )
        if not _has_checksum(block):
            self._damaged("is no header of a member")
        self._place += BLOCK
        return block

    def _member(self, block: bytes, kind: bytes, size: int, notes: dict[bytes, bytes]) -> Member:
        is_sparse = any(key.startswith(b"GNU.sparse.") for key in notes)
        if notes.get(b"size"):
            size = self._decimal(notes[b"size"])
        if kind == b"S":
            self._skip_map(block)
        name = _text(notes.get(b"GNU.sparse.name") or notes.get(b"path") or _own_name(block))
        self._before = name
        if len(name) > _LONGEST_NAME or name.count("/") > _DEEPEST:
            self._damaged(f"is a name of {len(name)} characters and {name.count('/')} folders")
        kind_of = (
            FOLDER if kind in b"0\0" and name.endswith("/") else _KINDS.get(kind, FILE)
        )  # POSIX: what is unknown is a file
        content = 0 if kind in _WITHOUT_CONTENT or (kind_of == FOLDER and kind != b"D") else size
        member = Member(
            name,
            SPARSE if is_sparse else kind_of,
            self._place,
            size,
            _text(notes.get(b"linkpath") or _until_zero(block[157:257])),
        )
        self._skip(content, f"'{name}'")
        return member

    def _notes(self, kind: bytes, size: int) -> dict[bytes, bytes]:
        place = self._place
        self._skip(size, "what is said of the next member")
        if size > _LARGEST_NOTES:
            self._damaged(f"are {size} bytes about one member")
        data = self._read(place, size)
        if kind in (_NAME, _LINK):
            if not _until_zero(data):
                self._damaged("follows an empty name")
            return {b"path" if kind == _NAME else b"linkpath": _until_zero(data)}
        notes, at = {}, 0
        while at < len(data) and data[at]:
            head = _RECORD.match(data, at)
            end = at + int(head[1]) if head else 0
            key, equals, value = data[head.end() : end - 1].partition(b"=") if head else (b"", b"", b"")
            if not equals or end > len(data) or data[end - 1 : end] != b"\n":
                self._damaged("is no record of the PAX format")
            notes[key] = value
            at = end
        return notes

    def _skip(self, size: int, what: str) -> None:
        if self._place + size > self._end:
            end, length = self._place + size - self._start, self._end - self._start
            self._refuse(f"{what} would end at byte {end} of {length}: it is cut off")
        self._place += -(-size // BLOCK) * BLOCK

    def _skip_map(self, block: bytes) -> None:
        """Go to the content of a member in the old sparse format, behind further blocks about its holes."""
        more = block[482]
        while more:
            more = (self._read(self._place, BLOCK) + bytes(BLOCK))[504]
            self._skip(BLOCK, "a list of holes")

    def _check_end(self) -> None:
        if self._place + 2 * BLOCK > self._end:
            self._refuse(f"it ends at byte {self._end - self._start}{self._after()} in its end marker: it is cut off")
        at = self._place
        while at < self._end:
            data = self._read(at, min(1 << 20, self._end - at))
            rest = data.lstrip(b"\0")
            if self._end == UNKNOWN_END and not data and at >= self._place + 2 * BLOCK:
                return
            if rest or not data:
                self._refuse(
                    f"something follows its end marker, at byte {at + len(data) - len(rest) - self._start}"
                    f"{self._after()}: it is damaged, or archives were joined"
                )
            at += len(data)

    def _number(self, field: bytes) -> int:
        if field[0] & 0x80:  # of GNU and star, for 8 GiB and more
            value = int.from_bytes(field, "big") & ((1 << 95) - 1)
            return value if field[0] == 0x80 else self._damaged("has a size below zero")
        digits = _until_zero(field).strip(b" ")
        return int(digits or b"0", 8) if not digits.strip(b"01234567") else self._damaged("has no size")

    def _decimal(self, text: bytes) -> int:
        return int(text) if len(text) < 20 and text.isdigit() else self._damaged("has no size")

    def _damaged(self, what: str) -> NoReturn:
        self._refuse(f"what stands at byte {self._place - self._start}{self._after()} {what}: it is damaged or cut off")

    def _after(self) -> str:
        return f", after '{self._before}'," if self._before else ""

    def _refuse(self, what: str) -> NoReturn:
        raise DataError(f"{self._where} cannot be read as a tar file: {what}")


def _has_checksum(block: bytes) -> bool:
    digits = _until_zero(block[148:156]).strip(b" ")
    if len(block) < BLOCK or not digits or digits.strip(b"01234567"):
        return False
    given, others = int(digits, 8), block[:148] + block[156:]
    total = sum(others) + 8 * ord(" ")
    if given == total:
        return True
    return given == total - 256 * sum(byte > 127 for byte in others)  # as some old programs add, and few archives need


def _own_name(block: bytes) -> bytes:
    name, front = _until_zero(block[:100]), _until_zero(block[345:500])
    is_posix = block[257:263] == b"ustar\0"  # GNU's keeps times in the place of the front
    return front + b"/" + name if front and is_posix else name


def _until_zero(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _seems(block: bytes) -> str:
    head = block.lstrip()[:15].lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return ": it is a web page, as failed downloads are"
    known = {b"pk\3\4": "zip", b"7z\xbc\xaf": "7z", b"rar!": "rar", b"\x28\xb5\x2f\xfd": "zstd"}
    kind = next((kind for magic, kind in known.items() if head.startswith(magic)), None)
    return f": it is a {kind} archive, unpack it first" if kind else ""
