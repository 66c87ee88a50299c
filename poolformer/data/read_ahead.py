"""Asking the system early for what will be read, of files that memory cannot keep."""

import contextlib
import os
from pathlib import Path

import numpy as np


def memory() -> int | None:
    """Return the bytes of memory that this process may use, where the system says."""
    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in _own_cgroups():
        with contextlib.suppress(OSError, ValueError):  # "max": none
            found.append(int(Path(limit).read_text()))
    return min(found, default=None)


def _own_cgroups() -> list[str]:
    """Return where the limits of this process's control groups stand, from its own up to the root, in both versions."""
    limits: list[str] = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                name = "memory.limit_in_bytes" if controllers else "memory.max"
                group = Path(path.lstrip("/"))
                limits += [str(Path("/sys/fs/cgroup", controllers, each, name)) for each in (group, *group.parents)]
    return limits


def will_read(descriptors: np.ndarray, places: np.ndarray, sizes: np.ndarray) -> None:
    """Have the system read parts of files in the background; where it takes no advice, nothing happens."""
    if hasattr(os, "posix_fadvise"):  # not on macOS and Windows
        for descriptor, place, size in zip(descriptors.tolist(), places.tolist(), sizes.tolist(), strict=True):
            with contextlib.suppress(OSError):  # of one file system, or of one file that is gone; the rest is asked for
                os.posix_fadvise(descriptor, place, size, os.POSIX_FADV_WILLNEED)
