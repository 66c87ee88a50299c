"""The end of a rank whose launcher is over: nothing outlives the process that Lightning launched the ranks from."""

import os
import time
from functools import partial

from ..signals import end_after

_POLL_S = 1
_LAUNCHER = "POOLFORMER_LAUNCHER"  # the process that further ranks are launched from


def end_with_launcher() -> None:
    """End this process within seconds of the one that Lightning launched it from, if it did.

    Where that is killed, a rank that waits for it, in a collective or to meet the others, would do so for half an hour.

    Raises:
        SystemExit: It is over already, while this process imported.
    """
    launcher, os.environ[_LAUNCHER] = os.environ.get(_LAUNCHER), str(os.getpid())
    if launcher is None or "LOCAL_RANK" not in os.environ:
        return
    if launcher == str(os.getppid()):
        end_after(partial(_wait_for_end_of, os.getppid()))
    elif os.environ["LOCAL_RANK"] != "0" and not _lives(int(launcher)):  # 0 is the launcher, and what it starts itself
        raise SystemExit(1)


def _lives(process: int) -> bool:
    if os.name != "posix":  # where asking is ending
        return True
    if os.getppid() == 1:  # whoever is ended and not yet waited for has given its children away
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, who has the number by now
        return True
    return True


def _wait_for_end_of(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
