"""What of `channel_mix` is not a matrix product, in plain PyTorch: maps (B, H W, C), numbers a sample (B,).

Each function is the twin of one in `channel_mix_triton`, written so that Inductor makes good kernels of it for CPUs.
"""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def normalise(x: Tensor, mean: Tensor, rstd: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``(x - mean) * rstd``."""
    return ((x - _each(mean)) * _each(rstd)).to(dtype)


def gelu(hidden: Tensor, bias: Tensor) -> Tensor:
    """Return ``gelu(hidden + bias)``."""
    return _gelu(_wide(hidden) + bias)[0].to(hidden.dtype)


def add(x: Tensor, mixed: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
    """Return ``x + keep * (mixed + bias)``."""
    return (x + _each(keep) * (_wide(mixed) + bias)).to(x.dtype)


def scale(x: Tensor, factor: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return ``factor * x`` and its sums over all tokens, (C,)."""
    scaled = (_each(factor) * x).to(dtype)
    return scaled, _token_sums(scaled)


def gelu_backward(gradient: Tensor, hidden: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of ``hidden``, ``gelu(hidden + bias)``, and sums of the former over all tokens, (hidden,)."""
    # The terms stand the other way round than in the forward pass: a compiler that met the same sum again would not
    # compute GELU again, but keep it, half as much again as ``hidden``.
    shifted = bias + _wide(hidden)
    active, below = _gelu(shifted)
    density = (2 * math.pi) ** -0.5 * torch.exp(-0.5 * shifted.square())
    through = (gradient * (below + shifted * density)).to(hidden.dtype)
    return through, active.to(hidden.dtype), _token_sums(through)


def norm_backward(gradient: Tensor, d_normed: Tensor, normed: Tensor, rstd: Tensor) -> Tensor:
    """Return ``gradient + rstd * (d - mean(d) - mean(d * normed) * normed)`` with d the gradient of ``normed``."""
    d = d_normed.to(rstd.dtype)
    mean, along = d.mean((1, 2)), (d * normed).mean((1, 2))
    return (gradient + _each(rstd) * (d - _each(mean) - _each(along) * normed)).to(gradient.dtype)


def _each(factors: Tensor) -> Tensor:
    return factors[:, None, None]


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _token_sums(x: Tensor) -> Tensor:
    """Sum (B, H W, C) over all tokens, in its type.

    As a product with ones: for a sum, Inductor would store x in float32 beside what it stores in x's own type.
    """
    tokens = x.flatten(0, 1)
    return (tokens.new_ones(1, tokens.shape[0]) @ tokens)[0]


# 0.5 + x P(x^2) / Q(x^2), in float32, is within 3e-7 of the share of a normal distribution below x, for x between -_END
# and _END; from the lowest power on. tests/golden/normal_share.py fits it.
_P = (0.39894158, 0.0581598218, 0.00614523089, 0.000409595856, 7.34946099e-06)
_Q = (1.0, 0.31244057, 0.0424973156, 0.003258356, 0.000147114045, 6.03677129e-07)
_END = 5.5


def _gelu(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return GELU of x, and the share of a normal distribution below x, of which it is x times.

    What Inductor makes of erf is the slowest part of a network on a CPU; a quotient takes half of its time there.
    """
    if not torch.compiler.is_compiling() or x.device.type != "cpu" or x.dtype == torch.float64:
        below = 0.5 + 0.5 * torch.erf(x * math.sqrt(0.5))
        return x * below, below
    inside = x.clamp(-_END, _END)
    below = (0.5 + inside * _polynomial(_P, inside.square()) / _polynomial(_Q, inside.square())).clamp(min=0.0)
    return x.clamp(min=-_END) * below, below  # far below zero what is left of the share would count


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    *others, highest = coefficients
    return functools.reduce(lambda value, coefficient: value * x + coefficient, reversed(others), highest)
