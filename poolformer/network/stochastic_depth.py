"""Stochastic depth of all blocks drawn at once, for the images that a batch holds of its step."""

import torch
from torch import Tensor, nn

from ..draws import StepPart
from .layers import DropPath


class StochasticDepth:
    """Draws what the branches of a network drop, by an image's place in the step; without it each branch draws itself.

    Args:
        network: Its `DropPath` modules are drawn for; others, as those of timm's models, go on drawing themselves.
    """

    def __init__(self, network: nn.Module):
        self._paths = [module for module in network.modules() if isinstance(module, DropPath) and module.rate > 0]
        self._kept = torch.tensor([[1 - path.rate] for path in self._paths])
        self._places: dict[tuple[int, ...], Tensor] = {}
        self._factors = torch.empty(0)
        self._generator = torch.Generator()

    def draw(self, part: StepPart, device: torch.device) -> None:
        """Draw for a batch; its modules use that until `forget`."""
        if not self._paths:
            return
        if device != self._kept.device:
            self._kept, self._places, self._generator = self._kept.to(device), {}, torch.Generator(device)
        dealt = (part.size, part.unit, part.units)
        if dealt not in self._places:
            self._places[dealt] = torch.from_numpy(part.places).to(device)
        self._generator.manual_seed(part.key("stochastic depth"))
        shape = len(self._paths), part.total
        chances = torch.rand(shape, generator=self._generator, device=device)[:, self._places[dealt]]
        if self._factors.shape != chances.shape or self._factors.device != device:
            self._factors = torch.empty_like(chances)
        # In the same memory at every step: a CUDA graph reads where it read when it was captured.
        torch.div(chances < self._kept, self._kept, out=self._factors)
        for path, drawn in zip(self._paths, self._factors.unbind(), strict=True):
            path.drawn = drawn

    def forget(self) -> None:
        """Have modules draw by themselves again."""
        for path in self._paths:
            path.drawn = None
