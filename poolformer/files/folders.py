"""Folders on the disk: which part of a path exists, and whether something can be written there."""

from pathlib import Path


def existing_folder(path: Path) -> Path:
    """Return a path, or the nearest of its parents that exists."""
    return next(each for each in [path.absolute(), *path.absolute().parents] if each.exists())


def probe(folder: Path, *, nbytes: int = 1) -> None:
    """Write a little to a folder: permissions say nothing of read-only mounts and quotas.

    Raises:
        OSError: It cannot be written to.
    """
    import tempfile  # listings do not need it

    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(bytes(nbytes))
        file.flush()


def has_room(folder: Path, *, nbytes: int = 1 << 16, make: bool = False) -> bool:
    """Return whether a file of so many bytes can be made in a folder, which is made if asked."""
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        probe(folder, nbytes=nbytes)
    except OSError:
        return False
    return True
