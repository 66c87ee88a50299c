"""What DDP needs of a network, found out before training starts rather than in its second step."""

import copy
from collections.abc import Sequence

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ConfigError
from ..network.example import example_input
from .lightning_internals import find_unused, synchronises_batch_norms

_SHOWN = 3


def suit_processes(strategy: Strategy, backbone: nn.Module, *, image_size: int) -> None:
    """Have DDP look for parameters without a gradient at each step where the backbone has some, and name them.

    DDP waits for a gradient of every parameter, so that one that a token mixer leaves unused stops it.

    Args:
        strategy: Changed in place; what is no DDP is left alone.
        backbone: Only looked at.
        image_size: Side of the images in pixels.

    Raises:
        ConfigError: Batch norms are to be synchronised, and not on GPUs.
    """
    if not isinstance(strategy, DDPStrategy):
        return
    norms = [name for name, module in backbone.named_modules() if isinstance(module, _BatchNorm)]
    if norms and synchronises_batch_norms(strategy) and strategy.root_device.type != "cuda":
        raise ConfigError(
            f"--trainer.sync_batchnorm true works on GPUs alone, not on {strategy.root_device.type}, and {norms[0]} "
            "is a batch norm: leave it out, and each process has the statistics of its own images"
        )
    unused = _of_any_process(without_gradient(backbone, image_size=image_size))
    if unused and find_unused(strategy):
        more = f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
        rank_zero_warn(
            f"no gradient reaches the parameters {', '.join(unused[:_SHOWN])}{more}: DDP looks for such ones at each "
            "step, which takes a little time; take them away, or set requires_grad to False"
        )


def _of_any_process(names: Sequence[str]) -> list[str]:
    """Return the names that any process has: all have to look for gradients or none, to exchange the same."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(names)
    of_all: list[Sequence[str]] = [()] * dist.get_world_size()
    dist.all_gather_object(of_all, names)
    return list(dict.fromkeys(name for each in of_all for name in each))


def without_gradient(network: nn.Module, *, image_size: int) -> list[str]:
    """Return the names of the trained parameters that take no part in a network's output in one of two training steps.

    Nothing is computed and nothing changed: shapes alone go forward and back, on the meta device. A network that does
    not run there counts as one that uses all of its parameters.

    Args:
        network: From images (B, 3, H, W), or what its own example is, to logits (B, K).
        image_size: H and W.
    """
    on_meta = copy.deepcopy(network).to("meta").train()
    trained = {name: parameter for name, parameter in on_meta.named_parameters() if parameter.requires_grad}
    unused: set[str] = set()
    try:
        example = example_input(on_meta, image_size=image_size)
        for _ in range(2):  # what every other step uses is found, too
            with torch.enable_grad():
                logits = on_meta(torch.cat([example, example]))
            gradients = torch.autograd.grad(logits.sum(), list(trained.values()), allow_unused=True)
            unused |= {name for name, gradient in zip(trained, gradients, strict=True) if gradient is None}
    except Exception:  # of a mixer that makes tensors on a device, or asks for values
        return []
    return [name for name in trained if name in unused]
