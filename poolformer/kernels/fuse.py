"""Which blocks of a network can run in fused operators, and having them do so."""

from typing import NamedTuple

import torch
from torch import nn

from ..layers import ChannelMLP
from ..metaformer import Block
from ..registry import MIXERS, find
from . import cpu
from .availability import has_triton


class Fused(NamedTuple):
    """How many blocks have which half in a fused operator."""

    token_mixing: int
    channel_mixing: int


def fusing_pays(device_type: str, dtype: torch.dtype) -> bool:
    """Return whether fused operators are faster than separate ones: those with Triton's kernels, and those in C++.

    Those in C++ are loaded, and compiled if they never were; what they cannot be had for is in the log.

    Args:
        device_type: Of the device that they are to run on.
        dtype: Of the products.
    """
    if device_type == "cuda":
        return has_triton()
    return device_type == "cpu" and dtype in cpu.load()


def fuse(network: nn.Module) -> Fused:
    """Have the blocks of a network run in fused operators where they can, in place.

    The first half of a block can where the token mixer is the built-in pooling, the second where the channel MLP has
    GELU and biases, whatever the mixer; the norm before either is a group norm of one group, and the residual
    connection has no scale. Outputs and gradients stay the same up to rounding, the state dict as it is; hooks on the
    modules inside are not called any more. Ask `fusing_pays` first, which also loads those in C++: where they do not
    pay, fused blocks are slower.
    """
    pooling = find(MIXERS, "pooling").load()
    blocks = [block for block in network.modules() if isinstance(block, Block) and block.residual]
    for block in blocks:
        pools = type(block.token_mixer) is pooling and _plain(block.norm1, block.res_scale1)
        biases = getattr(block.norm2, "bias", None) is not None
        block.execution = block.execution._replace(
            pool_size=block.token_mixer.pool.kernel_size if pools else None,
            fused_mlp=biases and _plain(block.norm2, block.res_scale2) and _has_gelu(block.mlp),
        )
    return Fused(
        token_mixing=sum(block.execution.pool_size is not None for block in blocks),
        channel_mixing=sum(block.execution.fused_mlp for block in blocks),
    )


def _plain(norm: nn.Module, residual_scale: nn.Module) -> bool:
    known = type(norm) is nn.GroupNorm and norm.num_groups == 1 and norm.affine
    return known and isinstance(residual_scale, nn.Identity)


def _has_gelu(mlp: nn.Module) -> bool:
    known = type(mlp) is ChannelMLP and type(mlp.fc1) is type(mlp.fc2) is nn.Conv2d and type(mlp.act) is nn.GELU
    return known and mlp.act.approximate == "none" and mlp.fc1.bias is not None
