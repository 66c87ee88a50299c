"""What ``--trainer.strategy fsdp`` is: weights, gradients and averages in shards, by PyTorch's ``fully_shard``.

A checkpoint is what one process alone would write, one file with all weights under their own names: it resumes on any
number of processes, with this strategy or another, and is written by `SafeCheckpointIO` like all others.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from ..errors import ConfigError
from .lightning_internals import is_compiled

FSDP = "fsdp"
_BLOCK = re.compile(r"(^|\.)blocks\.\d+$")
_PRECISIONS = (None, "32-true", "32", 32, "bf16-mixed")


class ShardedStrategy(ModelParallelStrategy):
    """Each process keeps a share of the weights and of the optimiser's averages; a block is whole while it computes.

    Lightning's strategy leaves the sharding to a hook of the model, and restores checkpoints after it. Here the
    strategy shards the backbone, once the weights are restored.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def setup_environment(self) -> None:
        """Give all processes a share of the data, those of one node too."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: pl.Trainer) -> None:
        """Shard the backbone, and build the optimisers of its shards.

        Raises:
            ConfigError: The backbone is compiled.
        """
        assert self.accelerator is not None
        assert self.model is not None
        backbone: Any = self.model.backbone
        if is_compiled(backbone):
            raise ConfigError(_refusal("--model.compile true", "leave it out, or use ddp"))
        self.accelerator.setup(trainer)
        self.model = self.precision_plugin.convert_module(self.model)
        self.model_to_device()
        shard(backbone, self.device_mesh["data_parallel"])
        self.barrier()
        if trainer.state.fn == "fit":
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    def on_validation_start(self) -> None:
        """Have all processes evaluate with the buffers of the first one, which are saved, as with DDP."""
        assert self.lightning_module is not None
        backbone: Any = self.lightning_module.backbone
        for buffer in backbone.buffers():
            torch.distributed.broadcast(buffer, src=0)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Gather the weights; all processes have to ask, and the first one is answered."""
        assert self.lightning_module is not None
        return self._gathered(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Gather the state of an optimiser, as `lightning_module_state_dict`."""
        return self._gathered(optimizer.state_dict())

    def _gathered(self, state: Any) -> Any:
        """Return state with whole tensors on the CPU; each is on the devices for as long as it is copied from there."""
        if isinstance(state, DTensor):
            whole = state.full_tensor()
            return whole.cpu() if self.is_global_zero else None
        if isinstance(state, Mapping):
            return {key: self._gathered(each) for key, each in state.items()}
        if isinstance(state, list):
            return [self._gathered(each) for each in state]
        return state

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load whole weights, into the shards where there are some already."""
        assert self.lightning_module is not None
        now = self.lightning_module.state_dict()
        weights = {name: _sharded_as(now.get(name), whole) for name, whole in checkpoint["state_dict"].items()}
        self.lightning_module.load_state_dict(weights, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load the whole states of optimisers into their shards."""
        for optimizer, whole in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict({**whole, "state": _sharded_states(optimizer, whole)})

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint as with any other strategy; each process takes its shards of it."""
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)


def shard(backbone: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a backbone, by its blocks and the rest; one that is sharded is left as it is.

    Args:
        backbone: Changed in place; the blocks are the members of what it calls ``blocks``.
        mesh: The processes that have a shard.
    """
    parameters = list(backbone.parameters())
    if any(isinstance(parameter, DTensor) for parameter in parameters):
        return
    for parameter in parameters:  # shards are cut along the first dimension, from channels last they could not be
        parameter.data = parameter.data.contiguous()
    blocks = [module for name, module in backbone.named_modules() if _BLOCK.search(name)]
    for module in [*reversed(blocks), backbone]:
        fully_shard(module, mesh=mesh)


def _sharded_as(now: Any, whole: Any) -> Any:
    """Return a process's shard of a tensor, laid out as another one; what does not fit is left to who loads it."""
    if not isinstance(now, DTensor) or not isinstance(whole, Tensor) or now.shape != whole.shape:
        return whole
    whole = whole.to(now.device).contiguous()
    return distribute_tensor(whole, now.device_mesh, now.placements, src_data_rank=None)  # all have read it


def _sharded_states(optimizer: Optimizer, whole: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in whole["param_groups"] for number in group["params"]]
    layout = dict(zip(numbers, parameters, strict=False))
    return {
        number: {key: _sharded_as(layout.get(number), value) for key, value in state.items()}
        for number, state in whole["state"].items()
    }


def strategy_of(options: Mapping[str, Any]) -> Any:
    """Return what Lightning is to take for the strategy that the options name.

    Args:
        options: Of the trainer.

    Raises:
        ConfigError: What is asked for beside sharding does not go with it, or another strategy shards by itself.
    """
    asked = options["strategy"]
    if isinstance(asked, ModelParallelStrategy) and not isinstance(asked, ShardedStrategy):
        raise ConfigError(
            f"--trainer.strategy {type(asked).__name__}: the model does not say how it is divided, and folders are no "
            "checkpoints here: pass --trainer.strategy fsdp"
        )
    if asked != FSDP:
        return asked
    for option, reason in _misfits(options):
        raise ConfigError(_refusal(option, reason))
    return ShardedStrategy()


def _refusal(option: str, reason: str) -> str:
    return f"--trainer.strategy fsdp does not go with {option}: {reason}"


def _misfits(options: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    given = options.get("callbacks") or []
    callbacks: list[Callback] = list(given) if isinstance(given, Sequence) else [given]
    averages = [type(each).__name__ for each in callbacks if isinstance(each, WeightAveraging)]
    asked = [
        (bool(averages), f"--trainer.callbacks {''.join(averages[:1])}", "it would average whole weights with shards"),
        (
            options.get("precision") not in _PRECISIONS,
            f"--trainer.precision {options.get('precision')}",
            "choose 32-true or bf16-mixed",
        ),
        (bool(options.get("sync_batchnorm")), "--trainer.sync_batchnorm true", "leave it out, or use ddp"),
    ]
    return [(option, reason) for is_asked, option, reason in asked if is_asked]


def local(tensor: Tensor) -> Tensor:
    """Return what this process has of a tensor: its shard, or all of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
