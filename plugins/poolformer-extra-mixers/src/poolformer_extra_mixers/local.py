"""Mixers of a neighbourhood: tokens (B, C, H, W) to the same shape."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Shift(nn.Module):
    """A part of the channels moves by a token in each of the four directions (ShiftViT, arXiv 2201.10801).

    No parameters and no arithmetic; zeros move in at the border, the other channels stay.

    Args:
        dim: Channels C.
        share: Of the channels, for each direction: 1/12 in ShiftViT. At most 1/4.
        distance: In tokens.
    """

    linear_by_channel = True

    def __init__(self, dim: int, share: float = 1 / 12, distance: int = 1):
        super().__init__()
        if not 0 < share <= 0.25 or distance < 1:
            raise ValueError(f"share={share} lies in (0, 0.25] and distance={distance} is positive")
        self.moved, self.distance = max(int(dim * share), 1), distance

    def forward(self, x: Tensor) -> Tensor:
        (height, width), d = x.shape[2:], self.distance
        left, right, up, down, still = torch.tensor_split(x, [self.moved * n for n in range(1, 5)], dim=1)
        left = F.pad(left, (0, d, 0, 0))[..., d:]
        right = F.pad(right, (d, 0, 0, 0))[..., :width]
        up = F.pad(up, (0, 0, 0, d))[..., d:, :]
        down = F.pad(down, (0, 0, d, 0))[..., :height, :]
        return torch.cat([left, right, up, down, still], dim=1)


class LargeKernelAttention(nn.Module):
    """A large depthwise convolution, taken apart in three, gates its own input (VAN, arXiv 2202.09741).

    A kernel of 21 is a depthwise one of 5, a depthwise one of 7 over every third token, and one of 1 x 1.
    VAN adds the input once more inside; here the frame's residual branch is that.

    Args:
        dim: Channels C.
        kernel_size: Side K of the window that is reached, in tokens.
        dilation: Distance d of the sparse kernel's tokens; kernels of 2 d - 1 and of K / d (rounded up, odd) are made.
    """

    def __init__(self, dim: int, kernel_size: int = 21, dilation: int = 3):
        super().__init__()
        if dilation < 1 or kernel_size < dilation:
            raise ValueError(f"kernel_size={kernel_size} is at least dilation={dilation}, which is positive")
        near, far = 2 * dilation - 1, -(-kernel_size // dilation) // 2 * 2 + 1
        self.proj_in = nn.Conv2d(dim, dim, 1)
        self.near = nn.Conv2d(dim, dim, near, padding=near // 2, groups=dim)
        self.far = nn.Conv2d(dim, dim, far, padding=far // 2 * dilation, dilation=dilation, groups=dim)
        self.across = nn.Conv2d(dim, dim, 1)
        self.proj_out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        value = F.gelu(self.proj_in(x))
        return self.proj_out(value * self.across(self.far(self.near(value))))
