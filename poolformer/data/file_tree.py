"""The files below a folder of a disk, each folder read once."""

import os
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from pathlib import Path

from ..errors import DataError
from .listing import LOST_LINK, NO_FILE, SECOND_LINK, UNREADABLE, Folders, Listing, is_hidden
from .pace import Scan

_Identity = tuple[int, int]


def list_folder(root: Path, scan: Scan | None = None) -> Listing:
    """Return what lies below a folder; links are followed, to each folder once and never to one that `root` lies in.

    Args:
        root: The folder.
        scan: Counts its files.

    Raises:
        DataError: It cannot be read.
    """
    return _Walk(root, scan or Scan(root)).listing


class _Walk:
    def __init__(self, root: Path, scan: Scan) -> None:
        self.listing, self._scan = Listing(), scan
        above = [_identity(folder) for folder in Path(os.path.realpath(root)).parents]
        self._seen: set[_Identity | None] = {*above, _identity(root)}
        self._beyond_links = False
        links: list[tuple[Folders, str]] = []
        try:
            self._walk((), str(root), links)
            # Folders come before links to them, so that these are what is left out.
            self._beyond_links = True
            while links:
                self._follow(*heappop(links), links)
        except OSError as error:
            raise DataError(f"'{root}' cannot be read: {error.strerror}") from error

    def _walk(self, folders: Folders, path: str, links: list[tuple[Folders, str]]) -> None:
        waiting = [(folders, path)]
        while waiting:
            folders, path = waiting.pop()
            try:
                entries = list(self._scan.counted(os.scandir(path)))
            except OSError:
                if not folders:
                    raise
                self.listing.leave_out(UNREADABLE, folders[:-1], folders[-1])
                continue
            if folders:
                self.listing.folders.add(folders)
            waiting += self._look_into(folders, entries, links)

    def _look_into(
        self, folders: Folders, entries: list[os.DirEntry], links: list[tuple[Folders, str]]
    ) -> Iterator[tuple[Folders, str]]:
        for entry in entries:
            self._scan.tick()  # on a disk of a network, it may take a question to know what an entry is
            if is_hidden(entry.name):
                self.listing.hide(folders, entry.name)
            elif entry.is_dir(follow_symlinks=False):
                # Two links may lead into one tree; below `root` each folder is another, whatever its number.
                if self._is_new(entry.path) or not self._beyond_links:
                    yield (*folders, entry.name), entry.path
                else:
                    self.listing.leave_out(SECOND_LINK, folders, entry.name)
            elif entry.is_file(follow_symlinks=False) or _leads_to(os.path.isfile, entry):
                self.listing.add(folders, entry.name, entry.path)
            elif _leads_to(os.path.isdir, entry):
                heappush(links, ((*folders, entry.name), entry.path))
            else:
                self.listing.leave_out(LOST_LINK if entry.is_symlink() else NO_FILE, folders, entry.name)

    def _follow(self, folders: Folders, path: str, links: list[tuple[Folders, str]]) -> None:
        if self._is_new(path):
            self.listing.links += 1
            self._walk(folders, path, links)
        else:
            self.listing.leave_out(SECOND_LINK, folders[:-1], folders[-1])

    def _is_new(self, path: str) -> bool:
        identity = _identity(path)
        is_new = identity is None or identity not in self._seen
        self._seen.add(identity)
        return is_new


def _leads_to(kind: Callable[[str], bool], entry: os.DirEntry) -> bool:
    return entry.is_symlink() and kind(entry.path)


def _identity(path: str | Path) -> _Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else None
