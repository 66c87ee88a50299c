"""Images in class folders, on disk or inside a tar file, in torchvision's order: `<class>/<image>`."""

import os
import shutil
import tarfile
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from ..errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What counts as an image, as in torchvision."""

_SPLITS = {"train", "val", "validation", "test"}


class FolderFiles:
    """The image files below a folder of class folders.

    Args:
        root: the folder.

    Attributes:
        names: paths of the files.
        labels: the class of each, as its place in class_names.
        class_names: names of the class folders, sorted.

    Raises:
        DataError: no such folder, no classes, or a class without images.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = existing_folder(root)
        self.class_names = sorted(entry.name for entry in os.scandir(self.root) if entry.is_dir())
        files = [(label, path) for label, name in enumerate(self.class_names) for path in image_paths(self.root / name)]
        self.labels = [label for label, _ in files]
        self.names = [path for _, path in files]
        _check_classes(f"'{self.root}'", self.class_names, self.labels)

    def read(self, n: int) -> bytes:
        """The bytes of a file."""
        return read_file(self.names[n])


class TarFiles:
    """The image files in a tar of class folders, or in a tar of one tar a class as ImageNet's.

    Args:
        path: the tar file; a compressed one is unpacked to a temporary file first.
        split: take only what lies below a folder of this name, such as `train`.

    Attributes: those of FolderFiles.

    Raises:
        DataError: no such file, no tar file, no classes.
    """

    def __init__(self, path: str | os.PathLike[str], *, split: str | None = None) -> None:
        self.path = Path(path).expanduser()
        try:
            self._plain = self.path if _is_plain(self.path) else self._unpacked()
            with open(self._plain, "rb") as file:
                members = sorted(_members(file))
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"'{self.path}' cannot be read as a tar file: {error}") from error
        if split and not any(split in member.folders for member in members):
            tops = sorted({folder for member in _without_common_folders(members) for folder in member.folders[:1]})
            more = ", ..." if tops[5:] else ""
            raise DataError(f"'{self.path}' has no folder '{split}', but {', '.join(tops[:5]) or 'no images'}{more}")
        members = _below(members, split) if split else _without_common_folders(members)
        members = [member for member in members if member.folders]
        self.class_names = sorted({member.folders[0] for member in members})
        label_of = {name: label for label, name in enumerate(self.class_names)}
        self._places = [(member.place, member.size) for member in members]
        self.labels = [label_of[member.folders[0]] for member in members]
        self.names = [f"{self.path}:{'/'.join((*member.folders, member.name))}" for member in members]
        _check_classes(f"'{self.path}'{f', split {split}' if split else ''}", self.class_names, self.labels)

    def read(self, n: int) -> bytes:
        """The bytes of a file."""
        place, size = self._places[n]
        with open(self._plain, "rb") as file:  # a handle of its own: threads read at once
            file.seek(place)
            return file.read(size)

    def _unpacked(self) -> Path:
        handle, name = tempfile.mkstemp(suffix=".tar")
        weakref.finalize(self, os.unlink, name)
        with tarfile.open(self.path, "r:*") as archive, open(handle, "wb") as plain:  # finds out the compression
            archive.fileobj.seek(0)
            shutil.copyfileobj(archive.fileobj, plain)
        return Path(name)


class _Member(NamedTuple):
    folders: tuple[str, ...]
    name: str
    place: int
    size: int


def existing_folder(path: str | os.PathLike[str]) -> Path:
    """The folder at a path that may begin with ~.

    Raises:
        DataError: there is none.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(f"there is no folder '{folder}'")
    return folder


def image_paths(folder: str | os.PathLike[str]) -> list[str]:
    """Paths of all image files below a folder, folder by folder, sorted."""
    walk = sorted(os.walk(folder, followlinks=True))
    return [os.path.join(root, name) for root, _, names in walk for name in sorted(names) if _is_image(name)]


def read_file(path: str) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"'{path}': cannot be read ({error.strerror})") from error


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _is_plain(path: Path) -> bool:
    try:
        tarfile.open(path, "r:").close()
    except tarfile.ReadError:
        return False
    return True


def _members(file: IO[bytes], base: int = 0, folders: tuple[str, ...] = ()) -> Iterator[_Member]:
    file.seek(base)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for entry in archive:
            path = PurePosixPath(entry.name)
            inside = (*folders, *(part for part in path.parts[:-1] if part != "."))
            if entry.isfile() and path.suffix == ".tar":
                after = file.tell()
                yield from _members(file, entry.offset_data, (*inside, path.stem))
                file.seek(after)
            elif entry.isfile() and _is_image(path.name):
                yield _Member(inside, path.name, entry.offset_data, entry.size)


def _below(members: list[_Member], split: str) -> list[_Member]:
    return [
        member._replace(folders=member.folders[member.folders.index(split) + 1 :])
        for member in members
        if split in member.folders
    ]


def _without_common_folders(members: list[_Member]) -> list[_Member]:
    while members and len({member.folders[:1] for member in members}) == 1 and all(m.folders[1:] for m in members):
        members = [member._replace(folders=member.folders[1:]) for member in members]
    return members


def _check_classes(where: str, class_names: list[str], labels: Sequence[int]) -> None:
    if not class_names or not labels:
        raise DataError(f"{where} has no images in class folders: they should lie in <class>/<image>")
    if set(class_names) <= _SPLITS:
        raise DataError(f"{where} holds {', '.join(class_names)}, which are no classes: give one of them")
    empty = sorted(set(range(len(class_names))) - set(labels))
    if empty:
        raise DataError(
            f"{where}: {len(empty)} of {len(class_names)} class folders have no images, "
            f"the first is '{class_names[empty[0]]}'; fill or remove them"
        )
