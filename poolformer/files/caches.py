"""Where compiled code is kept between starts, also without a home, as for a user whom a container does not know."""

import functools
import os
import stat
import warnings
from pathlib import Path

from .folders import has_room

# What other packages keep, and the variable that says where: each has its own trouble without a home.
_OTHERS = {"MPLCONFIGDIR": "matplotlib", "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}


def prepare() -> None:
    """Have every package keep what it compiles in a private folder where the user's cache cannot be written.

    Processes that this one starts inherit it. Says so once.
    """
    _name_the_user()
    if "XDG_CACHE_HOME" in os.environ and has_room(Path(os.environ["XDG_CACHE_HOME"]), make=True):
        return
    usual = home_cache()
    if usual is not None and has_room(usual, make=True):
        return
    private = private_cache()
    warnings.warn(
        f"no cache can be kept in '{usual or '~/.cache'}': compiled code is kept in '{private}'; XDG_CACHE_HOME or "
        "HOME names another place",
        stacklevel=2,
    )
    os.environ["XDG_CACHE_HOME"] = str(private)
    for variable, name in _OTHERS.items():
        os.environ.setdefault(variable, str(private / name))


def home_cache() -> Path | None:
    """Return the folder of the user's caches; None where the user has no home."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given)
    try:
        home = Path.home()
    except (RuntimeError, KeyError):  # a user whom the system does not know
        return None
    return home / ".cache" if home.is_absolute() else None


@functools.cache
def private_cache() -> Path:
    """Return a temporary folder that only this user can write, the same at the next start where that is safe."""
    import tempfile  # listings do not need it

    user = os.getuid() if hasattr(os, "getuid") else os.getpid()
    folder = Path(tempfile.gettempdir(), f"poolformer-{user}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="poolformer-"))
    if not folder.is_symlink() and is_safe(folder) and has_room(folder):
        return folder
    return Path(tempfile.mkdtemp(prefix="poolformer-"))  # somebody else has made that one


def is_safe(path: Path) -> bool:
    """Return whether what a file or folder holds is ours or root's, and nobody else can change it."""
    try:
        found = path.stat()
    except OSError:
        return False
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid in (os.getuid(), 0) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _name_the_user() -> None:
    """Give a user without a name one: PyTorch and others ask for it to name folders, and fail."""
    import getpass

    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"user{os.getuid()}"
