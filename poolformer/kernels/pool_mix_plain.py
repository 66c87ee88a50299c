"""What `pool_mix` is made of, in plain PyTorch: maps (B, C, H, W) that lie channels last, factors (B,), a (C,).

Each function is the twin of one in `pool_mix_triton`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def forward(x: Tensor, a: Tensor, factor: Tensor, pool_size: int) -> Tensor:
    """Return ``x + factor * a * (P - I)(x)``."""
    y = x + _each(factor) * a[:, None, None] * _pool_minus_input(x.to(a.dtype), pool_size)
    return y.to(x.dtype).contiguous(memory_format=torch.channels_last)


def gradient_sums(gradient: Tensor, x: Tensor, pool_size: int) -> Tensor:
    """Return the sums of ``gradient * (P - I)(x)`` over the tokens, (B, C)."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return (gradient.to(wide) * _pool_minus_input(x.to(wide), pool_size)).sum((2, 3))


def backward(
    gradient: Tensor, x: Tensor, a: Tensor, factor: Tensor, mean: Tensor, slope: Tensor, pool_size: int
) -> Tensor:
    """Return ``gradient + factor * a * (P^T - I)(gradient) - slope * (x - mean)``."""
    branch = _each(factor) * a[:, None, None] * gradient
    d_x = gradient + _pool_transposed(branch, pool_size) - branch - _each(slope) * (x - _each(mean))
    return d_x.to(x.dtype).contiguous(memory_format=torch.channels_last)


def _pool_minus_input(x: Tensor, pool_size: int) -> Tensor:
    return F.avg_pool2d(x, pool_size, 1, pool_size // 2, count_include_pad=False) - x


def _pool_transposed(x: Tensor, pool_size: int) -> Tensor:
    """Hand each token's share to the tokens it was pooled from: it is divided by the count at the source."""
    padding = pool_size // 2
    inside = torch.ones_like(x[:1, :1])
    counts = F.avg_pool2d(inside, pool_size, 1, padding, divisor_override=1)
    return F.avg_pool2d(x / counts, pool_size, 1, padding, divisor_override=1)


def _each(factors: Tensor) -> Tensor:
    return factors[:, None, None, None]
