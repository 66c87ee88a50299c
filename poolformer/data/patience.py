"""Reading again what a disk or a network file system refuses for a moment, which would cost a whole epoch."""

import errno
import functools
import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

PAUSES_S = (0.1, 0.5, 2, 5)
"""Between the attempts: a restart of a file server takes longer, a hiccup does not."""

_NAMES = """
EIO ESTALE EAGAIN EINTR ETIMEDOUT EBUSY ENOMEM ENFILE EMFILE EREMOTEIO ENETDOWN ENETUNREACH ENETRESET ECONNABORTED
ECONNRESET ECONNREFUSED EHOSTDOWN EHOSTUNREACH ENOTCONN ESHUTDOWN
"""
PASSING = frozenset(getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name))  # not all on all systems
"""What may be gone a moment later; a file that is missing or may not be read stays so."""

_log = logging.getLogger(__name__)


def read_at(descriptor: int, place: int, size: int, name: str) -> bytes:
    """Read bytes of an open file, patiently; fewer where it ends.

    Args:
        descriptor: Descriptor of the file.
        place: Place of the first byte.
        size: How many.
        name: Name of what is read, for the log.

    Raises:
        OSError: The last attempt failed.
    """
    data = patiently(lambda: os.pread(descriptor, size, place), name)
    while len(data) < size:  # some file systems hand out less at once
        more = patiently(functools.partial(os.pread, descriptor, size - len(data), place + len(data)), name)
        if not more:
            break
        data += more
    return data


def patiently(read: Callable[[], Result], name: str) -> Result:
    """Call `read`, and again after a pause where the error may pass.

    Args:
        read: What reads.
        name: Name of what is read, for the log.

    Raises:
        OSError: The last attempt failed.
    """
    for pause_s in PAUSES_S:
        try:
            return read()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            _log.warning("%s: %s; trying again in %s s", name, error.strerror, pause_s)
            time.sleep(pause_s)
    return read()
