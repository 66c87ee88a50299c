"""The channel-mixing half of a block as one operator, and its definition in plain PyTorch.

With n the norm without its weights, which only centres and scales each sample, the weights of the norm and the layer
scale s become part of the layers beside them, as in an inference form (see `poolformer.network.folding`):

    x + k s fc2(gelu(fc1(weight n(x) + bias)))  =  x + k (W2' gelu(W1' n(x) + b1') + b2')

    W1' = W1 weight,  b1' = b1 + W1 bias,  W2' = s W2,  b2' = s b2

What is left reads and writes as few maps as the matrix products of a library allow, and keeps two for the backward
pass, n(x) and the input of GELU; with ``recompute`` n(x) alone. The gradients of the norm's weights and of the
layer scale follow from those of W1' and W2', without a pass over the map. The products are made without their biases,
which whatever reads the product next adds.

On a GPU, and in Triton's interpreter, what is not a product is done by Triton's kernels. On a CPU all of it is done in
C++, where what is wide stays in a cache (see `poolformer.kernels.cpu`). Elsewhere, and in float64, it is plain PyTorch.

Shapes: x (B, C, H, W), channels last in memory; w1 (hidden, C, 1, 1) and w2 (C, hidden, 1, 1), as convolutions have
them; keep and rstd (B,). Inside the operators a map is (B, H W, C). They can be differentiated once.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from . import channel_mix_plain
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
from .operators import Pass, check_size, dense, differentiated_once, register

if has_triton():  # by name, for compilers that look for the kernels of an operator
    from .channel_mix_triton import backward as backward_kernels
    from .channel_mix_triton import forward as forward_kernels


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
    would be zero. So have forward-mode differentiation and the transforms of ``torch.func``, for which the operators
    have no rules.

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
        recompute: Compute fc1 again in the backward pass instead of keeping what it made; in C++ and bfloat16, always.

    Returns:
        (B, C, H, W), channels last but in float16; float32 under autocast, whose type the matrix products have.
    """
    dtype, accumulate = x.dtype, torch.float64 if x.dtype == torch.float64 else torch.float32
    if autocast := autocast_dtype(x):
        dtype, x = autocast, x.float()
    if dtype == torch.float16 or is_transformed():
        plain = partial(definition, eps=eps, scale=scale, keep=keep)
        if recompute and torch.is_grad_enabled() and not is_transformed():  # which take no checkpoints
            plain = partial(checkpoint, plain, use_reentrant=False)
        return plain(x, weight=weight, bias=bias, w1=w1, b1=b1, w2=w2, b2=b2)
    channels, hidden = x.shape[1], w1.shape[0]
    weight, bias = dense(weight, channels, "weight"), dense(bias, channels, "bias")
    b1, b2 = dense(b1, hidden, "b1"), dense(b2, channels, "b2")
    check_size(w1, hidden * channels, "w1")
    check_size(w2, hidden * channels, "w2")
    scale, keep = dense(scale, channels, "scale"), dense(keep, x.shape[0], "keep")
    x = x.contiguous(memory_format=torch.channels_last)
    kept = 0 if not torch.is_grad_enabled() else 1 if recompute else 2
    if runs_eagerly(x):
        return Launched.apply(x, weight, bias, w1, b1, w2, b2, scale, keep, eps, dtype, kept)
    weight, bias = weight.to(w1.dtype), bias.to(w1.dtype)
    scale = torch.ones_like(b2) if scale is None else scale.to(w2.dtype)
    keep = x.new_ones(x.shape[0], dtype=accumulate) if keep is None else keep.to(accumulate)
    parameters = (weight, bias, w1, b1, w2, b2, scale)
    with without_autocast(x):
        operators = torch.ops.poolformer
        if runs_cpp(x, dtype, *w1.shape[:2]):
            operators = torch.ops.poolformer_cpu
            if dtype == torch.bfloat16:  # in which fc1 takes less time than writing and reading what it made
                kept = min(kept, 1)
        return operators.channel_mix(x, *parameters, keep, eps, dtype, kept)[0]


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


def _forward(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the output, n(x), rstd, and W1' n(x); of the two maps only so many as are to be ``kept``."""
    others = (weight, bias, w1, b1, w2, b2, scale, keep, eps, dtype, kept)
    if runs_kernels(x):
        with on_device_of(x):
            y, normed, rstd, hidden = forward_kernels(x, *others)
    else:
        y, normed, rstd, hidden = channel_mix_plain.forward(x, *others)
    normed, hidden = (_of_samples(each, x, dtype) for each in (normed, hidden))
    return y, normed, rstd, hidden


def _of_samples(tokens: Tensor | None, x: Tensor, dtype: torch.dtype) -> Tensor:
    """View a map of all tokens by samples; an operator returns an empty one where there is none."""
    if tokens is None:
        return x.new_empty(0, dtype=dtype)
    return tokens.view(x.shape[0], x.shape[2] * x.shape[3], tokens.shape[-1])


def _gradients(
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
    of_tokens = hidden.flatten(0, 1) if hidden.dim() == 3 else None
    others = (weight, bias, w1, b1, w2, b2, scale, keep)
    gradient, normed = gradient.contiguous(memory_format=torch.channels_last), normed.flatten(0, 1)
    if runs_kernels(gradient):
        with on_device_of(gradient):
            return backward_kernels(gradient, normed, rstd, of_tokens, *others)  # type: ignore[return-value]
    return channel_mix_plain.backward(gradient, normed, rstd, of_tokens, *others)


class Launched(torch.autograd.Function):
    """The kernels of Triton without the operator around them, which takes as long as all that it launches."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *others: Any) -> Tensor:
        *parameters_and_keep, _, _, _ = others
        with on_device_of(x):
            y, *kept = forward_kernels(x, *others)
        ctx.save_for_backward(*kept, *parameters_and_keep)
        return y

    @staticmethod
    @differentiated_once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with on_device_of(gradient), without_autocast(gradient):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
            return *backward_kernels(gradient, *ctx.saved_tensors), None, None, None, None


# ---- the operators


def _keep_for_backward(ctx, inputs, output) -> None:
    _, *parameters, keep, _, _, _ = inputs
    _, normed, rstd, hidden = output
    ctx.save_for_backward(normed, rstd, hidden, *parameters, keep)
    ctx.mark_non_differentiable(normed, rstd, hidden)
    ctx.set_materialize_grads(False)  # theirs would be zeros as large as all that is kept


def _backward(
    compute: Callable[..., tuple[Tensor, ...]], ctx, gradient: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return (None,) * 12
    with without_autocast(gradient):
        return *compute(gradient, *ctx.saved_tensors), None, None, None, None


def _shapes(x: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _, _, w1, *_, keep, _, dtype, kept = others
    samples, channels, height, width = x.shape
    normed = x.new_empty((samples, height * width, channels) if kept > 0 else 0, dtype=dtype)
    hidden = x.new_empty((samples, height * width, w1.shape[0]) if kept > 1 else 0, dtype=dtype)
    return torch.empty_like(x), normed, torch.empty_like(keep), hidden


def _shapes_backward(gradient: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    _normed, _rstd, _hidden, *parameters, _keep = others
    d_x = torch.empty_like(gradient, memory_format=torch.channels_last)
    return d_x, *map(torch.empty_like, parameters)


def _flops(x_shape, weight_shape, bias_shape, w1_shape, *_, **__) -> int:
    samples, _, height, width = x_shape
    return 2 * 2 * samples * height * width * math.prod(w1_shape)


def _flops_backward(gradient_shape, normed_shape, rstd_shape, hidden_shape, weight, bias, w1_shape, *_, **__) -> int:
    samples, _, height, width = gradient_shape
    products = 4 if math.prod(hidden_shape) else 5
    return products * 2 * samples * height * width * math.prod(w1_shape)


register(
    Pass("channel_mix", _forward, _shapes, _flops),
    Pass("channel_mix_backward", _gradients, _shapes_backward, _flops_backward),
    keep=_keep_for_backward,
    backward=_backward,
)
