"""What was found below a folder or in an archive: images, folders, and what is left out, counted by its reason."""

from collections import Counter
from typing import Any, NamedTuple

from ..errors import printable

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What counts as an image, as in torchvision."""

PICTURES = (".avif", ".dng", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jxl", ".psd", ".svg", ".tga")
"""Endings of pictures that are not read."""

ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Endings of archives that hold images."""

Folders = tuple[str, ...]
"""Names of folders, from the outermost one inwards."""

# Reasons, for one and for many; the first of each kind is named.
IMAGE_BESIDE = ("image beside the class folders", "images beside the class folders")
LOST_LINK = ("link that leads nowhere or outside", "links that lead nowhere or outside")
SECOND_LINK = ("link to a folder that is read already", "links to folders that are read already")
UNREADABLE = ("folder that cannot be read", "folders that cannot be read")
NO_FILE = ("device or pipe", "devices or pipes")
SPARSE_FILE = ("file stored with holes", "files stored with holes")
REPLACED = ("older member of the same name", "older members of the same name")
_HIDDEN = ("hidden", "hidden")
_HIDDEN_NAMES = {
    "@eadir",
    "__macosx",
    "lost+found",
    "thumbs.db",
    "desktop.ini",
    "#recycle",
    "@recycle",
    "$recycle.bin",
    "system volume information",
}


class Found(NamedTuple):
    """An image."""

    folders: Folders
    name: str
    place: Any
    """Where its bytes are: a path, or place and size in an archive."""


class Listing:
    """Images and folders, with the names of the folders they lie in.

    Attributes:
        images: Files that are images by their names.
        folders: Folders that are looked into.
        links: Number of links to folders that were followed.
    """

    def __init__(self) -> None:
        self.images: list[Found] = []
        self.folders: set[Folders] = set()
        self.links = 0
        self._endings: Counter[tuple[Folders, str]] = Counter()
        self._left: dict[tuple[Folders, tuple[str, str]], list[str]] = {}

    def add(self, folders: Folders, name: str, place: Any) -> None:
        """Count a file, as an image or by its ending."""
        if is_image(name):
            self.images.append(Found(folders, name, place))
        else:
            stem, dot, ending = name.rpartition(".")
            self._endings[folders, f".{ending.lower()}" if stem and dot else ""] += 1

    def leave_out(self, reason: tuple[str, str], folders: Folders, name: str) -> None:
        """Count something that is left out for a reason."""
        self._left.setdefault((folders, reason), []).append(name)

    def hide(self, folders: Folders, name: str) -> None:
        """Count a hidden file, or a hidden folder with all that is in it."""
        self.leave_out(_HIDDEN, folders, name)

    def moved(self, to: dict[Folders, Folders]) -> "Listing":
        """Folders under other names, and no others."""
        result = Listing()
        result.links = self.links
        result.images = [image._replace(folders=to[image.folders]) for image in self.images if image.folders in to]
        result.folders = {to[folders] for folders in self.folders if folders in to} - {()}
        result._endings = Counter()
        for (folders, ending), count in self._endings.items():
            if folders in to:
                result._endings[to[folders], ending] += count
        for (folders, reason), names in self._left.items():
            if folders in to:
                result._left.setdefault((to[folders], reason), []).extend(names)
        return result

    def all_folders(self) -> set[Folders]:
        """Return the folders, and those of which something is left out."""
        left = {folders for folders, _ in self._endings} | {folders for folders, _ in self._left}
        return self.folders | {image.folders for image in self.images} | left | {()}

    def names_of(self, reason: tuple[str, str], folders: Folders) -> list[str]:
        """Return what is left out of a folder for a reason."""
        return self._left.get((folders, reason), [])

    def holds_other_files_only(self, prefix: Folders) -> bool:
        """Return whether a folder without images has files that nobody means as pictures: no class lost them."""
        endings = {ending for folders, ending in self._endings if _is_in(folders, prefix)}
        reasons = {reason for folders, reason in self._left if _is_in(folders, prefix)}
        return bool(endings) and endings.isdisjoint(PICTURES) and reasons <= {_HIDDEN, REPLACED}

    def pictures(self) -> str:
        """`3 .gif and 1 .jfif`, of pictures that are not read; empty where there are none."""
        endings = self._by_ending()
        return " and ".join(f"{endings[ending]} {ending}" for ending in PICTURES if ending in endings)

    def left_out(self) -> list[str]:
        """Everything that is left out: how many of what, a phrase for each reason."""
        endings = self._by_ending()
        phrases = [f"{endings[ending]} {ending or 'without an ending'}" for ending in sorted(endings, key=_last)]
        by_reason: dict[tuple[str, str], list[str]] = {}
        for (folders, reason), names in sorted(self._left.items()):
            by_reason.setdefault(reason, []).extend("/".join((*folders, name)) for name in names)
        for reason, names in by_reason.items():
            what = reason[0] if len(names) == 1 else reason[1]
            names = sorted(names)
            shown = names if reason == UNREADABLE else names[:1]
            first = ", ".join(f"'{printable(name)}'" for name in shown[:5])
            phrases.append(f"{len(names)} {what} ({first})")
        return phrases

    def _by_ending(self) -> Counter[str]:
        endings: Counter[str] = Counter()
        for (_, ending), count in self._endings.items():
            endings[printable(ending)] += count
        return endings


def is_image(name: str) -> bool:
    """Return whether a file of this name is read as an image."""
    return name.lower().endswith(EXTENSIONS)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is nobody's data: of the system, of a server, of a notebook."""
    return name.startswith((".", "PaxHeader")) or name.lower() in _HIDDEN_NAMES


def _is_in(folders: Folders, prefix: Folders) -> bool:
    return folders[: len(prefix)] == prefix


def _last(ending: str) -> tuple[bool, str]:
    return not ending, ending
