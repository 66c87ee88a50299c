"""What the fused operators find where they run: Triton's kernels, C++, autocast."""

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

# Constants, since compilers trace `runs_kernels`. Triton reads its variable when it is imported, as here.
try:
    import triton as _triton  # which Lightning imports in any case
except ImportError:
    _triton = None
_HAS_TRITON = _triton is not None
_INTERPRETS = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")
# But for these, which `poolformer.kernels.cpu` sets once, when the C++ is loaded.
_cpp_types: frozenset[torch.dtype] = frozenset()


def has_triton() -> bool:
    """Return whether Triton is installed and can be imported."""
    return _HAS_TRITON


@contextmanager
def as_if_interpreted() -> Iterator[None]:
    """Have tensors on CPUs take the way to Triton's kernels, as in its interpreter."""
    global _INTERPRETS
    before, _INTERPRETS = _INTERPRETS, True
    try:
        yield
    finally:
        _INTERPRETS = before


def runs_kernels(x: Tensor) -> bool:
    """Return whether Triton's kernels take this tensor: on a GPU or in the interpreter, and not in float64."""
    return _HAS_TRITON and (x.is_cuda or (_INTERPRETS and x.is_cpu)) and x.dtype != torch.float64


def runs_traceable_kernels() -> bool:
    """Return whether compilers can look into operators that launch Triton's kernels: it compiles them, too."""
    return _HAS_TRITON and not _INTERPRETS


def runs_eagerly(x: Tensor) -> bool:
    """Return whether Triton's kernels can be launched on a tensor as it is: it runs them, and nobody traces."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack() > 0
    return type(x) is Tensor and runs_kernels(x) and not traced


def wrapper(x: Tensor) -> Callable[[Any], Any]:
    """Return what a kernel goes through before it is launched on a tensor: nothing, or what shows it to compilers.

    ``wrap_triton`` itself takes microseconds for each launch.
    """
    return _as_it_is if type(x) is Tensor else _Shown


def _as_it_is(kernel: Any) -> Any:
    return kernel


class _Shown:
    """A kernel that a compiler sees, which chooses the options itself."""

    def __init__(self, kernel: Any):
        self.kernel = torch.library.wrap_triton(kernel)

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *arguments, **options: self.kernel[grid](*arguments)


def runs_cpp(x: Tensor, dtype: torch.dtype, *channels: int) -> bool:
    """Return whether the C++ for CPUs takes a map, with products of a type and of so many channels."""
    loaded = x.device.type == "cpu" and x.dtype in _cpp_types and dtype in _cpp_types and not runs_kernels(x)
    # Products in bfloat16 take two channels at a time.
    return loaded and (dtype == torch.float32 or all(number % 2 == 0 for number in channels))


def use_cpp(dtypes: Collection[torch.dtype]) -> None:
    """Have operators on CPUs run in C++, where maps and products have one of these types."""
    global _cpp_types
    _cpp_types = frozenset(dtypes)


def is_transformed() -> bool:
    """Return whether forward-mode differentiation or a transform of ``torch.func`` is under way.

    Operators have no tangents and no rules for `vmap`: PyTorch would take tangents for zero, without a word.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Return the type that autocast gives the products of a tensor; None where it leaves them alone, as in float64."""
    # PyTorch raises where it is asked about autocast on the meta device.
    if x.is_meta or x.dtype == torch.float64 or not torch.is_autocast_enabled(x.device.type):
        return None
    return torch.get_autocast_dtype(x.device.type)


def on_device_of(x: Tensor) -> AbstractContextManager:
    """Make the device of a tensor the current one, on which Triton launches."""
    elsewhere = x.is_cuda and type(x) is Tensor and x.device.index != torch.cuda.current_device()
    return torch.cuda.device_of(x) if elsewhere else nullcontext()


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Turn autocast off on the device of a tensor: it would reach into operators."""
    unasked = x.is_meta or not torch.is_autocast_enabled(x.device.type)
    return nullcontext() if unasked else torch.autocast(x.device.type, enabled=False)
