"""How the pixel kernels are compiled: without the interpreter lock, and kept on disk between processes."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function of numpy arrays with numba; it runs without the interpreter lock.

    No fastmath: the kernels repeat Pillow's arithmetic bit for bit, so the order of operations counts.
    """
    # numba's cache looks only at the file a kernel stands in, while the machine code also contains the kernels
    # it calls from other files; a name that carries the sources' hash makes a stale entry impossible to hit.
    function.__qualname__ += "_" + _sources_hash()
    return numba.njit(nogil=True, cache=True, error_model="numpy")(function)


@functools.cache
def _sources_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_bytes()
        if b"import kernel" in text:
            digest.update(text)
    return digest.hexdigest()[:12]
