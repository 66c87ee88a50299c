"""What the machine does with a network: what DDP sends, and how AdamW runs."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from poolformer.backbones import create_backbone
from poolformer.errors import ConfigError
from poolformer.run.machine import check_graphs, fuses_adamw, keep_buffers_apart
from poolformer.run.resumed import set_fused


def test_buffers_that_may_change_are_those_of_the_first_process():
    """Running statistics are saved by the first one, and all have to evaluate with them."""
    of_constants, of_statistics, told = DDPStrategy(), DDPStrategy(), DDPStrategy(broadcast_buffers=True)
    keep_buffers_apart(of_constants, create_backbone("poolformer_tiny", num_classes=10))
    keep_buffers_apart(of_statistics, create_backbone("poolformer_tiny", num_classes=10, norm="batch"))
    keep_buffers_apart(told, create_backbone("poolformer_tiny", num_classes=10))
    found = [each._ddp_kwargs for each in (of_constants, of_statistics, told)]
    assert [list(each.values()) for each in found] == [[False], [], [True]]


def test_ddp_takes_what_it_is_told_without_a_warning():
    strategy = DDPStrategy()
    keep_buffers_apart(strategy, create_backbone("poolformer_tiny", num_classes=10))
    assert {*strategy._ddp_kwargs} <= {*inspect.signature(DistributedDataParallel).parameters}
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters:
        assert "broadcast_buffers" not in strategy._ddp_kwargs  # deprecated there


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "32-true"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_gradients_of_a_fused_optimiser_can_be_clipped(precision, clip):
    """Lightning clips no gradients of one in mixed precision."""
    on_gpu = SimpleNamespace(root_device=torch.device("cuda"))
    trainer = SimpleNamespace(strategy=on_gpu, precision=precision, gradient_clip_val=clip)
    plugin = Precision() if precision == "32-true" else MixedPrecision(precision, "cpu")
    weights = nn.Linear(3, 3)
    weights(torch.ones(1, 3)).sum().backward()
    optimizer = torch.optim.AdamW(weights.parameters(), fused=fuses_adamw(trainer))
    before = weights.weight.grad.norm()
    plugin.clip_gradients(optimizer, clip or 0.0)
    assert bool(weights.weight.grad.norm() < before) is (clip is not None)


def test_a_run_of_a_gpu_is_resumed_on_a_cpu_as_the_cpu_does_it():
    """Its AdamW is one kernel there, and here PyTorch's default, whose digits do not change."""
    weights = {name: nn.Linear(3, 3) for name in ("fused", "plain")}
    weights["plain"].load_state_dict(weights["fused"].state_dict())
    optimisers = {
        name: torch.optim.AdamW(layer.parameters(), fused=True if name == "fused" else None)
        for name, layer in weights.items()
    }
    for layer, optimiser in zip(weights.values(), optimisers.values(), strict=True):
        layer(torch.ones(1, 3)).sum().backward()
        optimiser.step()
    checkpoint = {"optimizer_states": [optimisers["fused"].state_dict()]}
    set_fused(checkpoint, None)
    optimisers["plain"].load_state_dict(checkpoint["optimizer_states"][0])
    optimisers["plain"].step()
    assert optimisers["plain"].param_groups[0]["fused"] is None
    assert {state["step"].item() for state in optimisers["plain"].state.values()} == {2}


@pytest.mark.parametrize(
    ("strategy", "accumulated", "refused"),
    [
        (SingleDeviceStrategy("cuda:0"), 1, None),
        (SingleDeviceStrategy("cpu"), 1, "needs an NVIDIA GPU, and this run is on cpu: --model.cuda_graphs false"),
        (DDPStrategy(parallel_devices=[torch.device("cuda")] * 2), 1, "is for one GPU: --trainer.devices 1, or"),
        (SingleDeviceStrategy("cuda:0"), 4, "--trainer.accumulate_grad_batches 1, or"),
    ],
    ids=["one GPU", "CPU", "two GPUs", "accumulated"],
)
def test_cuda_graphs_are_refused_where_they_cannot_be_captured(strategy, accumulated, refused):
    if isinstance(strategy, DDPStrategy):
        strategy.cluster_environment = LightningEnvironment()
    later = [GradientAccumulationScheduler({3: accumulated})]
    for times, callbacks in ((accumulated, []), (1, later)):
        _check(strategy, times, callbacks, refused)


def _check(strategy, accumulated, callbacks, refused):
    state = SimpleNamespace(fn="fit")
    options = {"strategy": strategy, "state": state, "accumulate_grad_batches": accumulated, "callbacks": callbacks}
    trainer = SimpleNamespace(**options)
    if refused is None:
        check_graphs(trainer)
        return
    with pytest.raises(ConfigError, match=refused):
        check_graphs(trainer)
