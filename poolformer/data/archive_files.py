"""Images in class folders inside an archive, tar or zip, as in a folder on disk."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import DataError
from .class_folders import LARGEST_FILE
from .classes import classes_of, part_of
from .listing import Listing
from .tar_archive import Archive, list_tar
from .zip_archive import ZipArchive, is_zip

Read = Callable[[Any, str], bytes]
"""From what a listing says of where an image is, and its name for messages, to its bytes; for any thread."""


class ArchiveFiles:
    """The image files in a tar or zip of class folders, or in a tar of one tar a class as ImageNet's.

    Args:
        path: The archive; a compressed tar is unpacked to a temporary file first.
        split: Take only what lies below a folder of this name, such as `train`.

    Attributes: those of FolderFiles.

    Raises:
        DataError: No such file, no archive, a damaged one, no classes.
    """

    def __init__(self, path: str | os.PathLike[str], *, split: str | None = None) -> None:
        self.path = Path(path).expanduser()
        listing, self._read = open_archive(self.path)
        if split:
            listing = part_of(listing, split, self.path)
        classes = classes_of(listing, self.path, split=split, is_archive=True)
        self.class_names, self.labels, self.remarks = classes.names, classes.labels, classes.remarks
        self._places = [image.place for image in classes.images]
        self.names = [f"{self.path}:{'/'.join((*image.folders, image.name))}" for image in classes.images]

    def read(self, n: int) -> bytes:
        """Return the bytes of a file."""
        return self._read(self._places[n], self.names[n])


def open_archive(path: Path) -> tuple[Listing, Read]:
    """Return the images in a tar or zip, and what reads them.

    Raises:
        DataError: It is none, cannot be read or is damaged.
    """
    if is_zip(path):
        zipped = ZipArchive(path)
        return zipped.listing(), lambda place, name: zipped.read(place, f"'{name}'")
    archive = Archive(path)
    return list_tar(archive), partial(_read_member, archive)


def _read_member(archive: Archive, where: tuple[int, int], name: str) -> bytes:
    place, size = where
    if size > LARGEST_FILE:
        raise DataError(f"'{name}': has {size} bytes, more than an image can have; leave it out")
    data = archive.read(place, size)
    if len(data) < size:
        raise DataError(f"'{name}': the archive was cut off while it was read")
    return data
