"""Mixers by linear layers over the axes of the map: tokens (B, C, H, W) to the same shape."""

import torch
from torch import Tensor, nn


class AxisMLP(nn.Module):
    """A linear layer over each row, one over each column, fused with the token itself (sMLP, arXiv 2109.05422).

    Args:
        dim: Channels C.
        resolution: Tokens along H and W, which are fixed with this mixer.
    """

    def __init__(self, dim: int, *, resolution: tuple[int, int]):
        super().__init__()
        self.resolution = resolution
        height, width = resolution
        self.over_rows = nn.Linear(width, width)
        self.over_columns = nn.Linear(height, height)
        self.fuse = nn.Conv2d(3 * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != tuple(self.resolution):
            raise ValueError(f"axis_mlp was built for {self.resolution} tokens and got {tuple(x.shape[2:])}")
        columns = self.over_columns(x.transpose(2, 3)).transpose(2, 3)
        return self.fuse(torch.cat([self.over_rows(x), columns, x], dim=1))
