"""What DDP needs of a network, found out before training starts rather than in its second step."""

import copy

import torch
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
    unused = without_gradient(backbone, image_size=image_size)
    if unused and find_unused(strategy):
        more = f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
        rank_zero_warn(
            f"no gradient reaches the parameters {', '.join(unused[:_SHOWN])}{more}: DDP looks for such ones at each "
            "step, which takes a little time; take them away, or set requires_grad to False"
        )


def without_gradient(network: nn.Module, *, image_size: int) -> list[str]:
    """Return the names of the trained parameters that take no part in a network's output in training.

    Nothing is computed and nothing changed: shapes alone go forward and back, on the meta device. A network that does
    not run there counts as one that uses all of its parameters.

    Args:
        network: From images (B, 3, H, W), or what its own example is, to logits (B, K).
        image_size: H and W.
    """
    on_meta = copy.deepcopy(network).to("meta").train()
    trained = {name: parameter for name, parameter in on_meta.named_parameters() if parameter.requires_grad}
    try:
        with torch.enable_grad():
            example = example_input(on_meta, image_size=image_size)
            logits = on_meta(torch.cat([example, example]))
        gradients = torch.autograd.grad(logits.sum(), list(trained.values()), allow_unused=True)
    except Exception:  # of a mixer that makes tensors on a device, or asks for values
        return []
    return [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]
