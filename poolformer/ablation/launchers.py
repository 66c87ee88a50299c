"""Many jobs at once: in processes of this machine, or as one array of jobs on a SLURM cluster.

A job is a value that can be pickled. The function that does it returns None, or in one line why it failed;
a job that fails does not stop the others.
"""

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ..errors import ConfigError, describe
from ..registry import install
from ..signals import end_after

Function = Callable[[Any], str | None]
Report = Callable[[int, str | None], None]

_GRACE_S = 10  # for a job to end by itself when all are ended
_POLL_S = 1
_UNTIL_REQUEUED_S = 60
# What submitit calls the same on every cluster; the rest is SLURM's own.
_SHARED = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
_DAY_MIN = 24 * 60


def warm_up(modules: Sequence[str]) -> None:
    """Start importing what the jobs of `run_here` need, in the process that they will be forked from.

    It is a clean one, without threads and without a CUDA context, so that forking it is safe; each job starts
    with the imports done. Where the system cannot fork, each job imports for itself.
    """
    context = _context()
    if context.get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        context.set_forkserver_preload(list(modules))
        with _ctrl_c_is_ours():
            ensure_running()


def run_here(function: Function, jobs: Sequence[Any], *, at_once: int, report: Report) -> None:
    """Do jobs in processes of their own, a number of them at once, and end them all if this one is ended.

    Where CUDA has several devices and there are several jobs at once, each gets as many of them as the others: what a
    number of devices does to the batch and the learning rate must not depend on which job comes first.

    Args:
        function: What to do with a job; importable by name.
        jobs: The jobs, in order.
        at_once: How many run at the same time.
        report: Called when a job is over with its index and why it failed, if it did.
    """
    context, devices = _context(), _devices_of_slots(at_once)
    waiting, slots = list(enumerate(jobs)), list(range(at_once))
    running: dict[int, tuple[BaseProcess, Connection, int, int]] = {}
    try:
        while waiting or running:
            while waiting and slots:
                (index, job), slot = waiting.pop(0), slots.pop(0)
                here, there = context.Pipe(duplex=False)
                # Every context has a Process of its own.
                process: BaseProcess = context.Process(  # type: ignore[attr-defined]
                    target=_do, args=(function, job, there, devices[slot])
                )
                with _ctrl_c_is_ours():  # until it is known as one to end
                    process.start()
                    running[process.sentinel] = (process, here, index, slot)
                there.close()
            for sentinel in wait(list(running)):
                assert isinstance(sentinel, int)
                process, here, index, slot = running.pop(sentinel)
                slots.append(slot)
                report(index, _outcome(process, here))
    finally:
        _end([process for process, *_ in running.values()])


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """Keep a Ctrl-C, which a terminal sends to all processes, from what is started here until a job begins.

    In its first seconds a process of `multiprocessing` imports, and would answer with a traceback of that.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    # It unblocks SIGINT once it has started; a forkserver starts it where nobody has.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _context() -> BaseContext:
    clean_fork = "forkserver" in multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if clean_fork else "spawn")


def _devices_of_slots(at_once: int) -> list[str | None]:
    """Return CUDA_VISIBLE_DEVICES of each of the jobs at once; None for what this process has."""
    if at_once == 1:
        return [None]
    import torch

    count = torch.cuda.device_count()
    if count < 2:
        return [None] * at_once
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = given.split(",")[:count] if given else [str(device) for device in range(count)]
    share = max(1, count // at_once)
    return [",".join(visible[first : first + share]) for first in (slot * share % count for slot in range(at_once))]


def _do(function: Function, job: Any, outcome: Connection, devices: str | None) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    end_after(parent.join)
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    try:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        outcome.send(function(job))
    except (KeyboardInterrupt, SystemExit):  # Lightning leaves by the second
        outcome.send("interrupted")


def _outcome(process: BaseProcess, outcome: Connection) -> str | None:
    process.join()
    try:
        return outcome.recv()
    except EOFError:
        code = process.exitcode or 0
        return f"its process was killed by signal {-code}" if code < 0 else f"its process ended with code {code}"


def _end(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE_S
    try:
        for process in processes:
            process.join(max(0, deadline - time.monotonic()))
    finally:  # also when somebody is impatient and interrupts again
        for process in processes:
            process.kill()
            process.join()


def run_on_cluster(
    function: Function,
    jobs: Sequence[Any],
    *,
    folder: Path,
    parameters: Mapping[str, Any],
    at_once: int | None,
    report: Report,
) -> None:
    """Do jobs as one array on a SLURM cluster through submitit, and cancel them if this process is ended.

    A job that is preempted or runs out of time is queued again.

    Args:
        function: What to do with a job; importable by name on the cluster's machines.
        jobs: The jobs.
        folder: For submitit's scripts and logs; on a disk that all machines share.
        parameters: submitit's (``timeout_min``, ``gpus_per_node`` ...) and SLURM's (``partition``, ``account``
            ...); ``cluster: local`` tries it on this machine. A job has a task for each GPU, or ``tasks_per_node``;
            what the first says counts.
        at_once: How many run at the same time at most.
        report: Called when a job is over with its index and why it failed, if it did.

    Raises:
        ConfigError: submitit or SLURM is missing, or does not know a parameter.
    """
    executor = _executor(folder, parameters, at_once)
    waiting = {index: job.task(0) for index, job in enumerate(_submitted(executor, function, jobs))}
    try:
        while waiting:
            time.sleep(_POLL_S)
            for index in [index for index, job in waiting.items() if job.done()]:
                report(index, _cluster_outcome(waiting.pop(index)))
    finally:
        for job in waiting.values():
            job.cancel(check=False)


class _Requeued:
    """A function whose jobs start anew when the cluster has taken their machine away."""

    def __init__(self, function: Function):
        self.function = function
        self._is_queued_again = False

    def __call__(self, job: Any) -> str | None:
        try:
            return self.function(job)
        except SystemExit:
            # A cluster that takes a machine away sends SIGTERM, on which a run saves itself and leaves, before the
            # signal on which submitit queues the job again.
            if not self._is_queued_again:
                time.sleep(_UNTIL_REQUEUED_S)
            raise

    def checkpoint(self, job: Any) -> Any:
        """Called by submitit on the signal that comes before the end."""
        from submitit.helpers import DelayedSubmission

        self._is_queued_again = True
        return DelayedSubmission(_Requeued(self.function), job)


def _executor(folder: Path, parameters: Mapping[str, Any], at_once: int | None) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(f"--launcher submitit needs another package: {install('submitit')}") from error

    parameters = dict(parameters)
    cluster = parameters.pop("cluster", "slurm")
    if cluster == "slurm":
        parameters.setdefault("tasks_per_node", parameters.get("gpus_per_node") or 1)
        # A task that dies ends the others, which wait for it. Since 22.05 srun does not take the cores from sbatch.
        given = parameters.get("srun_args", [])
        ours = ["--wait=60", f"--cpus-per-task={parameters.get('cpus_per_task', 1)}"]
        parameters["srun_args"] = [*ours, *([given] if isinstance(given, str) else given)]
    elif parameters.get("tasks_per_node", 1) != 1:
        raise ConfigError(
            f"--slurm cluster={cluster} tasks_per_node={parameters['tasks_per_node']}: only on SLURM do tasks train "
            "together; here a run takes several devices by -- --trainer.devices N"
        )
    if "time" in parameters:
        if "timeout_min" in parameters:
            raise ConfigError("--slurm time= and timeout_min= are the same: give one of them")
        parameters["timeout_min"] = _minutes(parameters.pop("time"))
    named = {name if name in _SHARED else f"slurm_{name}": value for name, value in parameters.items()}
    if at_once:
        named["slurm_array_parallelism"] = at_once
    named.setdefault("timeout_min", _DAY_MIN)  # submitit's own default is five minutes
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**named)
    except (RuntimeError, ValueError, NameError, AssertionError) as error:  # no srun, no such cluster or parameter
        raise ConfigError(f"--slurm: {describe(error)}") from error
    return executor


def _minutes(limit: int | str) -> int:
    """Return sbatch's ``--time`` in minutes, the next whole ones: submitit reckons with it when a run is preempted.

    Raises:
        ConfigError: It is none of sbatch's forms, or no limit at all.
    """
    days, dash, clock = str(limit).rpartition("-")
    parts = clock.split(":")
    minutes = 0
    if len(parts) <= 3 and all(part.isdecimal() for part in [*parts, *([days] if dash else [])]):
        no_hours = [] if dash or len(parts) == 3 else ["0"]
        hours, minutes, seconds = map(int, [*no_hours, *parts, "0", "0"][:3])
        minutes += int(days or 0) * _DAY_MIN + hours * 60 + math.ceil(seconds / 60)
    if minutes == 0:
        raise ConfigError(
            f"--slurm time={limit}: expects minutes, minutes:seconds, hours:minutes:seconds, days-hours, "
            "days-hours:minutes or days-hours:minutes:seconds, and an end, which a preempted run is told by"
        )
    return minutes


def _submitted(executor: Any, function: Function, jobs: Sequence[Any]) -> list[Any]:
    from submitit.core.utils import FailedJobError

    try:
        return executor.map_array(_Requeued(function), list(jobs))
    except FailedJobError as error:  # sbatch has refused them, such as for a partition that is not there
        raise ConfigError(f"--slurm: {describe(error)}") from error


def _cluster_outcome(job: Any) -> str | None:
    from submitit.core.utils import UncompletedJobError

    try:
        return job.result()
    except UncompletedJobError as error:
        return f"{describe(error)} (see '{job.paths.stderr}')"
