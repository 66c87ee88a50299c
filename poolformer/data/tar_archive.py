"""A tar archive open for reading, and the images in it: in folders, or in one tar a class as ImageNet's."""

import bz2
import errno
import gzip
import lzma
import os
import tempfile
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from ..errors import DataError
from .listing import LOST_LINK, NO_FILE, REPLACED, SECOND_LINK, SPARSE_FILE, Folders, Listing, is_hidden, is_image
from .patience import read_at
from .tar_members import BLOCK, FILE, FOLDER, HARDLINK, SPARSE, SYMLINK, Member, begins_as_tar, members

OUTSIDE = ("name that leads outside", "names that lead outside")
_HOPS, _DEEPEST = 8, 64
"""Links followed from one to the next, and folders of a path that they lead to."""
_Table = dict[Folders, Member]


class Archive:
    """A tar archive that any number of threads may read from; a compressed one is unpacked to a temporary file first.

    Args:
        path: Path of the archive.

    Raises:
        DataError: It cannot be read or unpacked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._open()
        except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise DataError(
                    f"'{path}' does not fit into '{tempfile.gettempdir()}' when it is unpacked: set TMPDIR to a larger "
                    "place, or unpack it"
                ) from error
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"'{path}' cannot be read as a tar file: {reason}") from error
        self.size = os.fstat(self._descriptor).st_size

    def read(self, place: int, size: int) -> bytes:
        """Return bytes of the unpacked archive; fewer where it ends.

        Raises:
            DataError: The disk refuses.
        """
        try:
            if hasattr(os, "pread"):
                return read_at(self._descriptor, place, size, f"'{self.path}'")
            with self._lock:  # Windows
                os.lseek(self._descriptor, place, os.SEEK_SET)
                return os.read(self._descriptor, size)
        except OSError as error:
            raise DataError(f"'{self.path}' cannot be read at byte {place} ({error.strerror})") from error

    def members(self, start: int, end: int, where: str) -> Iterator[Member]:
        """Yield the members of what lies from byte `start` to byte `end`; see `tar_members.members`."""
        return members(self.read, start, end, where)

    def _open(self) -> None:
        self._lock = threading.Lock()
        with open(self.path, "rb") as file:
            unpack = decompressor(file.read(BLOCK))
            if unpack is None:
                self._keep(file)
                return
            file.seek(0)
            with unpack(file) as packed, tempfile.TemporaryFile() as plain:  # without a name: a kill leaves nothing
                _copy(packed, plain)
                self._keep(plain)

    def _keep(self, file: IO[bytes]) -> None:
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)


class Members(Protocol):
    """What is known of an archive."""

    path: Path
    size: int

    def members(self, start: int, end: int, where: str) -> Iterator[Member]: ...


def list_tar(archive: Members) -> Listing:
    """Return the images in a tar; a tar in it counts as a folder of its name, one in that as a file.

    Links are followed inside the archive, and of members of the same name the last counts, as when it is unpacked.

    Raises:
        DataError: The archive, or one in it, is damaged, cut off or none.
    """
    listing, read = Listing(), set()
    table = _table(archive, 0, archive.size, f"'{archive.path}'", listing, ())
    for path, member in _files(table, listing, ()):
        if not is_tar(path[-1]):
            listing.add(path[:-1], path[-1], (member.place, member.size))
        elif member.place in read:
            listing.leave_out(SECOND_LINK, path[:-1], path[-1])
        else:
            read.add(member.place)
            _list_inner(archive, path, member, listing)
    return listing


def is_tar(name: str) -> bool:
    """Return whether a member of this name is an archive of its own."""
    return name.lower().endswith(".tar")


def _list_inner(archive: Members, path: Folders, member: Member, listing: Listing) -> None:
    where = f"'{archive.path}': its member '{'/'.join(path)}'"
    if member.kind == SPARSE:
        raise DataError(f"{where} cannot be read as a tar file: it is stored with holes; unpack the archive")
    front = (*path[:-1], path[-1][: -len(".tar")])
    add_folder(listing, front)
    table = _table(archive, member.place, member.place + member.size, where, listing, front)
    for path, member in _files(table, listing, front):
        listing.add((*front, *path[:-1]), path[-1], (member.place, member.size))


def _table(archive: Members, start: int, end: int, where: str, listing: Listing, front: Folders) -> _Table:
    """Return the members by their paths, the last of each name; hard links as what they are links to."""
    table: _Table = {}
    for member in archive.members(start, end, where):
        path = parts_inside((), member.name)
        if path is None or (not path and member.kind != FOLDER):
            listing.leave_out(OUTSIDE, front, member.name)
            continue
        if member.kind == HARDLINK:
            target = parts_inside((), member.target)
            if target == path:  # a file that was added twice
                continue
            linked = table.get(target) if target else None
            if linked is not None and linked.kind in (FILE, SYMLINK, SPARSE):
                member = linked
        if path in table and member.kind != FOLDER and (is_image(path[-1]) or is_tar(path[-1])):
            listing.leave_out(REPLACED, (*front, *path[:-1]), path[-1])
        if path:
            table[path] = member
    _check_folders(table, where)
    return table


def _check_folders(table: _Table, where: str) -> None:
    inside = {path[:-1]: path for path in table}
    for folder, path in inside.items():
        wrong = next((folder[:end] for end in range(len(folder), 0, -1) if folder[:end] in table), None)
        if wrong and table[wrong].kind != FOLDER:
            names = f"'{'/'.join(path)}' is in '{'/'.join(wrong)}'"
            raise DataError(f"{where} cannot be read as a tar file: {names}, which is no folder")


def _files(table: _Table, listing: Listing, front: Folders) -> Iterator[tuple[Folders, Member]]:
    """Return the files among the members, behind their links; everything else goes into the listing."""
    hidden: set[Folders] = set()
    folders = {path[:end] for path in table for end in range(1, len(path))}
    folders |= {path for path, member in table.items() if member.kind == FOLDER}
    member: Member | None
    for path, member in table.items():
        first = next((depth for depth, name in enumerate(path) if is_hidden(name)), None)
        if first is not None:
            if path[: first + 1] not in hidden:
                hidden.add(path[: first + 1])
                listing.hide((*front, *path[:first]), path[first])
            continue
        inside = (*front, *path[:-1])
        if member.kind == FOLDER:
            add_folder(listing, (*front, *path))
            continue
        add_folder(listing, inside)
        if member.kind == SYMLINK:
            target = _behind_links(table, path)
            member = table.get(target) if target else None
            if target in folders:
                listing.leave_out(SECOND_LINK, inside, path[-1])
                continue
        if member is None or member.kind == HARDLINK:
            listing.leave_out(LOST_LINK, inside, path[-1])
        elif member.kind == FILE or (member.kind == SPARSE and is_tar(path[-1])):
            yield path, member
        else:
            listing.leave_out(SPARSE_FILE if member.kind == SPARSE else NO_FILE, inside, path[-1])


def _behind_links(table: _Table, path: Folders) -> Folders | None:
    """Return where a path leads inside the archive; None: nowhere, outside, or round in a circle."""
    for _ in range(_HOPS):
        link = next((end for end in range(1, len(path) + 1) if _is_link(table, path[:end])), None)
        if link is None:
            return path
        target = table[path[:link]].target
        start = None if target.startswith("/") else parts_inside(path[: link - 1], target)
        if start is None or len(start) + len(path) - link > _DEEPEST:
            return None
        path = (*start, *path[link:])
    return None


def _is_link(table: _Table, path: Folders) -> bool:
    return path in table and table[path].kind == SYMLINK


def parts_inside(start: Folders, name: str) -> Folders | None:
    """Return the parts of a path, without `.` and `..`; None if it leads outside."""
    parts = list(start)
    for part in name.split("/"):
        if part == ".." and not parts:
            return None
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return tuple(parts)


def add_folder(listing: Listing, folders: Folders) -> None:
    while folders and folders not in listing.folders:
        listing.folders.add(folders)
        folders = folders[:-1]


def decompressor(head: bytes) -> Callable[[IO[bytes]], IO[bytes]] | None:
    """Return what unpacks a file that begins so; None for one that is not compressed."""
    if begins_as_tar(head):  # its first name may read like one of these
        return None
    known: dict[bytes, Callable[..., Any]] = {
        b"\x1f\x8b": gzip.open,
        b"BZh": bz2.open,
        b"\xfd7zXZ\0": lzma.open,
        b"\x5d\0\0": lzma.open,
    }
    try:
        from compression import zstd  # Python 3.14

        known[b"\x28\xb5\x2f\xfd"] = zstd.open
    except ImportError:
        pass
    return next((unpack for magic, unpack in known.items() if head.startswith(magic)), None)


def _copy(packed: IO[bytes], plain: IO[bytes]) -> None:
    while data := packed.read(1 << 20):
        if data.strip(b"\0"):
            plain.write(data)
        else:  # a hole: what unpacks to nothing takes no room
            plain.seek(len(data), os.SEEK_CUR)
    plain.truncate()
    plain.flush()
