"""What is to be trained for a page, in processes of their own, with the time that is left; what is finished is kept."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ..ablation import launchers
from ..commands.progress import duration
from .outcomes import Outcome


class Job(Protocol):
    """A row to be trained with one seed, in one measure."""

    @property
    def title(self) -> str:
        """What it is called in a line."""

    def outcome(self) -> Outcome | None:
        """Return what came of it; None if it is not finished."""


def finish(
    jobs: Sequence[Job],
    function: launchers.Function,
    *,
    at_once: int,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    every_s: float = 60,
) -> dict[str, str]:
    """Do the jobs that are not finished; return why jobs failed, by their titles.

    Args:
        jobs: All of them, in order.
        function: That does one, importable by name; returns None, or in one line why it failed.
        at_once: How many run at the same time.
        say: Called with a line for each job that is over.
        clock: Seconds.
        every_s: Seconds without a result after which a line says that it goes on.
    """
    todo = [job for job in jobs if job.outcome() is None]
    say(f"{len(jobs)} trainings, finished before: {len(jobs) - len(todo)}, at once: {at_once}")
    failures: dict[str, str] = {}
    started, done = clock(), 0
    said = threading.Event()

    def report(index: int, failure: str | None) -> None:
        nonlocal done
        done += 1
        job = todo[index]
        outcome = None if failure else job.outcome()
        if outcome is None:
            failures[job.title] = failure or "it left no result"
        result = f"{100 * outcome.score:.1f} % after {duration(outcome.train_s)}" if outcome else f"failed: {failure}"
        left = (clock() - started) / done * (len(todo) - done)
        said.set()
        say(f"[{done}/{len(todo)}] {job.title}: {result}{f'; {duration(left)} left' if done < len(todo) else ''}")

    def keep_saying() -> None:
        while not over.is_set():
            said.clear()
            if not over.wait(every_s) and not said.is_set():
                say(
                    f"[{done}/{len(todo)}] at work for {duration(clock() - started)}, {min(at_once, len(todo))} at once"
                )

    over = threading.Event()
    beat = threading.Thread(target=keep_saying, daemon=True)
    if todo:
        beat.start()
        try:
            launchers.run_here(function, todo, at_once=at_once, report=report)
        finally:
            over.set()
    return failures
