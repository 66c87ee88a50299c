"""Blocks that the backward pass computes again, of any network that can: less memory, more time."""

from typing import Any

from torch import nn

from ..errors import OptionsError, describe


def recompute(network: nn.Module) -> None:
    """Have the backward pass compute a network's blocks again from their inputs, which is less memory.

    The numbers are the same up to rounding.

    Raises:
        OptionsError: It has batch norms, whose statistics would count each batch twice, or no blocks to recompute.
    """
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise OptionsError("a network with batch norms cannot be recomputed: they would count each batch twice")
    try:
        set_grad_checkpointing: Any = network.set_grad_checkpointing
        set_grad_checkpointing(True)
    except Exception as error:  # of a plugin's backbone, or timm's
        raise OptionsError(f"this network cannot be recomputed: {describe(error)}") from error
