"""The token-mixing half of a PoolFormer block as one operator, and its definition in plain PyTorch.

With P the pooling, GN the norm, s the layer scale and k stochastic depth's factor of a sample:

    x + k s (P - I)(GN(x))  =  x + k a rstd (P - I)(x)        a = s * weight

since P - I takes any constant to zero: the norm's mean and bias drop out. So one pass over memory is enough where
separate operators take a dozen, and the backward pass needs x alone.

Shapes: x (B, C, H, W), channels last in memory; a (C,); keep, mean and rstd (B,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .availability import autocast_dtype, runs_kernels


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
    if autocast_dtype(x):
        x = x.float()
    a = weight if scale is None else weight * scale
    if bias is not None:  # in the graph with factor zero: DDP waits for the gradient of every parameter
        a = a + 0.0 * bias
    accumulate = torch.float64 if x.dtype == torch.float64 else torch.float32
    keep = torch.ones(x.shape[0], device=x.device) if keep is None else keep
    x = x.contiguous(memory_format=torch.channels_last)
    return torch.ops.poolformer.pool_mix(x, a.to(accumulate), keep.to(accumulate), eps, pool_size)[0]


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


@torch.library.custom_op("poolformer::pool_mix", mutates_args=())
def _pool_mix(x: Tensor, a: Tensor, keep: Tensor, eps: float, pool_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, mean and rstd."""
    # One sample lies in one piece, so this is a view and a reduction along memory.
    flat = x.permute(0, 2, 3, 1).flatten(1)
    variance, mean = torch.var_mean(flat.to(a.dtype), 1, correction=0)
    rstd = torch.rsqrt(variance + eps)
    if runs_kernels(x):
        from . import pool_mix_triton

        with torch.cuda.device_of(x):  # Triton launches on the current device
            return pool_mix_triton.forward(x, a, keep * rstd, pool_size), mean, rstd
    factor = (keep * rstd)[:, None, None, None] * a[:, None, None]
    y = x + factor * _pool_minus_input(x.to(a.dtype), pool_size)
    return y.to(x.dtype).contiguous(memory_format=torch.channels_last), mean, rstd


@_pool_mix.register_fake
def _(x: Tensor, a: Tensor, keep: Tensor, eps: float, pool_size: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), *(x.new_empty(x.shape[0], dtype=a.dtype) for _ in range(2))


@torch.library.custom_op("poolformer::pool_mix_backward", mutates_args=())
def _pool_mix_backward(
    gradient: Tensor, x: Tensor, a: Tensor, keep: Tensor, mean: Tensor, rstd: Tensor, pool_size: int
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and a.

    With S the sum of ``gradient * (P - I)(x)`` over the tokens of each channel, (B, C):

        d a = sum_b k rstd S;    d rstd = k sum_c a S
        d x = gradient + k a rstd (P^T - I) gradient - d rstd * rstd^3 / N * (x - mean)
    """
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    kernels = runs_kernels(x)
    if kernels:
        from . import pool_mix_triton

        with torch.cuda.device_of(x):
            sums = pool_mix_triton.gradient_sums(gradient, x, pool_size)
    else:
        sums = (gradient * _pool_minus_input(x.to(a.dtype), pool_size)).sum((2, 3))
    d_a = ((keep * rstd)[:, None] * sums).sum(0)
    d_rstd = keep * (a * sums).sum(1)
    slope = d_rstd * rstd**3 / x.shape[1:].numel()
    if kernels:
        with torch.cuda.device_of(x):
            return pool_mix_triton.backward(gradient, x, a, keep * rstd, mean, slope, pool_size), d_a
    branch = (keep * rstd)[:, None, None, None] * a[:, None, None] * gradient
    d_x = gradient + _pool_transposed(branch, pool_size) - branch
    d_x = d_x - slope[:, None, None, None] * (x - mean[:, None, None, None])
    return d_x.to(x.dtype).contiguous(memory_format=torch.channels_last), d_a


@_pool_mix_backward.register_fake
def _(
    gradient: Tensor, x: Tensor, a: Tensor, keep: Tensor, mean: Tensor, rstd: Tensor, pool_size: int
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(a)


def _keep_for_backward(ctx, inputs, output) -> None:
    x, a, keep, _, ctx.pool_size = inputs
    _, mean, rstd = output
    ctx.save_for_backward(x, a, keep, mean, rstd)
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)


def _backward(ctx, gradient: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return (None,) * 5
    d_x, d_a = torch.ops.poolformer.pool_mix_backward(gradient, *ctx.saved_tensors, ctx.pool_size)
    return d_x, d_a, None, None, None


_pool_mix.register_autograd(_backward, setup_context=_keep_for_backward)


def _pool_minus_input(x: Tensor, pool_size: int) -> Tensor:
    return F.avg_pool2d(x, pool_size, 1, pool_size // 2, count_include_pad=False) - x


def _pool_transposed(x: Tensor, pool_size: int) -> Tensor:
    """Hand each token's share to the tokens it was pooled from: it is divided by the count at the source."""
    padding = pool_size // 2
    inside = torch.ones_like(x[:1, :1])
    counts = F.avg_pool2d(inside, pool_size, 1, padding, divisor_override=1)
    return F.avg_pool2d(x / counts, pool_size, 1, padding, divisor_override=1)
