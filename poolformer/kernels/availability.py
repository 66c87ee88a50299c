"""What the fused operators find where they run: Triton's kernels, autocast."""

import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# Constants, since compilers trace `runs_kernels`. Triton reads its variable when it is imported, as here; an installed
# Triton that cannot be imported is an error where its kernels are wanted.
_HAS_TRITON = importlib.util.find_spec("triton") is not None
_INTERPRETS = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


def has_triton() -> bool:
    """Return whether Triton is installed."""
    return _HAS_TRITON


def fusing_pays(device_type: str, *, compiled: bool) -> bool:
    """Return whether fused operators are faster than separate ones: those with kernels of Triton's or Inductor's."""
    if device_type == "cuda":
        return has_triton()
    return device_type == "cpu" and compiled


def runs_kernels(x: Tensor) -> bool:
    """Return whether Triton's kernels take this tensor: on a GPU or in the interpreter, and not in float64."""
    return _HAS_TRITON and (x.is_cuda or _INTERPRETS) and x.dtype != torch.float64


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Return the type that autocast gives the products of a tensor; None where it leaves them alone, as in float64."""
    # PyTorch raises where it is asked about autocast on the meta device.
    if x.is_meta or x.dtype == torch.float64 or not torch.is_autocast_enabled(x.device.type):
        return None
    return torch.get_autocast_dtype(x.device.type)


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Turn autocast off on the device of a tensor: it would reach into operators."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
