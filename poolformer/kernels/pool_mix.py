"""The token-mixing half of a PoolFormer block as one operator, and its definition in plain PyTorch.

With P the pooling, GN the norm, s the layer scale and k stochastic depth's factor of a sample:

    x + k s (P - I)(GN(x))  =  x + k a rstd (P - I)(x)        a = s * weight

since P - I takes any constant to zero: the norm's mean and bias drop out. So one pass over memory is enough where
separate operators take a dozen, and the backward pass needs x alone.

Shapes: x (B, C, H, W), channels last in memory; a (C,); keep, mean and rstd (B,).
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import pool_mix_plain
from .availability import (
    autocast_dtype,
    has_triton,
    is_transformed,
    on_device_of,
    runs_cpp,
    runs_eagerly,
    runs_kernels,
    without_autocast,
)
from .operators import Pass, dense, differentiated_once, register

if has_triton():  # by name, for compilers that look for the kernels of an operator
    from .pool_mix_triton import backward as backward_kernels
    from .pool_mix_triton import forward as forward_kernels


def pool_mix(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    pool_size: int,
    eps: float,
    scale: Tensor | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """Return ``x + keep * scale * (pool(norm(x)) - norm(x))`` in one operator; norm is a group norm of one group.

    Under forward-mode differentiation and the transforms of ``torch.func`` it is computed step by step.

    Args:
        x: (B, C, H, W).
        weight: Of the norm, (C,).
        bias: Of the norm, (C,), or None. The result does not depend on it; its gradient is zero.
        pool_size: Side of the pooling window; odd. Positions outside the map do not count.
        eps: Added to the variance.
        scale: Layer scale (C,); None for none.
        keep: Factor of each sample (B,): 0 where the branch is dropped; None for no stochastic depth.

    Returns:
        (B, C, H, W), channels last; float32 under autocast, as a norm's output is, unless x is float64.
    """
    if is_transformed():
        return definition(x, weight, bias, pool_size=pool_size, eps=eps, scale=scale, keep=keep)
    if autocast_dtype(x):
        x = x.float()
    weight, bias = dense(weight, x.shape[1], "weight"), dense(bias, x.shape[1], "bias")
    scale, keep = dense(scale, x.shape[1], "scale"), dense(keep, x.shape[0], "keep")
    x = x.contiguous(memory_format=torch.channels_last)
    if runs_eagerly(x):
        return Launched.apply(x, weight, bias, scale, keep, eps, pool_size)
    a = weight if scale is None else weight * scale
    if bias is not None:  # in the graph with factor zero: DDP waits for the gradient of every parameter
        a = a + 0.0 * bias
    accumulate = torch.float64 if x.dtype == torch.float64 else torch.float32
    keep = torch.ones(x.shape[0], device=x.device) if keep is None else keep
    operators = torch.ops.poolformer_cpu if runs_cpp(x, x.dtype) else torch.ops.poolformer
    with without_autocast(x):
        return operators.pool_mix(x, a.to(accumulate), keep.to(accumulate), eps, pool_size)[0]


def definition(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    pool_size: int,
    eps: float,
    scale: Tensor | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """Return what `pool_mix` returns, step by step as in the paper."""
    normed = F.group_norm(x, 1, weight, bias, eps)
    mixed = F.avg_pool2d(normed, pool_size, 1, pool_size // 2, count_include_pad=False) - normed
    if scale is not None:
        mixed = scale[:, None, None] * mixed
    return x + (mixed if keep is None else keep[:, None, None, None] * mixed)


def _forward(x: Tensor, a: Tensor, keep: Tensor, eps: float, pool_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, mean and rstd."""
    if runs_kernels(x):
        with on_device_of(x):
            return forward_kernels(x, a, None, keep, eps, pool_size)
    return pool_mix_plain.forward(x, a, keep, eps, pool_size)


def _gradients(
    gradient: Tensor,
    x: Tensor,
    a: Tensor,
    keep: Tensor,
    mean: Tensor,
    rstd: Tensor,
    pool_size: int,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and a.

    With S the sum of ``gradient * (P - I)(x)`` over the tokens of each channel, (B, C):

        d a = sum_b k rstd S;    d rstd = k sum_c a S
        d x = gradient + k a rstd (P^T - I) gradient - d rstd * rstd^3 / N * (x - mean)
    """
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    if runs_kernels(x):
        with on_device_of(x):
            return backward_kernels(pool_size, gradient, x, a, None, None, keep, mean, rstd)[:2]
    return pool_mix_plain.backward(gradient, x, a, keep, mean, rstd, pool_size)


class Launched(torch.autograd.Function):
    """The kernels of Triton without the operator around them, which takes as long as all that it launches."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        keep: Tensor | None,
        eps: float,
        pool_size: int,
    ) -> Tensor:
        with on_device_of(x):
            y, mean, rstd = forward_kernels(x, weight, scale, keep, eps, pool_size)
        ctx.save_for_backward(x, weight, bias, scale, keep, mean, rstd)
        ctx.pool_size = pool_size
        return y

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with on_device_of(gradient):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
            return *backward_kernels(ctx.pool_size, gradient, *ctx.saved_tensors), None, None, None


def _keep_for_backward(ctx, inputs, output) -> None:
    x, a, keep, _, ctx.pool_size = inputs
    _, mean, rstd = output
    ctx.save_for_backward(x, a, keep, mean, rstd)
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)


def _backward(
    compute: Callable[..., tuple[Tensor, Tensor]], ctx, gradient: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return (None,) * 5
    with without_autocast(gradient):
        return *compute(gradient, *ctx.saved_tensors, ctx.pool_size), None, None, None


def _shapes(x: Tensor, a: Tensor, keep: Tensor, eps: float, pool_size: int) -> tuple[Tensor, Tensor, Tensor]:
    mean, rstd = (x.new_empty(x.shape[0], dtype=a.dtype) for _ in range(2))
    return torch.empty_like(x), mean, rstd


def _shapes_backward(
    gradient: Tensor, x: Tensor, a: Tensor, keep: Tensor, mean: Tensor, rstd: Tensor, pool_size: int
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(a)


register(
    Pass("pool_mix", _forward, _shapes),
    Pass("pool_mix_backward", _gradients, _shapes_backward),
    keep=_keep_for_backward,
    backward=_backward,
)
