"""`channel_mix` in plain PyTorch: maps of T = B H W tokens (T, C), numbers a sample (B,)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .statistics import statistics


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    scale: Tensor,
    keep: Tensor,
    eps: float,
    dtype: torch.dtype,
    kept: int,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """Return the output, n(x), rstd, and W1' n(x); of the two maps only so many as are to be ``kept``."""
    tokens = _tokens(x)
    mean, rstd = statistics(x.permute(0, 2, 3, 1), eps, keep.dtype)
    normed = ((tokens - _each(mean, x)) * _each(rstd, x)).to(dtype)
    hidden = F.linear(normed, _fc1_weight(weight, w1, dtype))
    active = F.gelu(_wide(hidden) + _fc1_bias(bias, w1, b1)).to(dtype)
    mixed = F.linear(active, _fc2_weight(scale, w2, dtype))
    y = (tokens + _each(keep, x) * (_wide(mixed) + scale * b2)).to(x.dtype)
    return _map(y, x), normed if kept > 0 else None, rstd, hidden if kept > 1 else None


def backward(
    gradient: Tensor,
    normed: Tensor,
    rstd: Tensor,
    hidden: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    scale: Tensor,
    keep: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight, bias, w1, b1, w2, b2 and scale."""
    dtype, into = normed.dtype, _tokens(gradient)
    if hidden is None:
        hidden = F.linear(normed, _fc1_weight(weight, w1, dtype))
    d_mixed = (_each(keep, gradient) * into).to(dtype)
    d_hidden, active = _through_gelu(d_mixed @ _fc2_weight(scale, w2, dtype), hidden, _fc1_bias(bias, w1, b1))
    along_w2 = (d_mixed.T @ active).to(w2.dtype)
    sum_mixed = d_mixed.sum(0, dtype=keep.dtype).to(b2.dtype)
    del d_mixed, active, hidden
    along_w1 = (d_hidden.T @ normed).to(w1.dtype)
    sum_hidden = d_hidden.sum(0, dtype=keep.dtype).to(b1.dtype)
    d_normed = (d_hidden @ _fc1_weight(weight, w1, dtype)).to(rstd.dtype)
    del d_hidden
    mean, along = (_map(each, gradient).mean((1, 2, 3)) for each in (d_normed, d_normed * normed))
    d_normed = d_normed - _each(mean, gradient) - _each(along, gradient) * normed
    d_x = into + _each(rstd, gradient) * d_normed
    w1_flat = w1.flatten(1)
    return (
        _map(d_x.to(gradient.dtype), gradient),
        (along_w1 * w1_flat).sum(0),
        sum_hidden @ w1_flat,
        _laid_out_like(w1, along_w1 * weight + sum_hidden[:, None] * bias),
        sum_hidden,
        _laid_out_like(w2, scale[:, None] * along_w2),
        scale * sum_mixed,
        (along_w2 * w2.flatten(1)).sum(1) + b2 * sum_mixed,
    )


def _through_gelu(gradient: Tensor, hidden: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of ``hidden``, and ``gelu(hidden + bias)``."""
    shifted = _wide(hidden) + bias
    below = 0.5 + 0.5 * torch.erf(shifted * math.sqrt(0.5))
    density = (2 * math.pi) ** -0.5 * torch.exp(-0.5 * shifted.square())
    return (gradient * (below + shifted * density)).to(hidden.dtype), (shifted * below).to(hidden.dtype)


def _fc1_weight(weight: Tensor, w1: Tensor, dtype: torch.dtype) -> Tensor:
    return (w1.flatten(1) * weight).to(dtype)


def _fc1_bias(bias: Tensor, w1: Tensor, b1: Tensor) -> Tensor:
    return b1 + w1.flatten(1) @ bias


def _fc2_weight(scale: Tensor, w2: Tensor, dtype: torch.dtype) -> Tensor:
    return (scale[:, None] * w2.flatten(1)).to(dtype)


def _laid_out_like(weight: Tensor, gradient: Tensor) -> Tensor:
    """Give a gradient (out, in) the strides of its weight (out, in, 1, 1), in which DDP's buckets wait for it."""
    return torch.empty_like(weight).copy_(gradient[:, :, None, None])


def _tokens(x: Tensor) -> Tensor:
    """View a map (B, C, H, W) that lies channels last as (T, C)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _map(tokens: Tensor, like: Tensor) -> Tensor:
    samples, channels, height, width = like.shape
    return tokens.view(samples, height, width, channels).permute(0, 3, 1, 2)


def _each(factors: Tensor, x: Tensor) -> Tensor:
    """Hand numbers of the samples of a map to its tokens, (T, 1)."""
    return factors.repeat_interleave(x.shape[2] * x.shape[3])[:, None]


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
