"""Mean and deviation of each sample, for the norms inside of fused operators."""

import torch
from torch import Tensor


def statistics(x: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return mean and ``1 / sqrt(variance + eps)`` of each sample, (B,).

    Args:
        x: (B, ...), each sample in one piece of memory.
        eps: Added to the variance.
        dtype: In which it is computed.
    """
    variance, mean = torch.var_mean(x.to(dtype).flatten(1), 1, correction=0)
    return mean, torch.rsqrt(variance + eps)
