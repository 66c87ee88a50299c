"""Mean and deviation of each sample, for the norms inside of fused operators."""

import torch
from torch import Tensor

from .availability import runs_kernels


def statistics(x: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return mean and ``1 / sqrt(variance + eps)`` of each sample, (B,).

    Args:
        x: (B, ...), each sample in one piece of memory.
        eps: Added to the variance.
        dtype: In which it is computed.
    """
    x = x.to(dtype)
    if runs_kernels(x):
        variance, mean = torch.var_mean(x.flatten(1), 1, correction=0)
    else:
        # Two passes, and not flattened: Inductor makes one with a division a number of var_mean, and would not make one
        # kernel of a map and of what is flattened.
        within = tuple(range(1, x.ndim))
        mean = x.mean(within, keepdim=True)
        variance = (x - mean).square().mean(within)
        mean = mean.flatten()
    return mean, torch.rsqrt(variance + eps)
