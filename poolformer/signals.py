"""Signals for the length of a block, and the end of a process together with another."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handling(handlers: Mapping[int, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    """Have signals handled by other functions in here; one that is ignored, as nohup has it, stays so.

    In another thread than the main one nothing changes: Python sets and calls handlers there alone.

    Args:
        handlers: Called with the signal's number and the frame that it interrupts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = {signum: handler for signum, handler in handlers.items() if signal.getsignal(signum) != signal.SIG_IGN}
    before = {signum: signal.signal(signum, handler) for signum, handler in heard.items()}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler or signal.SIG_DFL)  # None where C has set it


def end_after(wait: Callable[[], object]) -> None:
    """End this process at once when a function returns, such as one that waits for the end of its parent.

    Also where the parent is killed, and can end nobody.

    Args:
        wait: Called in a thread.
    """

    def end() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
