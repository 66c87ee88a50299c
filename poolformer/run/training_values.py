"""Curves of how a training goes beside its loss: norms, the share of a step spent waiting for data, memory."""

import sys
import time
from collections.abc import Collection
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from .lightning_internals import is_logging_point
from .stopping import StopOnSignal
from .waiting import Waiting

Value = Literal["norms", "waiting", "memory"]
VALUES: tuple[Value, ...] = ("norms", "waiting", "memory")


class TrainingValues(Callback):
    """Logs, every ``log_every_n_steps`` steps, what else is worth a curve; between two points nothing is computed.

    ``norm/gradient`` is of all gradients of the step, before they are clipped, and ``norm/weight`` of all that is
    trained; not of weights in shards, of which no process has all. ``throughput/waiting_share`` is the share of the
    time since the point before in which training waited for the next batch. ``throughput/memory_mib`` is the most
    memory so far: of a GPU what its tensors took, else what the process took.

    Args:
        without: Values that are left out.
    """

    def __init__(self, without: Collection[Value] = ()) -> None:
        self.without = frozenset(without)
        self._norms: Tensor | None = None
        self._waiting: Waiting | None = None
        self._begin()

    def _begin(self) -> None:
        self._since_s = time.perf_counter()
        self._waited_s = self._waiting.waited_s if self._waiting else 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        stopping: list[Any] = [each for each in trainer.callbacks if isinstance(each, StopOnSignal)]
        self._waiting = stopping[0].waiting if stopping else None
        self._begin()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        whole = isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy)
        if "norms" in self.without or not whole or not trainer.loggers or not is_logging_point(trainer):
            return
        trained = [each.detach() for group in optimizer.param_groups for each in group["params"] if each.requires_grad]
        gradients = [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
        self._norms = torch.stack([get_total_norm(gradients), get_total_norm(trained)])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.loggers or not is_logging_point(trainer):
            return
        values: dict[str, Any] = {}
        if self._norms is not None:
            # Brought to the host here, at a point of the log: what Lightning keeps it would bring again and again.
            gradient, weight = self._norms.float().cpu()
            values |= {"norm/gradient": gradient, "norm/weight": weight}
            self._norms = None
        now_s = time.perf_counter()
        if self._waiting is not None and "waiting" not in self.without and now_s > self._since_s:
            share = (self._waiting.waited_s - self._waited_s) / (now_s - self._since_s)
            values["throughput/waiting_share"] = torch.tensor(share)
        memory = None if "memory" in self.without else peak_memory_mib(trainer.strategy.root_device)
        if memory is not None:
            values["throughput/memory_mib"] = torch.tensor(memory)
        for name, value in values.items():
            pl_module.log(name, value, batch_size=1)
        self._begin()


def peak_memory_mib(device: torch.device) -> float | None:
    """Return the most memory that was taken so far, in MiB; None where that cannot be known.

    Args:
        device: A GPU for what its tensors took in this process; any other for what the process took of the host.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
