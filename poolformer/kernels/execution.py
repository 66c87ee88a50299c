"""How a block is computed where it is not step by step as in `poolformer.metaformer.Block`."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..layers import ChannelMLP, Scale
from .availability import autocast_dtype
from .channel_mix import channel_mix
from .pool_mix import pool_mix


class Execution(NamedTuple):
    """How a block is computed; as it is, step by step.

    Attributes:
        pool_size: Of the pooling that the first half is made of, to be one operator.
        fused_mlp: Whether the second half is one operator.
        recompute: Keep only the block's input for the backward pass, which computes the rest again; with ``fused_mlp``
            also the normed input of the channel MLP.
    """

    pool_size: int | None = None
    fused_mlp: bool = False
    recompute: bool = False


def run(block: nn.Module, x: Tensor) -> Tensor:
    """Compute a `Block` of (B, C, H, W) as its ``execution`` says, equal up to rounding."""
    how = block.execution
    mix_tokens = block.mix_tokens if how.pool_size is None else partial(_pool_in_one, block, how.pool_size)
    recompute = how.recompute and torch.is_grad_enabled()
    if how.fused_mlp:
        # What is fused keeps little by itself.
        x = checkpoint(mix_tokens, x, use_reentrant=False) if recompute and how.pool_size is None else mix_tokens(x)
        return _channels_in_one(block, x, recompute=recompute)
    if recompute:
        return checkpoint(lambda x: _mix_channels_by_scaled_weights(block, mix_tokens(x)), x, use_reentrant=False)
    return block.mix_channels(mix_tokens(x))


def _mix_channels_by_scaled_weights(block: nn.Module, x: Tensor) -> Tensor:
    """Mix the channels with the layer scale as part of fc2's weights, where that is the same.

    The gradient of a layer scale behind fc2 needs fc2's output. Without it a checkpoint, which stops at the last tensor
    that it needs, stops before fc2.
    """
    scale, mlp, dtype = block.layer_scale2, block.mlp, autocast_dtype(x) or x.dtype
    plain = type(mlp) is ChannelMLP and type(mlp.fc2) is nn.Conv2d and isinstance(scale, Scale)
    if not plain or dtype == torch.float16:  # in which weights times a layer scale of 1e-5 are zero
        return block.mix_channels(x)
    mixed = block.drop_path(mlp(block.norm2(x), scale.scale))
    return block.res_scale2(x) + mixed if block.residual else mixed


def _pool_in_one(block: nn.Module, pool_size: int, x: Tensor) -> Tensor:
    return pool_mix(
        x,
        block.norm1.weight,
        block.norm1.bias,
        pool_size=pool_size,
        eps=block.norm1.eps,
        scale=_factors(block.layer_scale1),
        keep=block.drop_path.factors(x),
    )


def _channels_in_one(block: nn.Module, x: Tensor, *, recompute: bool) -> Tensor:
    return channel_mix(
        x,
        weight=block.norm2.weight,
        bias=block.norm2.bias,
        w1=block.mlp.fc1.weight,
        b1=block.mlp.fc1.bias,
        w2=block.mlp.fc2.weight,
        b2=block.mlp.fc2.bias,
        eps=block.norm2.eps,
        scale=_factors(block.layer_scale2),
        keep=block.drop_path.factors(x),
        recompute=recompute,
    )


def _factors(layer_scale: nn.Module) -> Tensor | None:
    return layer_scale.scale if isinstance(layer_scale, Scale) else None
