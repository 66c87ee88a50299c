"""What the fused operators find where they run: Triton's kernels, autocast."""

import functools
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


@functools.cache
def has_triton() -> bool:
    """Return whether Triton is installed."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def runs_kernels(x: Tensor) -> bool:
    """Return whether kernels take this tensor: on a GPU or in Triton's interpreter, and not in float64."""
    if x.dtype == torch.float64 or not has_triton():
        return False
    import triton

    return x.is_cuda or triton.knobs.runtime.interpret


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Return the type that autocast gives the products of a tensor; None where it leaves them alone, as in float64."""
    # PyTorch raises where it is asked about autocast on the meta device.
    if x.is_meta or x.dtype == torch.float64 or not torch.is_autocast_enabled(x.device.type):
        return None
    return torch.get_autocast_dtype(x.device.type)


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Turn autocast off on the device of a tensor: it would reach into operators."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
