"""Fused operators for the blocks of a network: which can use them, and where they pay.

The only place that knows both the operators of `poolformer.kernels` and the frame.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..kernels import cpu
from ..kernels.availability import has_triton
from ..kernels.channel_mix import channel_mix
from ..kernels.pool_mix import pool_mix
from ..registry import MIXERS, find
from .block import Block
from .execution import ChannelMixing, execution_of
from .layers import ChannelMLP, LayerNormChannel, Scale


class Fused(NamedTuple):
    """How many blocks have which half in a fused operator."""

    token_mixing: int
    channel_mixing: int


def fusing_pays(device_type: str, dtype: torch.dtype) -> bool:
    """Return whether fused operators are faster than separate ones: those with Triton's kernels, and those in C++.

    Those in C++ are loaded, and compiled if they never were; the log has the reason where they are not available.

    Args:
        device_type: Type of the device that they are to run on.
        dtype: Type of the products.
    """
    if device_type == "cuda":
        return has_triton()
    return device_type == "cpu" and dtype in cpu.load()


def fuse(network: nn.Module, device_type: str = "cpu") -> Fused:
    """Have the blocks of a network run in fused operators where they can, in place.

    The first half of a block can where the token mixer is the built-in pooling, the second where the channel MLP has
    GELU, whatever the mixer; the norm before either is a group norm of one group, and the residual connection has no
    scale. On a CPU the second half can also with `LayerNormChannel`, the norm of hybrids with attention: each token is
    a sample then, of which Triton would make a program each. Outputs and gradients stay the same up to rounding, the
    state dict as it is; hooks on the modules inside are not called any more. Ask `fusing_pays` first, which also loads
    those in C++: where they do not pay, fused blocks are slower.

    Args:
        network: Changed in place.
        device_type: Type of the device that it is to run on.
    """
    pooling = find(MIXERS, "pooling").load()
    blocks = [block for block in network.modules() if isinstance(block, Block) and block.residual]
    for block in blocks:
        block.execution = execution_of(block)._replace(
            mix_tokens=_mix_tokens if _pools(block, pooling) else None,
            mix_channels=_channel_mixing(block, device_type),
        )
    executions = [execution_of(block) for block in blocks]
    return Fused(
        token_mixing=sum(how.mix_tokens is not None for how in executions),
        channel_mixing=sum(how.mix_channels is not None for how in executions),
    )


def _pools(block: Block, pooling: object) -> bool:
    unscaled = isinstance(block.res_scale1, nn.Identity)
    return unscaled and type(block.token_mixer) is pooling and _norms_samples(block.norm1)


def _channel_mixing(block: Block, device_type: str) -> ChannelMixing | None:
    if not _has_plain_mlp(block):
        return None
    if _norms_samples(block.norm2):
        return _mix_channels
    return _mix_channels_of_tokens if device_type == "cpu" and _norms_tokens(block.norm2) else None


def _has_plain_mlp(block: Block) -> bool:
    mlp = block.mlp
    return (
        isinstance(block.res_scale2, nn.Identity)
        and type(mlp) is ChannelMLP
        and type(mlp.fc1) is type(mlp.fc2) is nn.Conv2d
        and type(mlp.act) is nn.GELU
        and mlp.act.approximate == "none"
    )


def _norms_samples(norm: nn.Module) -> bool:
    # Without a weight it has become part of the layer behind it, in an inference form.
    return type(norm) is nn.GroupNorm and norm.num_groups == 1 and norm.weight is not None


def _norms_tokens(norm: nn.Module) -> bool:
    return type(norm) is LayerNormChannel and norm.weight is not None


def _mix_tokens(block: Block, x: Tensor) -> Tensor:
    norm, pool = block.norm1, block.token_mixer.pool
    assert isinstance(norm, nn.GroupNorm)
    assert isinstance(pool, nn.AvgPool2d)
    assert isinstance(pool.kernel_size, int)
    return pool_mix(
        x,
        norm.weight,
        norm.bias,
        pool_size=pool.kernel_size,
        eps=norm.eps,
        scale=_factors(block.layer_scale1),
        keep=block.drop_path1.factors(x),
    )


def _mix_channels(block: Block, x: Tensor, *, recompute: bool) -> Tensor:
    return _mixed_channels(block, x, block.drop_path2.factors(x), recompute=recompute)


def _mix_channels_of_tokens(block: Block, x: Tensor, *, recompute: bool) -> Tensor:
    """A norm of each token is the norm of a sample that has no other: (B, C, H, W) as (B H W, C, 1, 1)."""
    keep, (samples, channels, height, width) = block.drop_path2.factors(x), x.shape
    tokens = x.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
    if keep is not None:
        keep = keep.repeat_interleave(height * width)
    mixed = _mixed_channels(block, tokens, keep, recompute=recompute)
    return mixed.reshape(samples, height, width, channels).permute(0, 3, 1, 2)


def _mixed_channels(block: Block, x: Tensor, keep: Tensor | None, *, recompute: bool) -> Tensor:
    norm, mlp = block.norm2, block.mlp
    assert isinstance(norm, nn.GroupNorm | LayerNormChannel)
    assert isinstance(mlp, ChannelMLP)
    return channel_mix(
        x,
        weight=norm.weight,
        bias=_bias_of(norm),
        w1=mlp.fc1.weight,
        b1=_bias_of(mlp.fc1),
        w2=mlp.fc2.weight,
        b2=_bias_of(mlp.fc2),
        eps=norm.eps,
        scale=_factors(block.layer_scale2),
        keep=keep,
        recompute=recompute,
    )


def _bias_of(module: nn.GroupNorm | LayerNormChannel | nn.Conv2d) -> Tensor:
    """The bias of a norm or of a layer (out,); zeros where it has none."""
    return module.weight.new_zeros(len(module.weight)) if module.bias is None else module.bias


def _factors(layer_scale: nn.Module) -> Tensor | None:
    return layer_scale.scale if isinstance(layer_scale, Scale) else None
