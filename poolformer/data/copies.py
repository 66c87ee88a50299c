"""Copies from the host to a GPU that neither side waits for; on a CPU there are none.

What is written here for CUDA has been read, not measured on a GPU.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor


def pinned(tensor: Tensor) -> Tensor:
    """Return a tensor of the host in memory that a GPU reads by itself, where there is a GPU."""
    return tensor.pin_memory() if has_gpu() else tensor


@cache
def has_gpu() -> bool:
    """Return whether there is a GPU of CUDA's; asked once, as PyTorch loads the driver's library each time."""
    return torch.cuda.is_available()


class SideStream:
    """Copies batches while the device still computes, in a stream of CUDA's beside that of the computation."""

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def __call__(self, copy: Callable[..., Any], batch: Any, device: torch.device, *arguments: Any) -> Any:
        """Return what a function makes of a batch, ready for the stream of the computation.

        Args:
            copy: Copies a batch to a device.
            batch: From pinned memory, or it is copied in the usual way.
            device: To copy to.
            arguments: Further ones of the function.
        """
        if device.type != "cuda":
            return copy(batch, device, *arguments)
        main = torch.cuda.current_stream(device)
        side = self._streams.get(device) or self._streams.setdefault(device, torch.cuda.Stream(device))
        with torch.cuda.stream(side):
            moved = copy(batch, device, *arguments)
        main.wait_stream(side)
        # Or its memory could be given to the next copy while it is still in use.
        apply_to_collection(moved, Tensor, lambda tensor: tensor.record_stream(main))
        return moved

    def __getstate__(self) -> dict[str, Any]:
        return {"_streams": {}}  # a process that is spawned has streams of its own
