"""Waiting for a batch, which counts as being between two steps: a stop need not wait for a disk that hangs."""

import _thread
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from .lightning_internals import around_fetches

_WAKE = getattr(signal, "SIGURG", None)  # nobody's, and ignored where nobody listens; not on Windows
_AGAIN_S = 1


class StuckLoader(SystemExit):
    """The end of waiting for a batch that does not come; its code is that of the signal that asked for it."""


class Waiting:
    """Knows whether the main thread waits for a batch, and can have it stop waiting.

    By a signal, as the thread may wait in a lock, a pipe or a file of somebody's own data.

    Attributes:
        was_stuck: Whether it had to.
        waited_s: Seconds that it has waited so far, for batches of all loops.
    """

    def __init__(self) -> None:
        self._is_on = False
        self._is_watched = False
        self._since_s = self._patience_s = 0.0
        self._code = 0
        self.was_stuck = False
        self.waited_s = 0.0

    def watch(self, loop: Any) -> None:
        """Look at one of Lightning's loops when it fetches a batch; it can be sent to a process that is spawned."""
        around_fetches(loop, self._begin, self._end)

    def _begin(self, on_before_fetch: Callable[[Any], None], loop: Any) -> None:
        on_before_fetch(loop)
        self._since_s = time.monotonic()
        self._is_on = True

    def _end(self, on_after_fetch: Callable[[Any], None], loop: Any) -> None:
        self._is_on = False
        self.waited_s += time.monotonic() - self._since_s
        on_after_fetch(loop)

    def end_after(self, seconds: float, code: int) -> None:
        """Raise `StuckLoader` in the main thread when it has waited so long for a batch, but not within that time."""
        if _WAKE is None or self._is_watched:
            return
        self._is_watched, self._code, self._patience_s = True, code, seconds
        signal.signal(_WAKE, self._wake)
        # Not `threading.Thread`: this is called by signal handlers, which may have interrupted the start of another.
        _thread.start_new_thread(self._keep_waking, (seconds, threading.main_thread().ident, _WAKE))

    def close(self) -> None:
        """Leave the main thread alone from now on."""
        self._is_watched = self._is_on = False

    def _keep_waking(self, seconds: float, thread: int | None, signum: int) -> None:
        assert thread is not None
        time.sleep(seconds)
        while self._is_watched:
            signal.pthread_kill(thread, signum)
            time.sleep(_AGAIN_S)

    def _wake(self, signum: int, frame: FrameType | None) -> None:
        # Several processes have one more step to go: a batch that comes is not to be taken for one that does not.
        if self._is_on and self._is_watched and time.monotonic() - self._since_s >= self._patience_s:
            self._is_on, self.was_stuck = False, True
            raise StuckLoader(self._code)


def end_workers() -> None:
    """Kill the daemons among the child processes, for which PyTorch's loader would wait before it ends them.

    Its handler of SIGCHLD would raise that one was killed, wherever the main thread then is: they are gone before
    it asks.
    """
    handler = None
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    workers = [each for each in multiprocessing.active_children() if each.daemon]
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(1)
    if handler is not None:
        signal.signal(signal.SIGCHLD, handler)
