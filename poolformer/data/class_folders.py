"""Images in class folders on disk, in torchvision's order: `<class>/<image>`."""

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import DataError, printable
from ..files.paths import is_url
from .classes import classes_of, part_of
from .file_tree import list_folder
from .listing import ARCHIVES, Listing
from .pace import Scan
from .patience import patiently

LARGEST_FILE = 1 << 31
"""Bytes; a file of more holds more pixels than an image may have."""


class FolderFiles:
    """The image files below a folder of class folders.

    Args:
        root: The folder.
        split: Take only what lies below a folder of this name, such as `train`.
        say: Takes a line now and then, while many files are found.

    Attributes:
        names: Paths of the files.
        labels: The class of each, as its place in class_names.
        class_names: Names of the class folders, sorted.
        remarks: What is left out or taken in, in a line; empty where there is nothing to say.
        class_prefix: Letters of each path before its class folder, of a whole folder.

    Raises:
        DataError: No such folder, no classes, or a class without images.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        split: str | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.root = existing_folder(root)
        if split and os.path.isdir(self.root / split):
            self.root, split = self.root / split, None
        listing = list_folder(self.root, Scan(self.root, say))
        if split:
            listing = part_of(listing, split, self.root)
        classes = classes_of(listing, self.root, split=split)
        self.class_names, self.labels, self.remarks = classes.names, classes.labels, classes.remarks
        self.names: list[str] = [image.place for image in classes.images]
        first = classes.images[0]
        self.class_prefix = len(first.place) - len(os.path.join(*first.folders, first.name))

    def read(self, n: int) -> bytes:
        """Return the bytes of a file."""
        return read_file(self.names[n])


def existing_folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder at a path that may begin with ~.

    Raises:
        DataError: There is none.
    """
    if is_url(path):
        raise DataError(f"{path}: class folders are read from disks alone; pack them, and give the .beton's URL")
    folder = Path(path).expanduser()
    if not os.path.isdir(folder):  # which is false, too, where nobody may look
        raise of_file(folder) if os.path.isfile(folder) else DataError(f"there is no folder '{folder}'")
    return folder


def of_file(path: str | os.PathLike[str]) -> DataError:
    """Return what is wrong with a file in the place of a folder, and what reads it."""
    name = str(path).lower()
    if name.endswith(".beton"):
        return DataError(f"'{printable(str(path))}' is a .beton file: --data FFCVData reads it")
    remedy = ": unpack it, or `poolformer pack` it" if name.endswith(ARCHIVES) else ""
    return DataError(f"'{printable(str(path))}' is a file, not a folder{remedy}")


def image_listing(folder: str | os.PathLike[str], say: Callable[[str], None] = lambda line: None) -> Listing:
    """Every image below a folder, in classes or not.

    Args:
        folder: The folder.
        say: Takes a line now and then, while many files are found.

    Raises:
        DataError: There is no such folder, it cannot be read, or has no images.
    """
    folder = existing_folder(folder)
    listing = list_folder(folder, Scan(folder, say))
    if not listing.images:
        pictures = f", but {listing.pictures()}, which are not read" if listing.pictures() else ""
        raise DataError(f"there are no images below '{folder}'{pictures}")
    return listing


def read_file(path: str) -> bytes:
    """Return the bytes of a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return patiently(Path(path).read_bytes, f"'{path}'")
    except OSError as error:
        raise DataError(f"'{path}': cannot be read ({error.strerror})") from error
