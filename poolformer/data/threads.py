"""Work done by threads and handed back in order: work that runs without the interpreter lock nearly all the time."""

import os
import socket
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..counts import counted

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(_usable_cores())


def share_of_cores(processes: int) -> int:
    """Return the number of cores that are this process's own among those that train together; all of them have to ask.

    A launcher may have bound each process to cores of its own, or they share what there is: both show in which cores
    each of them may use.

    Args:
        processes: Number of processes on this machine, for where they cannot be asked.
    """
    mine = (_machine(), _usable_cores())
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return max(1, available_cores() // processes)
    of_all: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(of_all, mine)
    return own_cores(mine, of_all)


def own_cores(mine: tuple[str, set[int]], of_all: Sequence[tuple[str, set[int]]]) -> int:
    """Return a process's share of the cores that it may use, of which others on its machine may use some as well.

    Args:
        mine: The machine, and numbers of the cores.
        of_all: The same of all processes, this one included.
    """
    machine, usable = mine
    here = [cores for each, cores in of_all if each == machine]
    return max(1, round(sum(1 / sum(core in cores for cores in here) for core in usable)))


def loader_threads(asked: int | None, *, own_cores: int) -> int:
    """Return with how many threads images are loaded; one for each core, unless fewer are asked for.

    Args:
        asked: Threads, None for as many as this process has cores; warns where there are not so many cores.
        own_cores: Cores that are this process's own.
    """
    if asked is None:
        return own_cores
    cores = available_cores()
    if asked > cores:
        warnings.warn(f"num_workers={asked} is more than {counted(cores, 'core')}: using as many threads", stacklevel=3)
    return max(1, min(asked, cores))


def _machine() -> str:
    """Return what tells this machine from others, which may have its name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:  # not on macOS and Windows
        boot = ""
    return f"{socket.gethostname()} {boot}"


def _usable_cores() -> set[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not on macOS and Windows
        return set(range(os.cpu_count() or 1))


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int
) -> Iterator[Result]:
    """Yield function(item) for each item, in order, with up to `ahead` of them under way.

    An exception of `function` is raised where its result would have come. Closing the iterator, or losing it, drops
    what has not begun; the threads then end after what they are at.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="poolformer-data")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except Exception:
        pool.shutdown(cancel_futures=True)
        raise
    except BaseException:
        # Not joined: a lost iterator may be collected in a thread that is just starting, and a join there never ends;
        # and a stop that comes while a thread hangs in a disk must not hang with it.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
