"""Which blocks of a network can run in fused operators, and having them do so."""

from torch import nn

from ..errors import OptionsError
from ..metaformer import Block
from ..registry import MIXERS, find
from .pool_mix import has_triton


def fuse(network: nn.Module) -> int:
    """Have the blocks of a network run in fused operators where they can, in place, and return how many do.

    A block can whose token mixer is the built-in pooling, whose norm is a group norm of one group, and which has its
    residual connection without a scale. Its outputs and gradients stay the same up to rounding, its state dict as it
    is; hooks on the modules inside its token-mixing half are not called any more.

    Raises:
        OptionsError: Triton is not installed.
    """
    if not has_triton():
        raise OptionsError("fused operators need Triton, which PyTorch brings along on Linux: pip install triton")
    blocks = [block for block in network.modules() if isinstance(block, Block) and _can(block)]
    for block in blocks:
        block.fused_pool_size = block.token_mixer.pool.kernel_size
    return len(blocks)


def _can(block: Block) -> bool:
    norm, mixer = block.norm1, block.token_mixer
    plain_norm = type(norm) is nn.GroupNorm and norm.num_groups == 1 and norm.affine
    return (
        plain_norm
        and type(mixer) is find(MIXERS, "pooling").load()
        and block.residual
        and isinstance(block.res_scale1, nn.Identity)
    )
