"""How the pixel kernels are compiled: without the interpreter lock, and kept on disk between processes."""

import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba

from ...files import caches, folders


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of numpy arrays with numba; it runs without the interpreter lock.

    No fastmath: the kernels repeat Pillow's arithmetic bit for bit, so the order of operations counts.
    """
    # numba's cache looks only at the file a kernel stands in, while the machine code also contains the kernels
    # it calls from other files; a name that carries the sources' hash makes a stale entry impossible to hit.
    function.__qualname__ += "_" + _sources_hash()
    compiled = functools.partial(numba.njit, nogil=True, error_model="numpy")
    try:
        made = compiled(cache=True)(function)
        folder = made.stats.cache_path
        if folder is not None and _has_room(Path(folder)):
            return made
    except RuntimeError:  # numba finds no place: neither this folder nor a home can be written
        pass
    with _cache_in(caches.private_cache() / "numba"):
        try:
            return compiled(cache=True)(function)
        except RuntimeError:
            return compiled(cache=False)(function)


@functools.cache
def _has_room(folder: Path) -> bool:
    """Return whether a kernel could be kept in a folder: numba fails in the first call where it cannot."""
    return folders.has_room(folder, nbytes=1 << 20, make=True)


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    settings: Any = numba.config  # which gets its names when it is imported
    before, settings.CACHE_DIR = settings.CACHE_DIR, str(folder)
    try:
        yield
    finally:
        settings.CACHE_DIR = before


@functools.cache
def _sources_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
