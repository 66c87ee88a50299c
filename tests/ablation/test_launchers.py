"""Many jobs at once: each in a process of its own, none left behind."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jobs
import psutil
import pytest

from poolformer.ablation import launchers
from poolformer.ablation.launchers import _devices_of_slots, run_here, run_on_cluster
from poolformer.errors import ConfigError


def reported(function, work, at_once: int = 1) -> dict[int, str | None]:
    found: dict[int, str | None] = {}
    run_here(function, work, at_once=at_once, report=lambda index, failure: found.update({index: failure}))
    return found


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_every_job_is_done_in_a_process_of_its_own_and_a_bad_one_stops_nobody(tmp_path, at_once):
    names = ["one", "bad", "three"]
    found = reported(jobs.write, [(str(tmp_path), name) for name in names], at_once)
    assert found == {0: None, 1: "it is bad", 2: None}
    pids = [(tmp_path / name).read_text().split()[0] for name in names]
    assert len({*pids, str(os.getpid())}) == 4


def test_jobs_run_at_the_same_time(tmp_path):
    work = [(str(tmp_path), name) for name in ("one", "two")]
    assert reported(jobs.wait_for_other, work, at_once=2) == {0: None, 1: None}


def test_no_more_jobs_run_at_once_than_asked_for(tmp_path):
    order = []
    work = [(str(tmp_path), str(number)) for number in range(3)]
    run_here(jobs.write, work, at_once=1, report=lambda index, failure: order.append(sorted(os.listdir(tmp_path))))
    assert order == [["0"], ["0", "1"], ["0", "1", "2"]]


def test_nothing_to_do_is_done():
    assert reported(jobs.write, []) == {}


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("killed", "its process was killed by signal 9"),
        ("exit", "its process ended with code 3"),
        ("leave", "interrupted"),
        ("interrupt", "interrupted"),
        ("fine", None),
    ],
)
def test_a_job_that_dies_is_told_how(name, failure):
    assert reported(jobs.die, [name, "fine"]) == {0: failure, 1: None}


def wait_until(true, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda sign: sign.name)
def test_jobs_end_with_the_process_that_started_them(tmp_path, sign):
    starter = subprocess.Popen([sys.executable, jobs.__file__, str(tmp_path)], stderr=subprocess.DEVNULL)
    wait_until((tmp_path / "pid").exists)
    job = psutil.Process(int((tmp_path / "pid").read_text()))
    starter.send_signal(sign)
    assert starter.wait(60) != 0  # it has modules to leave, on a machine that is busy
    wait_until(lambda: not job.is_running())


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="of signals that can wait")
def test_a_ctrl_c_while_a_job_is_started_ends_that_job(tmp_path, monkeypatch):
    kept_off = launchers._ctrl_c_is_ours

    @contextlib.contextmanager
    def interrupted():
        with kept_off():
            yield
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(launchers, "_ctrl_c_is_ours", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_here(jobs.sleep, [(str(tmp_path), "pid")], at_once=1, report=print)
    finally:
        signal.signal(signal.SIGINT, before)
    left = multiprocessing.active_children()
    for process in left:
        process.kill()
    assert left == []


@pytest.mark.slow
def test_a_ctrl_c_while_the_jobs_process_still_imports_leaves_no_traceback(tmp_path):
    (tmp_path / "imports_slowly.py").write_text(
        "import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(2)\npathlib.Path('imported').touch()\n"
    )
    start = (
        "from poolformer.ablation.launchers import run_here, warm_up\n"
        "warm_up(['imports_slowly'])\n"
        "run_here(print, ['job'], at_once=1, report=print)\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", start],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_until((tmp_path / "importing").exists)
    os.killpg(starter.pid, signal.SIGINT)  # as a terminal does: to all of them
    assert starter.communicate(timeout=20)[1].count("Traceback") == 1  # the starter's own
    wait_until((tmp_path / "imported").exists)


@pytest.mark.parametrize(
    ("visible", "count", "at_once", "expected"),
    [
        (None, 0, 3, [None, None, None]),
        (None, 1, 2, [None, None]),
        (None, 4, 1, [None]),
        (None, 4, 2, ["0,1", "2,3"]),
        (None, 4, 3, ["0", "1", "2"]),
        (None, 8, 3, ["0,1", "2,3", "4,5"]),
        (None, 4, 4, ["0", "1", "2", "3"]),
        (None, 2, 5, ["0", "1", "0", "1", "0"]),
        ("5,7", 2, 2, ["5", "7"]),
        ("GPU-a,GPU-b,GPU-c", 3, 2, ["GPU-a", "GPU-b"]),
    ],
)
def test_devices_are_dealt_out_to_the_jobs_at_once(monkeypatch, visible, count, at_once, expected):
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _devices_of_slots(at_once) == expected


def test_a_job_sees_the_devices_of_its_slot(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    work = [(str(tmp_path), name) for name in ("one", "two")]
    reported(jobs.write, work, at_once=2)
    assert [(tmp_path / name).read_text().split()[1] for name in ("one", "two")] == ["0", "1"]


# ---- a cluster


def on_cluster(function, work, folder: Path, **parameters) -> dict[int, str | None]:
    found: dict[int, str | None] = {}
    run_on_cluster(
        function,
        work,
        folder=folder,
        parameters=parameters,
        at_once=None,
        report=lambda index, failure: found.update({index: failure}),
    )
    return found


@pytest.fixture
def submitit(monkeypatch):
    # Its jobs find their function by name, in another process that does not know pytest's path.
    monkeypatch.setenv("PYTHONPATH", str(Path(jobs.__file__).parent))
    return pytest.importorskip("submitit")


@pytest.mark.slow
def test_submitit_does_the_jobs_of_an_array(submitit, tmp_path):
    work = [(str(tmp_path), name) for name in ("one", "bad")]
    assert on_cluster(jobs.write, work, tmp_path / "slurm", cluster="local") == {0: None, 1: "it is bad"}
    assert (tmp_path / "one").is_file()


@pytest.mark.slow
def test_a_job_of_the_cluster_that_dies_is_told_with_its_log(submitit, tmp_path):
    (failure,) = on_cluster(jobs.die, ["exit"], tmp_path, cluster="local").values()
    assert "Error" in failure
    assert "\n" not in failure
    assert str(tmp_path) in failure


@pytest.mark.slow
@pytest.mark.parametrize("preempted", [jobs.be_preempted, jobs.leave_before_preemption])
def test_a_job_that_is_preempted_is_done_again(submitit, tmp_path, preempted):
    work = [(str(tmp_path), "job")]
    assert on_cluster(preempted, work, tmp_path / "slurm", cluster="local") == {0: None}
    assert (tmp_path / "job").read_text() == "done at last"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cluster": "local", "tasks_per_node": 2}, r"--slurm cluster=local tasks_per_node=2: only on SLURM do tasks"),
        ({}, r"--slurm: RuntimeError: Could not detect .srun."),
        ({"cluster": "nowhere"}, r"--slurm: ValueError: AutoExecutor doesn't know any executor named nowhere"),
        ({"cluster": "local", "partitoin": "gpu"}, r"--slurm: NameError: Unknown argument 'partitoin'"),
        ({"cluster": "local", "timeout_min": "long"}, r"--slurm: AssertionError: Parameter \"timeout_min\" expected"),
    ],
)
def test_what_the_cluster_cannot_do_is_said_in_one_line(submitit, tmp_path, monkeypatch, parameters, message):
    monkeypatch.setenv("PATH", str(tmp_path))  # without srun, wherever this runs
    with pytest.raises(ConfigError, match=message) as caught:
        on_cluster(jobs.write, [], tmp_path, **parameters)
    assert "\n" not in str(caught.value)


SBATCH = """#!/bin/bash
cp "$1" "$0.script"
echo "sbatch: error: invalid partition specified: gup" >&2
exit 1
"""


def test_a_job_has_a_task_for_each_gpu_and_what_sbatch_refuses_is_said_in_a_line(submitit, tmp_path, monkeypatch):
    for program in ("srun", "sbatch"):
        (tmp_path / program).write_text(SBATCH)
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(ConfigError, match=r"^--slurm: FailedJobError: sbatch: error: invalid partition"):
        on_cluster(
            jobs.write, [("", "one"), ("", "two")], tmp_path / "slurm", gpus_per_node=4, nodes=2, partition="gup"
        )
    script = (tmp_path / "sbatch.script").read_text()
    for option in ("--array=0-1%2", "--ntasks-per-node=4", "--gpus-per-node=4", "--nodes=2", "--time=1440"):
        assert f"#SBATCH {option}\n" in script
    assert "--wait=60 --cpus-per-task=1 " in script


@pytest.mark.parametrize(
    ("written", "minutes"),
    [(90, 90), ("90:01", 91), ("1:30:00", 90), ("1-0", 1440), ("1-12:30", 2190), ("2-00:00:30", 2881)],
)
def test_a_limit_is_read_as_sbatch_does_and_submitit_can_reckon_with_it(
    submitit, tmp_path, monkeypatch, written, minutes
):
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    executor = launchers._executor(tmp_path, {"time": written}, None)
    assert executor.parameters["time"] == minutes


@pytest.mark.parametrize("written", ["tomorrow", "1-", "-5", "1:2:3:4", "1.5", "UNLIMITED", 0, "-1"])
def test_a_limit_that_sbatch_would_not_read_or_that_is_none_is_refused(submitit, tmp_path, written):
    with pytest.raises(ConfigError, match=rf"^--slurm time={written}: expects minutes"):
        launchers._executor(tmp_path, {"time": written}, None)


def test_a_limit_that_is_given_twice_is_refused(submitit, tmp_path):
    with pytest.raises(ConfigError, match="are the same"):
        launchers._executor(tmp_path, {"time": 9, "timeout_min": 9}, None)


def test_without_submitit_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install 'poolformer-lightning\[submitit\]'"):
        on_cluster(jobs.write, [], tmp_path)
