"""Stochastic depth of all blocks drawn at once, for the images that a batch holds of its step."""

from typing import Any

import torch
from torch import Tensor, nn

from ..draws import StepPart
from .layers import DropPath


class StochasticDepth:
    """Draws what the branches of a network drop, by an image's place in the step; without it each branch draws itself.

    Args:
        network: Its `DropPath` modules are drawn for; others, as those of timm's models, go on drawing themselves.
        in_place: Whether to draw into the same memory at every step: a CUDA graph reads where it read when it was
            captured. The draws of a batch are then gone when the next is drawn, also for its backward pass.
    """

    def __init__(self, network: nn.Module, *, in_place: bool = False):
        self._in_place = in_place
        self._paths = [module for module in network.modules() if isinstance(module, DropPath) and module.rate > 0]
        self._kept = torch.tensor([[1 - path.rate] for path in self._paths])
        self._places: dict[tuple[int, ...], Tensor] = {}
        self._factors = torch.empty(0)
        self._generator: torch.Generator | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A generator is pickled as a tensor that is gone, with its shared memory, before a spawned process opens it.
        return {**vars(self), "_generator": None}

    def draw(self, part: StepPart, device: torch.device) -> None:
        """Draw for a batch; its modules use that until `forget`."""
        if not self._paths:
            return
        if device != self._kept.device:
            self._kept, self._places, self._generator = self._kept.to(device), {}, None
            self._factors = torch.empty(0)
        if self._generator is None:
            self._generator = torch.Generator(device)
        dealt = part[:3]
        if dealt not in self._places:
            self._places[dealt] = torch.from_numpy(part.places).to(device)
        self._generator.manual_seed(part.key("stochastic depth"))
        shape = len(self._paths), part.total
        chances = torch.rand(shape, generator=self._generator, device=device)[:, self._places[dealt]]
        factors = (chances < self._kept) / self._kept
        if self._in_place and self._factors.shape == factors.shape:
            factors = self._factors.copy_(factors)
        self._factors = factors
        for path, drawn in zip(self._paths, factors.unbind(), strict=True):
            object.__setattr__(path, "drawn", drawn)  # that of a module looks for a parameter, seventy times a step

    def forget(self) -> None:
        """Have modules draw by themselves again."""
        for path in self._paths:
            object.__setattr__(path, "drawn", None)
