"""The channel-mixing half of a block as one operator, and its definition in plain PyTorch.

With n the norm without its weights, which only centres and scales each sample, the weights of the norm and the layer
scale s become part of the layers beside them, as in an inference form (see `poolformer.folding`):

    x + k s fc2(gelu(fc1(weight n(x) + bias)))  =  x + k (W2' gelu(W1' n(x) + b1') + b2')

    W1' = W1 weight,  b1' = b1 + W1 bias,  W2' = s W2,  b2' = s b2

What is left reads and writes as few maps as the matrix products of a library allow, and keeps two for the backward
pass, n(x) and the input of GELU; with ``recompute`` n(x) alone, a fifth. The gradients of the norm's weights and of the
layer scale follow from those of W1' and W2', without a pass over the map.

Shapes: x (B, C, H, W), channels last in memory; w1 (hidden, C, 1, 1) and w2 (C, hidden, 1, 1), as convolutions have
them; keep and rstd (B,). Inside the operators a map is (B, H W, C). They can be differentiated once.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import register_flop_formula

from .availability import autocast_dtype, runs_kernels, without_autocast


def channel_mix(
    x: Tensor,
    *,
    weight: Tensor,
    bias: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    eps: float,
    scale: Tensor | None = None,
    keep: Tensor | None = None,
    recompute: bool = False,
) -> Tensor:
    """Return ``x + keep * scale * fc2(gelu(fc1(norm(x))))`` in one operator; norm is a group norm of one group.

    In float32 its products are matrix products to PyTorch, so on a GPU ``torch.set_float32_matmul_precision`` decides
    on TF32, not cuDNN's switch. float16 has the separate operators: the product of weights and a layer scale of 1e-5
    would be zero.

    Args:
        x: (B, C, H, W).
        weight: Of the norm, (C,).
        bias: Of the norm, (C,).
        w1: Of fc1, (hidden, C, 1, 1).
        b1: Of fc1, (hidden,).
        w2: Of fc2, (C, hidden, 1, 1).
        b2: Of fc2, (C,).
        eps: Added to the variance.
        scale: Layer scale (C,); None for none.
        keep: Factor of each sample (B,): 0 where the branch is dropped; None for no stochastic depth.
        recompute: Compute fc1 again in the backward pass instead of keeping what it made.

    Returns:
        (B, C, H, W), channels last but in float16; float32 under autocast, whose type the matrix products have.
    """
    dtype, accumulate = x.dtype, torch.float64 if x.dtype == torch.float64 else torch.float32
    if autocast := autocast_dtype(x):
        dtype, x = autocast, x.float()
    if dtype == torch.float16:
        plain = partial(definition, eps=eps, scale=scale, keep=keep)
        if recompute and torch.is_grad_enabled():
            plain = partial(checkpoint, plain, use_reentrant=False)
        return plain(x, weight=weight, bias=bias, w1=w1, b1=b1, w2=w2, b2=b2)
    weight, bias = weight.to(w1.dtype), bias.to(w1.dtype)
    scale = torch.ones_like(b2) if scale is None else scale.to(w2.dtype)
    keep = x.new_ones(x.shape[0], dtype=accumulate) if keep is None else keep.to(accumulate)
    x = x.contiguous(memory_format=torch.channels_last)
    with without_autocast(x):
        return torch.ops.poolformer.channel_mix(x, weight, bias, w1, b1, w2, b2, scale, keep, eps, dtype, recompute)[0]


def definition(
    x: Tensor,
    *,
    weight: Tensor,
    bias: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    eps: float,
    scale: Tensor | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """Return what `channel_mix` returns, step by step as in the paper."""
    mixed = F.conv2d(F.gelu(F.conv2d(F.group_norm(x, 1, weight, bias, eps), w1, b1)), w2, b2)
    if scale is not None:
        mixed = scale[:, None, None] * mixed
    return x + (mixed if keep is None else keep[:, None, None, None] * mixed)


@torch.library.custom_op("poolformer::channel_mix", mutates_args=())
def _channel_mix(
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
    recompute: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the output, n(x), rstd, and the input of GELU, which is empty with ``recompute``."""
    tokens = _tokens(x)
    variance, mean = torch.var_mean(tokens.flatten(1).to(keep.dtype), 1, correction=0)
    rstd = torch.rsqrt(variance + eps)
    normed = _normalised(tokens, mean, rstd, dtype)
    hidden = _hidden(normed, weight, bias, w1, b1)
    mixed = F.linear(F.gelu(hidden), (scale[:, None] * w2.flatten(1)).to(dtype), (scale * b2).to(dtype))
    return _map(_added(tokens, mixed, keep), x), normed, rstd, hidden.new_empty(0) if recompute else hidden


@_channel_mix.register_fake
def _(
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
    recompute: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    samples, channels, height, width = x.shape
    normed = x.new_empty(samples, height * width, channels, dtype=dtype)
    hidden = x.new_empty(0 if recompute else (samples, height * width, w1.shape[0]), dtype=dtype)
    return torch.empty_like(x), normed, torch.empty_like(keep), hidden


@torch.library.custom_op("poolformer::channel_mix_backward", mutates_args=())
def _channel_mix_backward(
    gradient: Tensor,
    normed: Tensor,
    rstd: Tensor,
    hidden: Tensor,
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
    dtype, into = normed.dtype, _tokens(gradient.contiguous(memory_format=torch.channels_last))
    w1_flat, w2_flat = w1.flatten(1), w2.flatten(1)
    if not hidden.numel():
        hidden = _hidden(normed, weight, bias, w1, b1)
    d_mixed, sum_mixed = _scaled(into, keep, dtype)
    d_hidden, active, sum_hidden = _gelu_backward(d_mixed @ (scale[:, None] * w2_flat).to(dtype), hidden)
    along_w2 = (d_mixed.flatten(0, 1).T @ active.flatten(0, 1)).to(w2.dtype)
    del d_mixed, active
    along_w1 = (d_hidden.flatten(0, 1).T @ normed.flatten(0, 1)).to(w1.dtype)
    d_normed = d_hidden @ (w1_flat * weight).to(dtype)
    del d_hidden
    sum_mixed, sum_hidden = sum_mixed.to(b2.dtype), sum_hidden.to(b1.dtype)
    return (
        _map(_norm_backward(into, d_normed, normed, rstd), gradient),
        (along_w1 * w1_flat).sum(0),
        sum_hidden @ w1_flat,
        _laid_out_like(w1, along_w1 * weight + sum_hidden[:, None] * bias),
        sum_hidden,
        _laid_out_like(w2, scale[:, None] * along_w2),
        scale * sum_mixed,
        (along_w2 * w2_flat).sum(1) + b2 * sum_mixed,
    )


@_channel_mix_backward.register_fake
def _(
    gradient: Tensor,
    normed: Tensor,
    rstd: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    scale: Tensor,
    keep: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    d_x = torch.empty_like(gradient, memory_format=torch.channels_last)
    return d_x, *map(torch.empty_like, (weight, bias, w1, b1, w2, b2, scale))


def _keep_for_backward(ctx, inputs, output) -> None:
    _, *parameters, keep, _, _, _ = inputs
    _, normed, rstd, hidden = output
    ctx.save_for_backward(normed, rstd, hidden, *parameters, keep)
    ctx.mark_non_differentiable(normed, rstd, hidden)
    ctx.set_materialize_grads(False)  # theirs would be zeros as large as all that is kept


def _backward(ctx, gradient: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return (None,) * 12
    with without_autocast(gradient):
        return *torch.ops.poolformer.channel_mix_backward(gradient, *ctx.saved_tensors), None, None, None, None


_channel_mix.register_autograd(_backward, setup_context=_keep_for_backward)


@register_flop_formula(torch.ops.poolformer.channel_mix)
def _flops(x_shape, weight_shape, bias_shape, w1_shape, *_, **__) -> int:
    samples, _, height, width = x_shape
    return 2 * 2 * samples * height * width * math.prod(w1_shape)


@register_flop_formula(torch.ops.poolformer.channel_mix_backward)
def _backward_flops(gradient_shape, normed_shape, rstd_shape, hidden_shape, weight, bias, w1_shape, *_, **__) -> int:
    samples, _, height, width = gradient_shape
    products = 4 if math.prod(hidden_shape) else 5
    return products * 2 * samples * height * width * math.prod(w1_shape)


def _hidden(normed: Tensor, weight: Tensor, bias: Tensor, w1: Tensor, b1: Tensor) -> Tensor:
    w1 = w1.flatten(1)
    return F.linear(normed, (w1 * weight).to(normed.dtype), (b1 + w1 @ bias).to(normed.dtype))


# ---- what is not a matrix product, by Triton's kernels or step by step


def _normalised(tokens: Tensor, mean: Tensor, rstd: Tensor, dtype: torch.dtype) -> Tensor:
    if not runs_kernels(tokens):
        return ((tokens - _each(mean)) * _each(rstd)).to(dtype)
    from . import channel_mix_triton

    with torch.cuda.device_of(tokens):  # Triton launches on the current device
        return channel_mix_triton.normalise(tokens, mean, rstd, dtype)


def _added(tokens: Tensor, mixed: Tensor, keep: Tensor) -> Tensor:
    if not runs_kernels(tokens):
        return (tokens + _each(keep) * mixed).to(tokens.dtype)
    from . import channel_mix_triton

    with torch.cuda.device_of(tokens):
        return channel_mix_triton.add(tokens, mixed, keep)


def _scaled(tokens: Tensor, keep: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return ``keep * tokens``, and its sums (C,)."""
    if not runs_kernels(tokens):
        scaled = _each(keep) * tokens
        return scaled.to(dtype), scaled.sum((0, 1))
    from . import channel_mix_triton

    with torch.cuda.device_of(tokens):
        return channel_mix_triton.scale(tokens, keep, dtype)


def _gelu_backward(gradient: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of GELU's input, GELU's output, and the sums (hidden,) of the former."""
    if not runs_kernels(hidden):
        gradient = torch.ops.aten.gelu_backward(gradient, hidden)
        return gradient, F.gelu(hidden), gradient.sum((0, 1))
    from . import channel_mix_triton

    with torch.cuda.device_of(hidden):
        return channel_mix_triton.gelu_backward(gradient, hidden)


def _norm_backward(gradient: Tensor, d_normed: Tensor, normed: Tensor, rstd: Tensor) -> Tensor:
    if runs_kernels(gradient):
        from . import channel_mix_triton

        with torch.cuda.device_of(gradient):
            return channel_mix_triton.norm_backward(gradient, d_normed, normed, rstd)
    wide = d_normed.to(rstd.dtype)
    mean, along = wide.mean((1, 2)), (wide * normed).mean((1, 2))
    return (gradient + _each(rstd) * (wide - _each(mean) - _each(along) * normed)).to(gradient.dtype)


# ---- layouts


def _laid_out_like(weight: Tensor, gradient: Tensor) -> Tensor:
    """Give a gradient (out, in) the strides of its weight (out, in, 1, 1), in which DDP's buckets wait for it."""
    return torch.empty_like(weight).copy_(gradient[:, :, None, None])


def _tokens(x: Tensor) -> Tensor:
    """View a map (B, C, H, W) that lies channels last as (B, H W, C)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _map(tokens: Tensor, like: Tensor) -> Tensor:
    samples, channels, height, width = like.shape
    return tokens.view(samples, height, width, channels).permute(0, 3, 1, 2)


def _each(factors: Tensor) -> Tensor:
    """A number for each sample, (B,), to be multiplied with (B, H W, C)."""
    return factors[:, None, None]
