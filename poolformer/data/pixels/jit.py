"""How the pixel kernels are compiled: without the interpreter lock, and kept on disk between processes."""

import functools
import hashlib
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
from numba.core import event

from ...files import caches, folders

_LOG = logging.getLogger(__name__)


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


class _TellsWhenItTakesLong(event.Listener):
    """Says once that kernels are compiled, when it has taken seconds: until they are, a run says nothing else.

    numba holds a lock while it compiles, so one thread at a time calls this. Of a loader's processes the first says it.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._depth = 0
        self._since_s = 0.0
        self._is_told = False

    def on_start(self, event: Any) -> None:
        """A kernel, or one that it calls, begins to be compiled."""
        if not _is_ours(event):
            return
        now = time.monotonic()
        if not self._depth:
            self._since_s = now
        self._depth += 1
        if not self._is_told and now - self._since_s >= self._patience_s:
            self._is_told = True
            if _is_first():
                _LOG.warning("compiling what reads and augments images, once, for a minute or two")

    def on_end(self, event: Any) -> None:
        """It is compiled, or failed to be."""
        self._depth -= _is_ours(event)


def _is_first() -> bool:
    if multiprocessing.parent_process() is None:
        return True
    from torch.utils.data import get_worker_info  # which has long been imported where there are others

    worker = get_worker_info()
    return worker is not None and worker.id == 0


def _is_ours(event: Any) -> bool:
    function = getattr(event.data["dispatcher"], "py_func", None)  # others compile what is no function of theirs
    return (getattr(function, "__module__", None) or "").startswith(f"{__package__}.")


event.register("numba:compile", _TellsWhenItTakesLong(patience_s=2))
