"""Where the Triton kernels of the fused operators can run."""

import functools

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
