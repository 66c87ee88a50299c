"""A zip archive of images, read in place by any number of threads: nothing is unpacked to a disk."""

import os
import stat
import struct
import threading
import weakref
import zipfile
import zlib
from pathlib import Path
from zipfile import ZipInfo

from ..errors import DataError
from .class_folders import LARGEST_FILE
from .listing import LOST_LINK, REPLACED, Folders, Listing, is_hidden, is_image
from .patience import read_at
from .tar_archive import OUTSIDE, add_folder, parts_inside

_HEADER = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x1


class ZipArchive:
    """A zip archive open for reading.

    Args:
        path: Path of the archive.

    Raises:
        DataError: It cannot be read, or is no whole zip archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError) as error:
            raise DataError(
                f"'{path}' cannot be read as a zip file ({error}): it is cut off, damaged or none"
            ) from error
        except OSError as error:
            raise DataError(f"'{path}' cannot be read: {error.strerror}") from error
        weakref.finalize(self, os.close, self._descriptor)
        self._lock = threading.Lock()

    def listing(self) -> Listing:
        """Return the images in it; of members of the same name the last counts."""
        listing = Listing()
        members: dict[Folders, ZipInfo] = {}
        for info in self._zip.infolist():
            path = parts_inside((), info.filename.replace("\\", "/"))
            if path is None or (not path and not info.is_dir()):
                listing.leave_out(OUTSIDE, (), info.filename)
            elif path:
                if path in members and not info.is_dir() and is_image(path[-1]):
                    listing.leave_out(REPLACED, path[:-1], path[-1])
                members[path] = info
        hidden: set[Folders] = set()
        for path, info in members.items():
            first = next((depth for depth, name in enumerate(path) if is_hidden(name)), None)
            if first is None:
                self._list(listing, path, info)
            elif path[: first + 1] not in hidden:
                hidden.add(path[: first + 1])
                listing.hide(path[:first], path[first])
        return listing

    def _list(self, listing: Listing, path: Folders, info: ZipInfo) -> None:
        add_folder(listing, path if info.is_dir() else path[:-1])
        if stat.S_ISLNK(info.external_attr >> 16):
            listing.leave_out(LOST_LINK, path[:-1], path[-1])
        elif not info.is_dir():
            listing.add(path[:-1], path[-1], info)

    def read(self, info: ZipInfo, name: str) -> bytes:
        """Return the bytes of a member.

        Raises:
            DataError: It is encrypted, damaged or too large.
        """
        if info.flag_bits & _ENCRYPTED:
            raise DataError(f"{name}: is encrypted; unpack the archive")
        if info.file_size > LARGEST_FILE:
            raise DataError(f"{name}: has {info.file_size} bytes, more than an image can have; leave it out")
        try:
            data = self._stored(info) if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else None
            if data is None:
                with self._lock:
                    return self._zip.read(info)
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror or error})") from error
        except (zipfile.BadZipFile, NotImplementedError, zlib.error, struct.error, EOFError, ValueError) as error:
            raise DataError(f"{name}: is damaged in the archive ({error})") from error
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            raise DataError(f"{name}: is damaged in the archive, its checksum is another")
        return data

    def _stored(self, info: ZipInfo) -> bytes:
        """Read without `zipfile`, whose files count their readers without a lock."""
        where = f"'{self.path}'"
        head = self._at(info.header_offset, _HEADER.size, where)
        magic, *_, name_size, extra_size = _HEADER.unpack(head)
        if magic != b"PK\3\4":
            raise ValueError("no header where the index says")
        packed = self._at(info.header_offset + _HEADER.size + name_size + extra_size, info.compress_size, where)
        if info.compress_type == zipfile.ZIP_STORED:
            return packed
        return zlib.decompressobj(-15).decompress(packed, info.file_size + 1)

    def _at(self, place: int, size: int, where: str) -> bytes:
        if hasattr(os, "pread"):
            return read_at(self._descriptor, place, size, where)
        with self._lock:  # Windows
            os.lseek(self._descriptor, place, os.SEEK_SET)
            return os.read(self._descriptor, size)


def is_zip(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as a zip archive, or is called one."""
    try:
        with open(path, "rb") as file:
            return file.read(4) in (b"PK\3\4", b"PK\5\6", b"PK\7\10") or os.fspath(path).lower().endswith(".zip")
    except OSError:
        return False
