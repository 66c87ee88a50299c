"""The processes that a launcher has started are those of the run: what is left out is theirs, and none trains alone."""

import os
import shutil
import subprocess
import sys

import pytest
from forked import Started
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment
from runs import QUICK, assert_same_run
from torch.distributed import TCPStore

from poolformer.cli.dispatch import main
from poolformer.errors import ConfigError
from poolformer.run.launch import Launch, cluster_environment, launched, leave_agents_store

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "LOCAL_RANK": "0"}
SRUN = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_STEP_ID": "0"}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_TASK_PID": "99"}
LEFT_OUT = {"devices": "auto", "num_nodes": 1, "accelerator": "cpu"}


@pytest.mark.parametrize(
    ("environment", "devices", "num_nodes"),
    [
        ({**TORCHRUN, "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, 1, 1),
        ({**TORCHRUN, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}, 2, 1),
        ({**TORCHRUN, "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2", "SLURM_NTASKS": "3", **SRUN}, 2, 3),
        ({**SRUN, "SLURM_NTASKS": "1"}, 1, 1),
        ({**SRUN, "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4"}, 4, 2),
        ({**SRUN, "SLURM_NTASKS": "2", "SLURM_TASKS_PER_NODE": "2"}, 2, 1),
        ({**SRUN, "SLURM_NTASKS": "8", "SLURM_TASKS_PER_NODE": "2(x4)", "SLURM_NNODES": "4"}, 2, 4),
        ({**SRUN, "SLURM_NTASKS": "2", "SLURM_TASKS_PER_NODE": "4", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, 1, 2),
        ({**SRUN, "SLURM_NTASKS": "6", "SLURM_NNODES": "3"}, 2, 3),
        ({**SRUN, "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "8", "SLURM_STEP_TASKS_PER_NODE": "2"}, 2, 1),
        (
            {**SRUN, "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NNODES": "1", "SLURM_JOB_NAME": "bash"},
            4,
            1,
        ),
    ],
)
def test_what_is_left_out_is_the_launcher_s(environment, devices, num_nodes):
    launch = launched(environment)
    launch.check(LEFT_OUT)
    assert launch.devices(LEFT_OUT) == {"devices": devices, "num_nodes": num_nodes}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_NTASKS": "", "PMI_SIZE": ""},
        {"SLURM_NTASKS": "2", **SRUN, "SLURM_JOB_NAME": "bash"},
        {"WORLD_SIZE": "2"},
    ],
)
def test_a_process_that_was_started_alone_starts_its_own(environment):
    assert launched(environment) is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SLURM_NTASKS": "2"}, "the SLURM job has 2 tasks, and this process was not started by srun"),
        ({"SLURM_NTASKS": "2", **BATCH}, "the SLURM job has 2 tasks, and this process was not started by srun"),
        ({**SRUN, "SLURM_NTASKS": "3", "SLURM_TASKS_PER_NODE": "2,1"}, r"srun has started 2,1 tasks on the nodes"),
        (
            {**TORCHRUN, "WORLD_SIZE": "5", "LOCAL_WORLD_SIZE": "2"},
            "torchrun has started 5 processes, 2 of them on this",
        ),
        ({"SLURM_NTASKS": "two"}, "SLURM_NTASKS='two' is no number of processes"),
        (TORCHRUN, "TORCHELASTIC_RUN_ID is of torchrun, which also sets WORLD_SIZE"),
        ({"RANK": "1", "WORLD_SIZE": "4"}, "WORLD_SIZE=4 and RANK=1 say that this is one of 4 processes"),
    ],
)
def test_processes_that_would_wait_or_train_alone_are_refused(environment, message):
    with pytest.raises(ConfigError, match=message):
        launched(environment)


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"])
def test_processes_of_mpirun_need_a_package_to_find_each_other(monkeypatch, variable):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match="mpirun has started 2 processes, each of which would train alone: pip install"
    ):
        launched({variable: "2", "SLURM_NTASKS": "1"})


def test_processes_of_mpirun_are_counted_by_machine(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    environment = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "SLURM_NTASKS": "4", **BATCH}
    assert launched(environment) == Launch("mpirun", 4, 2)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"devices": 1}, "torchrun has started 4 processes on 2 nodes, and --trainer.devices 1 contradicts that"),
        ({"devices": "4"}, "--trainer.devices 4 contradicts"),
        ({"devices": "0,1,2"}, "--trainer.devices 3 contradicts"),
        ({"devices": [0]}, "--trainer.devices 1 contradicts"),
        ({"num_nodes": 4}, "--trainer.num_nodes 4 contradicts"),
    ],
)
def test_numbers_that_contradict_the_launcher_are_refused(asked, message):
    launch = launched({**TORCHRUN, "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"})
    with pytest.raises(ConfigError, match=message):
        launch.check({**LEFT_OUT, **asked})


@pytest.mark.parametrize("asked", [{"devices": 2}, {"devices": "2,3"}, {"devices": -1}, {"devices": 2, "num_nodes": 2}])
def test_numbers_that_repeat_the_launcher_are_taken(asked):
    launch = launched({**TORCHRUN, "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"})
    launch.check({**LEFT_OUT, **asked})
    chosen = 2 if asked["devices"] == -1 else asked["devices"]
    assert launch.devices({**LEFT_OUT, **asked}) == {"devices": chosen, "num_nodes": 2}


def test_a_launcher_that_does_not_say_how_many_are_on_a_node_needs_to_be_told():
    launch = launched({"JSM_NAMESPACE_SIZE": "4", "LSB_DJOB_RANKFILE": "hosts"})
    with pytest.raises(ConfigError, match=r"pass --trainer\.devices and --trainer\.num_nodes"):
        launch.check(LEFT_OUT)
    launch.check({**LEFT_OUT, "devices": 2, "num_nodes": 2})


def test_a_gpu_a_task_is_too_few_to_train_together(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(
        ConfigError, match="each sees 1 of the 8 GPUs it needs to see: with SLURM, ask for --gpus-per-node=8"
    ):
        Launch("srun", 8, 8).check({**LEFT_OUT, "accelerator": "auto"})


def test_lightning_requeues_no_job_and_starts_what_a_batch_script_asks_for(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "8")  # of the job, which is not that of the step
    assert isinstance(cluster_environment(None), LightningEnvironment)
    environment = cluster_environment(Launch("srun", 2, 2))
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue
    assert os.environ["SLURM_NTASKS_PER_NODE"] == "2"


def test_a_mistake_is_one_line_before_anything_is_built(monkeypatch, capsys):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert main(["fit", "--trainer.max_epochs", "1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_only_a_run_can_be_resumed_by_itself(verb, capsys):
    assert main([verb, "--ckpt_path", "auto"]) == 2
    assert f"--ckpt_path auto is for fit; {verb} takes best, last" in capsys.readouterr().err


@pytest.mark.parametrize("restarts", ["0", "3"])
def test_nodes_that_restart_need_torch_s_own_switch(restarts):
    environment = {
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_MAX_RESTARTS": restarts,
        "GROUP_WORLD_SIZE": "2",
    }
    if restarts == "0":
        leave_agents_store(environment)
        return
    with pytest.raises(ConfigError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment on every node"):
        leave_agents_store(environment)
    leave_agents_store({**environment, "TORCHELASTIC_USE_AGENT_STORE": "False"})


def test_processes_of_one_node_meet_in_a_store_of_their_own():
    agents = TCPStore("localhost", 0, is_master=True)
    common = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(agents.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    common |= {"TORCHELASTIC_MAX_RESTARTS": "3", "GROUP_WORLD_SIZE": "1"}
    ports = []
    for restart in ("0", "1"):
        ranks = [{**common, "TORCHELASTIC_RESTART_COUNT": restart, "RANK": rank} for rank in ("0", "1")]
        for environment in ranks:
            leave_agents_store(environment)
        assert ranks[0]["MASTER_PORT"] == ranks[1]["MASTER_PORT"]
        assert ranks[0]["TORCHELASTIC_USE_AGENT_STORE"] == "False"
        ports.append(ranks[0]["MASTER_PORT"])
    assert len({*ports, str(agents.port)}) == 3


SAY = """
import torch
from lightning.pytorch.callbacks import Callback

class Say(Callback):
    def on_train_start(self, *_): print("threads", torch.get_num_threads())
"""


@pytest.mark.slow
def test_threads_that_are_asked_for_are_those_of_each_of_several_processes(tmp_path):
    (tmp_path / "say.py").write_text(SAY)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    options = ["--num_threads", "3", "--trainer.strategy", "ddp", "--trainer.callbacks", "say.Say"]
    run = Started(
        "-m", "poolformer", "fit", *QUICK, *options, "--trainer.max_epochs", "1", cwd=tmp_path, env=environment
    )
    out, err = run.communicate(timeout=200)
    assert run.returncode == 0, err
    assert "threads 3" in out.splitlines()


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun: apt-get install openmpi-bin")
def test_what_mpirun_starts_is_one_run_as_by_lightning_itself(tmp_path):
    pytest.importorskip("mpi4py", reason="no mpi4py: pip install mpi4py")
    fit = [sys.executable, "-m", "poolformer", "fit", *QUICK, "--num_threads", "1", "--trainer.default_root_dir"]
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2"]
    for command in ([*mpirun, *fit, "by-mpi"], [*fit, "alone", "--trainer.devices", "2"]):
        subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    assert_same_run(tmp_path / "by-mpi", tmp_path / "alone")
