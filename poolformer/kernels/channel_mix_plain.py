"""What of `channel_mix` is not a matrix product, in plain PyTorch: maps (B, H W, C), numbers a sample (B,).

Each function is the twin of one in `channel_mix_triton`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def normalise(x: Tensor, mean: Tensor, rstd: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``(x - mean) * rstd``."""
    return ((x - _each(mean)) * _each(rstd)).to(dtype)


def gelu(hidden: Tensor, bias: Tensor) -> Tensor:
    """Return ``gelu(hidden + bias)``."""
    return F.gelu(_wide(hidden) + bias).to(hidden.dtype)


def add(x: Tensor, mixed: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
    """Return ``x + keep * (mixed + bias)``."""
    return (x + _each(keep) * (_wide(mixed) + bias)).to(x.dtype)


def scale(x: Tensor, factor: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return ``factor * x`` and its sums over all tokens, (C,)."""
    scaled = (_each(factor) * x).to(dtype)
    return scaled, scaled.sum((0, 1), dtype=factor.dtype)


def gelu_backward(gradient: Tensor, hidden: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of ``hidden``, ``gelu(hidden + bias)``, and sums of the former over all tokens, (hidden,)."""
    shifted = _wide(hidden) + bias
    below = 0.5 + 0.5 * torch.erf(shifted * math.sqrt(0.5))
    density = (2 * math.pi) ** -0.5 * torch.exp(-0.5 * shifted.square())
    through = (gradient * (below + shifted * density)).to(hidden.dtype)
    return through, (shifted * below).to(hidden.dtype), through.sum((0, 1), dtype=shifted.dtype)


def norm_backward(gradient: Tensor, d_normed: Tensor, normed: Tensor, rstd: Tensor) -> Tensor:
    """Return ``gradient + rstd * (d - mean(d) - mean(d * normed) * normed)`` with d the gradient of ``normed``."""
    d = d_normed.to(rstd.dtype)
    mean, along = d.mean((1, 2)), (d * normed).mean((1, 2))
    return (gradient + _each(rstd) * (d - _each(mean) - _each(along) * normed)).to(gradient.dtype)


def _each(factors: Tensor) -> Tensor:
    return factors[:, None, None]


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
