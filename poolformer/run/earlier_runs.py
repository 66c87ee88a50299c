"""Earlier runs of a directory, in ``previous/<n>``: moved there as a whole, whatever dies when.

The files first get a second name in a folder that is renamed to its number when it is complete, with a mark in it; then
they lose the first name, the new run's config.yaml is written, and the mark is removed. Until then the earlier run is
the one that lies in the directory, and `restore` brings it back.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..files.atomic_write import replacing, sync_folder
from ..files.lock import lock

FOLDER = "previous"
MARK = ".moving"
CONFIG = "config.yaml"


def move(run_dir: Path, files: Iterable[Path]) -> Path:
    """Move files of a run to ``previous/<n>``, to be settled by `settle` or undone by `restore`.

    config.yaml keeps its place besides, for the new one to replace: there is no moment without.

    Args:
        run_dir: The run's directory, which the caller has locked.
        files: Below it.

    Raises:
        OSError: They cannot be moved; `restore` tidies up.
    """
    previous = run_dir / FOLDER
    taken = [int(path.name.removeprefix(".")) for path in _children(previous) if path.name.removeprefix(".").isdigit()]
    number = max(taken, default=0) + 1
    unfinished, target = previous / f".{number}", previous / str(number)
    unfinished.mkdir(parents=True)
    (unfinished / MARK).touch()
    for file in files:
        place = unfinished / file.relative_to(run_dir)
        place.parent.mkdir(parents=True, exist_ok=True)
        _give_name(file, place)
    for folder in {place.parent for place in _files(unfinished)}:
        sync_folder(folder)
    os.rename(unfinished, target)
    sync_folder(previous)
    sync_folder(run_dir)
    for file in files:
        if file != run_dir / CONFIG:
            file.unlink()
    return target


def settle(target: Path) -> None:
    """End a move: what lies in the run's directory is the new run from here on."""
    (target / MARK).unlink(missing_ok=True)
    sync_folder(target)


def restore(run_dir: Path) -> bool:
    """Bring back what a move that was interrupted has taken away; return whether there was one.

    Args:
        run_dir: The run's directory, which the caller has locked.
    """
    unfinished, marked = _interrupted(run_dir)
    for folder in unfinished:  # its files have their first names still
        _remove(folder)
    for target in marked:
        for file in _files(target):
            place = run_dir / file.relative_to(target)
            if file.name != MARK and (place == run_dir / CONFIG or not os.path.lexists(place)):
                place.parent.mkdir(parents=True, exist_ok=True)
                _bring_back(file, place)
                sync_folder(place.parent)
        _remove(target)
    return bool(unfinished or marked)


def recover(run_dir: Path) -> bool:
    """Do as `restore`, unless a process is about it or nothing can be written there."""
    if not any(_interrupted(run_dir)):
        return False
    try:
        descriptor = lock(run_dir)
    except OSError:
        return False
    try:
        return restore(run_dir)
    except OSError:
        return False
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _interrupted(run_dir: Path) -> tuple[list[Path], list[Path]]:
    children = _children(run_dir / FOLDER)
    begun = [path for path in children if path.name.startswith(".") and path.name[1:].isdigit()]
    unfinished = [path for path in begun if (path / MARK).exists() or not _children(path)]
    return unfinished, [path for path in children if path.name.isdigit() and (path / MARK).exists()]


def _give_name(file: Path, place: Path) -> None:
    try:
        os.link(file, place, follow_symlinks=False)
    except OSError:  # another disk, behind a link; or a file system without second names
        shutil.copy2(file, place, follow_symlinks=False)
        if not place.is_symlink():
            with place.open("rb+") as copy:
                os.fsync(copy.fileno())


def _bring_back(file: Path, place: Path) -> None:
    if file.is_symlink():
        place.unlink(missing_ok=True)
        _give_name(file, place)
        return
    with replacing(place) as unfinished:
        _give_name(file, unfinished)


def _remove(folder: Path) -> None:
    """Remove a folder of a move; its mark goes last, so that this can be done again."""
    for file in _files(folder):
        if file != folder / MARK:
            file.unlink()
    for inside in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        inside.rmdir()
    (folder / MARK).unlink(missing_ok=True)
    folder.rmdir()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
