"""Jobs that SLURM starts again, by a real cluster of one machine; what its packages lack is skipped with the reason."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from runs import assert_same_run

from poolformer.configs import config_dir

JOB = config_dir() / "hardware" / "job.sbatch"
DIGITS = ["--trainer.enable_progress_bar", "false", "--num_threads", "1", "--model.drop_path_rate", "0.2"]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobRequeue=1
OverTimeLimit=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores}
PartitionName=all Nodes=ALL Default=YES State=UP
PartitionName=urgent Nodes=ALL PriorityTier=2 State=UP
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A SLURM of this machine alone; yields the environment that its commands need."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"no {missing[0]}: apt-get install slurm-wlm munge")
    if os.geteuid():
        pytest.skip("a SLURM of its own is started by root")
    folder = tmp_path_factory.mktemp("slurm")
    ports = [_free_port(), _free_port()]
    host = socket.gethostname().partition(".")[0]
    text = CONFIGURATION.format(host=host, folder=folder, ports=ports, cores=os.cpu_count())
    (folder / "slurm.conf").write_text(text)
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    munge = [f"--{name}={folder / name}" for name in ("pid-file", "log-file", "seed-file")]
    commands = [
        ["munged", "--force", "--foreground", f"--socket={folder / 'munge'}", f"--key-file={folder / 'key'}", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", host],
    ]
    daemons = []
    with (folder / "log").open("w") as log:
        for command in commands:
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
            time.sleep(1)
    try:
        _until(lambda: "idle" in _output(environment, "sinfo", "--noheader"), seconds=60)
        yield environment
    finally:
        _output(environment, "scancel", "--user=root")
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def _stamp(file: Path) -> int | None:
    return file.stat().st_mtime_ns if file.exists() else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _output(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stdout


def _until(is_so, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.5)


UNHURRIED = """
import time
from pathlib import Path
from lightning.pytorch.callbacks import Callback


class Unhurried(Callback):
    def on_train_batch_start(self, *_):
        time.sleep(0 if Path("hurry").exists() else 0.5)
"""


@pytest.fixture
def slurm(cluster, tmp_path):
    """The cluster's commands, in a folder with `job.sbatch` for a machine without GPUs."""
    (tmp_path / "job.sbatch").write_text(JOB.read_text().replace("#SBATCH --gpus-per-node=8\n", ""))
    environment = {**cluster, "PWD": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    return partial(_output, environment)


def _submitted(slurm, folder: Path, *arguments: str, **options: str | int) -> str:
    """Submit `job.sbatch` as two tasks; return the number of the job."""
    options = {"chdir": folder, "output": folder / "log", "ntasks-per-node": 2, "cpus-per-task": 1, **options}
    flags = [f"--{name}={value}" for name, value in options.items()]
    return re.search(r"batch job (\d+)", slurm("sbatch", *flags, str(folder / "job.sbatch"), *DIGITS, *arguments))[1]


def _wait_for_end(slurm, job: str) -> str:
    _until(lambda: re.search("JobState=(COMPLETED|FAILED)", slurm("scontrol", "show", "job", job)), seconds=300)
    return slurm("scontrol", "show", "job", job)


@pytest.mark.exhaustive
def test_a_job_that_is_stopped_goes_back_to_the_queue_and_ends_when_complete(slurm, tmp_path):
    (tmp_path / "unhurried.py").write_text(UNHURRIED)
    epochs = ["--trainer.max_epochs", "10", "--save_every_n_steps", "4", "--trainer.callbacks", "unhurried.Unhurried"]
    clock = {"time": 2, "signal": "B:USR1@60"}  # half a minute to a minute after the start: SLURM looks now and then
    job = _submitted(slurm, tmp_path, *epochs, "--trainer.default_root_dir", "run", **clock)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    urgent = f"--partition=urgent --ntasks=2 --chdir={tmp_path} --output=urgent --wrap=true"
    by_hand, preempt = f"scancel --batch --signal={signal.SIGUSR1.value} {job}", f"sbatch {urgent}"
    for stop in (by_hand, preempt, "true"):  # and then SLURM's clock
        checkpoint_before = _stamp(checkpoint)
        _until(lambda before=checkpoint_before: _stamp(checkpoint) != before, seconds=300)
        slurm(*stop.split())
        _until(lambda: "PENDING" in slurm("squeue", f"--jobs={job}", "--noheader", "--format=%T"), seconds=120)
        time.sleep(3)  # SLURM refuses a job's credential of the same second
        slurm("scontrol", "update", f"JobId={job}", "StartTime=now")  # it waits two minutes otherwise
    (tmp_path / "hurry").touch()
    slurm("scontrol", "update", f"JobId={job}", "TimeLimit=10")
    assert "ExitCode=0:0" in _wait_for_end(slurm, job)
    log = (tmp_path / "log").read_text()
    assert log.count("goes back to the queue and resumes") == 2
    assert log.count("Stopped after step") == 3
    assert "after 10 epochs" in log
    assert not (tmp_path / "run" / "previous").exists()
    whole = ["--trainer.devices", "2", *DIGITS, *epochs, "--trainer.default_root_dir", "whole"]
    command = [sys.executable, "-m", "poolformer", "fit", *whole]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=True, timeout=300)
    assert_same_run(tmp_path / "whole", tmp_path / "run", killed=True)


@pytest.mark.exhaustive
@pytest.mark.parametrize("wrong", [["--trainer.max_epoch", "2"], ["--model.lr", "1e30", "--model.warmup_epochs", "0"]])
def test_a_job_that_fails_does_not_go_back_to_the_queue(slurm, tmp_path, wrong):
    job = _submitted(slurm, tmp_path, "--trainer.default_root_dir", "run", "--trainer.max_epochs", "2", *wrong)
    end = _wait_for_end(slurm, job)
    assert "JobState=FAILED" in end
    assert "Restarts=0" in end
    assert "ExitCode=2:0" in end


@pytest.mark.slow
def test_a_batch_script_without_srun_is_told_so(cluster, tmp_path):
    (tmp_path / "job").write_text("#!/bin/bash\npoolformer fit --trainer.max_epochs 1\n")
    place = [f"--chdir={tmp_path}", f"--output={tmp_path / 'log'}", "--ntasks=2", "--wait"]
    subprocess.run(["sbatch", *place, str(tmp_path / "job")], env=cluster, timeout=120)
    assert "has 2 tasks, and this process was not started by srun: put srun before it" in (tmp_path / "log").read_text()
