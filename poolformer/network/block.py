"""One block of a MetaFormer, as the paper draws it (arXiv 2111.11418, fig. 1a).

    x = x + mixer(norm(x));  x = x + mlp(norm(x))

Shapes: B batch, C channels, H and W tokens along height and width. Parameter names are timm's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from .layers import ChannelMLP, DropPath, Scale


class BlockOptions(NamedTuple):
    """What all blocks of a network share; see `MetaFormer` for the meaning of each."""

    norm: Callable[[int], nn.Module]
    act: Callable[[], nn.Module]
    mlp_ratio: float
    mlp_bias: bool
    layer_scale_init: float | None
    residual_scale_init: float | None
    residual: bool
    channel_mlp: bool


class Computation(Protocol):
    """Another way to compute a block, from the block itself and (B, C, H, W)."""

    def __call__(self, block: Block, x: Tensor, /) -> Tensor: ...


class Block(nn.Module):
    """One MetaFormer block: token mixing, then channel mixing, each on a residual branch.

    Args:
        dim: Channels C.
        token_mixer: Module from (B, C, H, W) to the same shape.
        options: What all blocks share.
        drop_path_rate: Probability of skipping each of the two branches in training.

    Attributes:
        execution: Another way to compute the same; None for the two halves in turn.
    """

    execution: Computation | None = None

    def __init__(self, dim: int, token_mixer: nn.Module, options: BlockOptions, drop_path_rate: float):
        super().__init__()
        self.residual = options.residual
        self.norm1 = options.norm(dim)
        self.token_mixer = token_mixer
        self.layer_scale1 = _scale(dim, options.layer_scale_init)
        self.res_scale1 = _scale(dim, options.residual_scale_init)
        if options.channel_mlp:
            self.norm2 = options.norm(dim)
            self.mlp: ChannelMLP | nn.Identity = ChannelMLP(dim, options.mlp_ratio, options.act, bias=options.mlp_bias)
        else:  # the paper's ablation: the second branch is left with its layer scale
            self.norm2 = nn.Identity()
            self.mlp = nn.Identity()
        self.layer_scale2 = _scale(dim, options.layer_scale_init)
        self.res_scale2 = _scale(dim, options.residual_scale_init)
        self.drop_path1, self.drop_path2 = DropPath(drop_path_rate), DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        if self.execution is not None:
            return self.execution(self, x)
        return self.mix_channels(self.mix_tokens(x))

    def mix_tokens(self, x: Tensor) -> Tensor:
        """The first half of the block, of (B, C, H, W)."""
        mixed: Tensor = self.drop_path1(self.layer_scale1(self.token_mixer(self.norm1(x))))
        if self.residual:
            mixed = self.res_scale1(x) + mixed
        return mixed

    def mix_channels(self, x: Tensor) -> Tensor:
        """The second half."""
        mixed: Tensor = self.drop_path2(self.layer_scale2(self.mlp(self.norm2(x))))
        if self.residual:
            mixed = self.res_scale2(x) + mixed
        return mixed


def _scale(dim: int, init: float | None) -> nn.Module:
    return Scale(dim, init) if init else nn.Identity()
