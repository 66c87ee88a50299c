"""Other ways to compute a block than its two halves in turn, equal up to rounding: the hook for faster operators."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .block import Block, Computation
from .layers import ChannelMLP, Scale


class ChannelMixing(Protocol):
    """The second half of a block, of (B, C, H, W), as one operator that can recompute what it would keep."""

    def __call__(self, block: Block, x: Tensor, *, recompute: bool) -> Tensor: ...


class Execution(NamedTuple):
    """How a block is computed; what is None is computed as the block itself does.

    Attributes:
        mix_tokens: First half as one operator, which keeps little for the backward pass.
        mix_channels: Second half as one operator.
        recompute: Keep only the block's input for the backward pass, which computes the rest again; with
            ``mix_channels`` also the normed input of the channel MLP.
    """

    mix_tokens: Computation | None = None
    mix_channels: ChannelMixing | None = None
    recompute: bool = False

    def __call__(self, block: Block, x: Tensor) -> Tensor:
        """Compute a block of (B, C, H, W)."""
        recompute = self.recompute and torch.is_grad_enabled()
        mix_tokens = self.mix_tokens or Block.mix_tokens
        if self.mix_channels is not None:
            checkpointed = recompute and self.mix_tokens is None
            x = checkpoint(mix_tokens, block, x, use_reentrant=False) if checkpointed else mix_tokens(block, x)
            return self.mix_channels(block, x, recompute=recompute)
        if recompute:
            return checkpoint(
                lambda x: _mix_channels_by_scaled_weights(block, mix_tokens(block, x)), x, use_reentrant=False
            )
        return block.mix_channels(mix_tokens(block, x))


def execution_of(block: Block) -> Execution:
    """Return how a block is computed, to be changed by ``_replace``."""
    return block.execution if isinstance(block.execution, Execution) else Execution()


def _mix_channels_by_scaled_weights(block: Block, x: Tensor) -> Tensor:
    """Mix the channels with the layer scale as part of fc2's weights, where that is the same.

    The gradient of a layer scale behind fc2 needs fc2's output. Without it a checkpoint, which stops at the last tensor
    that it needs, stops before fc2.
    """
    scale, mlp = block.layer_scale2, block.mlp
    plain = type(mlp) is ChannelMLP and type(mlp.fc2) is nn.Conv2d and isinstance(scale, Scale)
    if not plain or _multiplies_in_float16(x):  # in which weights times a layer scale of 1e-5 are zero
        return block.mix_channels(x)
    mixed: Tensor = block.drop_path2(mlp(block.norm2(x), scale.scale))
    if block.residual:
        mixed = block.res_scale2(x) + mixed
    return mixed


def _multiplies_in_float16(x: Tensor) -> bool:
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):  # PyTorch raises where it is asked on the meta device
        return x.dtype == torch.float16
    return torch.get_autocast_dtype(x.device.type) == torch.float16
