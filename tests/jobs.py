"""Jobs for the tests of `poolformer.ablation.launchers`: functions that another process finds by name."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from poolformer.ablation.launchers import run_here


def write(job: tuple[str, str]) -> str | None:
    """Write a file; the job called ``bad`` fails."""
    folder, name = job
    Path(folder, name).write_text(f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}")
    return "it is bad" if name == "bad" else None


def wait_for_other(job: tuple[str, str]) -> str | None:
    """Say that this job is here and wait until two are."""
    folder, name = job
    Path(folder, name).touch()
    deadline = time.monotonic() + 90
    while len(list(Path(folder).iterdir())) < 2:
        if time.monotonic() > deadline:
            return "alone"
        time.sleep(0.01)
    return None


def die(name: str) -> str | None:
    """End in the manner of the job's name."""
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "exit":
        os._exit(3)
    if name == "leave":
        sys.exit(0)
    if name == "interrupt":
        raise KeyboardInterrupt
    return None


def be_preempted(job: tuple[str, str]) -> None:
    """Get, the first time, the signal by which a cluster announces that it takes the machine away."""
    folder, name = job
    if Path(folder, name).exists():
        Path(folder, name).write_text("done at last")
        return
    Path(folder, name).touch()
    os.kill(os.getpid(), signal.SIGUSR2)
    time.sleep(600)


def leave_before_preemption(job: tuple[str, str]) -> None:
    """Leave on the SIGTERM that comes some seconds before the signal that submitit waits for."""
    if not Path(*job).exists():
        threading.Timer(3, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        Path(*job).touch()
        sys.exit(143)
    Path(*job).write_text("done at last")


def sleep(job: tuple[str, str]) -> None:
    """Leave the number of this process in a file, complete as soon as it is there, and stay."""
    folder, name = job
    Path(folder, "partial").write_text(str(os.getpid()))
    os.replace(Path(folder, "partial"), Path(folder, name))
    time.sleep(600)


if __name__ == "__main__":
    run_here(sleep, [(sys.argv[1], "pid")], at_once=1, report=print)
