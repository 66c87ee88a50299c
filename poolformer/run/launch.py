"""The processes that torchrun, srun, jsrun or mpirun has started: their number is that of the run.

Lightning trains alone in each of them where ``devices`` does not repeat the number, waits without end for processes
that are not started, and answers contradictions with a traceback.
"""

import importlib.util
import os
import re
import socket
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from torch.distributed import TCPStore

from ..errors import ConfigError

# Variables that say how many processes mpirun has started, in all and on this machine: Open MPI, MPICH and MVAPICH.
_MPI = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_SIZE", "MPI_LOCALNRANKS"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
)
_BY_HAND = ("bash", "interactive")
"""Names of SLURM jobs in which Lightning takes nothing for started by srun."""


@dataclass(frozen=True)
class Launch:
    """What a launcher has started.

    Attributes:
        launcher: Its command.
        processes: Number of processes on all nodes.
        per_node: Number of processes on each node; None where the launcher does not say.
    """

    launcher: str
    processes: int
    per_node: int | None

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self.processes // (self.per_node or self.processes)

    def check(self, options: Mapping[str, Any]) -> None:
        """Compare the processes with what the trainer is asked for.

        Args:
            options: Of Lightning's trainer; ``devices`` "auto" and ``num_nodes`` 1 stand for left out.

        Raises:
            ConfigError: They contradict each other, or the number on a node is not known.
        """
        devices, num_nodes = _number(options["devices"]), options["num_nodes"]
        per_node = self.per_node
        if per_node is None:
            if devices is None or devices * num_nodes != self.processes:
                raise self._mismatch("how many on a node is not said: pass --trainer.devices and --trainer.num_nodes")
            return
        if devices not in (None, per_node):
            raise self._mismatch(f"--trainer.devices {devices} contradicts that: leave it out, or start as many")
        if num_nodes not in (1, self.num_nodes):
            raise self._mismatch(f"--trainer.num_nodes {num_nodes} contradicts that: leave it out, or start as many")
        visible = torch.cuda.device_count() if options["accelerator"] in ("auto", "gpu", "cuda") else 0
        if 0 < visible < per_node:
            raise self._mismatch(
                f"each sees {visible} of the {per_node} GPUs it needs to see: with SLURM, ask for "
                f"--gpus-per-node={per_node} in place of --gpus-per-task"
            )

    def devices(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``devices`` and ``num_nodes`` for Lightning's trainer, as `check` has found them."""
        if self.per_node is None:
            return {}
        chosen = options["devices"] if _number(options["devices"]) is not None else self.per_node
        return {"devices": chosen, "num_nodes": self.num_nodes}

    def _mismatch(self, what: str) -> ConfigError:
        nodes = f" on {self.num_nodes} nodes" if self.per_node and self.num_nodes > 1 else ""
        few = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return ConfigError(f"{self.launcher} has started {few}{nodes}, and {what}")


def launched(environment: Mapping[str, str] | None = None) -> Launch | None:
    """Return what this process was started by and with, None where it was started alone.

    Args:
        environment: Environment variables; None for those of this process.

    Raises:
        ConfigError: Several processes were started, each of which would train alone or wait for the others for ever.
    """
    environment = os.environ if environment is None else environment
    for find in (_torchrun, _srun, _jsrun, _mpirun, _unknown):
        if (found := find(environment)) is not None:
            return found
    return None


def launches_itself(plugins: Any) -> bool:
    """Return whether the options name how processes find each other, which then is the user's to know.

    Args:
        plugins: Of Lightning's trainer, built or as the options name them.
    """
    given = plugins if isinstance(plugins, list) else [plugins]
    paths = [getattr(one, "class_path", "") for one in given]
    return any(isinstance(one, ClusterEnvironment) for one in given) or any(
        path.endswith("Environment") for path in paths
    )


def _torchrun(environment: Mapping[str, str]) -> Launch | None:
    if "TORCHELASTIC_RUN_ID" not in environment:
        return None
    if (processes := _count(environment, "WORLD_SIZE")) is None:
        raise ConfigError("TORCHELASTIC_RUN_ID is of torchrun, which also sets WORLD_SIZE: that is missing")
    return _evenly("torchrun", processes, _count(environment, "LOCAL_WORLD_SIZE"))


def _srun(environment: Mapping[str, str]) -> Launch | None:
    if (processes := _count(environment, "SLURM_NTASKS")) is None:
        return None
    if environment.get("SLURM_JOB_NAME") in _BY_HAND and (_count(environment, "SLURM_STEP_NUM_TASKS") or 1) == 1:
        return None  # what is typed in a job's shell starts its own processes
    if any((_count(environment, total) or 1) > 1 for total, _ in _MPI if total != "PMI_SIZE"):
        return None  # srun's own PMI says so too
    is_step = "SLURM_PROCID" in environment and "SLURM_LOCALID" in environment
    # The batch script is task 0 of nothing: it has a task's process, and no step.
    if not is_step or ("SLURM_TASK_PID" in environment and not {"SLURM_STEP_ID", "SLURM_STEPID"} & {*environment}):
        if processes == 1:
            return None
        raise ConfigError(
            f"the SLURM job has {processes} tasks, and this process was not started by srun: put srun before it"
        )
    return _evenly("srun", processes, _tasks_per_node(environment, processes))


def _tasks_per_node(environment: Mapping[str, str], processes: int) -> int | None:
    counts = environment.get("SLURM_STEP_TASKS_PER_NODE")  # of this srun, and not of the job that it is in
    if not counts and (per_node := _count(environment, "SLURM_NTASKS_PER_NODE")):
        return per_node
    counts = counts or environment.get("SLURM_TASKS_PER_NODE")
    if counts:  # such as 2(x3),1
        numbers = {int(number) for number in re.findall(r"(\d+)(?:\(x\d+\))?", counts)}
        if len(numbers) > 1:
            raise ConfigError(
                f"srun has started {counts} tasks on the nodes, and each needs as many: --ntasks-per-node"
            )
        return numbers.pop()
    nodes = environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES")
    if processes == 1:
        return 1
    return processes // int(nodes) if nodes and processes % int(nodes) == 0 else None


def _jsrun(environment: Mapping[str, str]) -> Launch | None:
    processes = _count(environment, "JSM_NAMESPACE_SIZE")
    return Launch("jsrun", processes, None) if processes and "LSB_DJOB_RANKFILE" in environment else None


def _mpirun(environment: Mapping[str, str]) -> Launch | None:
    for total, local in _MPI:
        if (processes := _count(environment, total) or 1) > 1:
            if importlib.util.find_spec("mpi4py") is None:
                raise ConfigError(
                    f"mpirun has started {processes} processes, each of which would train alone: "
                    "pip install mpi4py, by which they find each other"
                )
            return _evenly("mpirun", processes, _count(environment, local))
    return None


def _unknown(environment: Mapping[str, str]) -> Launch | None:
    processes = _count(environment, "WORLD_SIZE") or 1
    if "RANK" in environment and processes > 1:
        raise ConfigError(
            f"WORLD_SIZE={processes} and RANK={environment['RANK']} say that this is one of {processes} processes, "
            "each of which would train alone: start them by torchrun or srun, or name how they find each other, as by "
            "--trainer.plugins lightning.pytorch.plugins.environments.KubeflowEnvironment"
        )
    return None


def _count(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name, "").strip()
    if value and not value.isdigit():
        raise ConfigError(f"{name}='{value}' is no number of processes")
    return int(value) if value else None


def _evenly(launcher: str, processes: int, per_node: int | None) -> Launch:
    if per_node is not None and processes % per_node:
        raise ConfigError(
            f"{launcher} has started {processes} processes, {per_node} of them on this node, and each needs as many"
        )
    return Launch(launcher, processes, per_node)


def _number(devices: Any) -> int | None:
    """Return the number of devices that an option asks for, None for all there are."""
    if isinstance(devices, list | tuple):
        return len(devices)
    text = str(devices).strip()
    if "," in text:
        return len([one for one in text.split(",") if one.strip()])
    return int(text) if text.isdigit() else None


def cluster_environment(launch: Launch | None) -> ClusterEnvironment:
    """Return how Lightning is to find the other processes.

    Its own choice takes SLURM for the launcher of mpirun's processes and of a batch script, and warns wherever there is
    an srun.
    """
    if launch is not None and launch.launcher == "srun":
        if launch.per_node:
            # Lightning insists on it, also where --ntasks alone is clear.
            os.environ["SLURM_NTASKS_PER_NODE"] = str(launch.per_node)
        # Lightning would requeue the job with a checkpoint outside of the run's, which then starts as another run.
        return SLURMEnvironment(auto_requeue=False)
    environments: dict[str, Callable[[], ClusterEnvironment]] = {
        "torchrun": TorchElasticEnvironment,
        "jsrun": LSFEnvironment,
        "mpirun": MPIEnvironment,
    }
    return environments[launch.launcher]() if launch else LightningEnvironment()


def leave_agents_store(environment: MutableMapping[str, str] | None = None) -> None:
    """Have the processes of torchrun meet in a store of their own, so that they still find each other after a restart.

    The agent's store outlives a restart, and torch reads the addresses of dead ranks in it: about half of all restarts
    hang or fail. ``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`` does the same for torchrun as a whole.

    Args:
        environment: Environment variables, which are changed; None for those of this process.

    Raises:
        ConfigError: It is not set, and there are several nodes, whose processes cannot agree on a place themselves.
    """
    environment = os.environ if environment is None else environment
    restarts = int(environment.get("TORCHELASTIC_MAX_RESTARTS") or 0)
    if not restarts or environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    if int(environment.get("GROUP_WORLD_SIZE", 1)) > 1:
        raise ConfigError(
            "torchrun --max-restarts needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment on every node: "
            "without it torch takes the addresses of dead processes for those of the new ones"
        )
    host, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False)
    key = f"poolformer/port/{environment['TORCHELASTIC_RESTART_COUNT']}"
    if environment["RANK"] == "0":
        store.set(key, str(_free_port()))
    environment.update(MASTER_PORT=store.get(key).decode(), TORCHELASTIC_USE_AGENT_STORE="False")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
