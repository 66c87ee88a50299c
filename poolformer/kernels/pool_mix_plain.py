"""`pool_mix` in plain PyTorch: maps (B, C, H, W) that lie channels last, a (C,), numbers a sample (B,)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .statistics import statistics


def forward(x: Tensor, a: Tensor, keep: Tensor, eps: float, pool_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``x + keep * a * rstd * (P - I)(x)``, mean and rstd."""
    mean, rstd = statistics(x.permute(0, 2, 3, 1), eps, a.dtype)
    y = x + _each(keep * rstd) * a[:, None, None] * _pool_minus_input(x.to(a.dtype), pool_size)
    return y.to(x.dtype).contiguous(memory_format=torch.channels_last), mean, rstd


def backward(
    gradient: Tensor, x: Tensor, a: Tensor, keep: Tensor, mean: Tensor, rstd: Tensor, pool_size: int
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and a."""
    sums = (gradient.to(a.dtype) * _pool_minus_input(x.to(a.dtype), pool_size)).sum((2, 3))
    d_a = ((keep * rstd)[:, None] * sums).sum(0)
    slope = keep * (a * sums).sum(1) * rstd**3 / x.shape[1:].numel()
    branch = _each(keep * rstd) * a[:, None, None] * gradient
    d_x = gradient + _pool_transposed(branch, pool_size) - branch - _each(slope) * (x - _each(mean))
    return d_x.to(x.dtype).contiguous(memory_format=torch.channels_last), d_a


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
