"""Attention within windows: tokens (B, C, H, W) to the same shape."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a bias for each relative place (Swin, arXiv 2103.14030).

    Maps of any size: what a window lacks at the right and bottom is filled up with tokens that nobody attends
    to; along a side of the map that is no longer than a window, there is one of that length, which is not moved.
    Swin shifts the windows in every other block; here ``shift`` is an option of a stage.

    Args:
        dim: Channels C; a multiple of ``head_dim`` unless it is smaller, then there is one head.
        window_size: Side of the windows in tokens.
        shift: Tokens by which windows are moved along each side that is longer than a window, less than
            ``window_size``; Swin moves them along neither where one is not. Tokens that only meet around the border
            do not see each other.
        head_dim: Channels of a head.
    """

    def __init__(self, dim: int, window_size: int = 7, shift: int = 0, head_dim: int = 32):
        super().__init__()
        if window_size < 1 or not 0 <= shift < window_size or head_dim < 1:
            raise ValueError(
                f"window_size={window_size} and head_dim={head_dim} are positive, 0 <= shift={shift} < window_size"
            )
        self.head_dim = min(head_dim, dim)
        if dim % self.head_dim:
            raise ValueError(f"dim={dim} is not a multiple of head_dim={head_dim}")
        self.window_size, self.shift = window_size, shift
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        span = 2 * window_size - 1
        self.relative_bias = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim // self.head_dim, span**2), std=0.02))
        self.register_buffer("relative_index", _relative_index(window_size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        rows, columns = window = min(self.window_size, height), min(self.window_size, width)
        shifts = tuple(self.shift if side > self.window_size else 0 for side in (height, width))
        x = F.pad(x, (0, -width % columns, 0, -height % rows))
        if any(shifts):
            x = x.roll([-shift for shift in shifts], (2, 3))
        tokens = _windows(x, window)  # (B, windows, N, C), N = rows * columns
        qkv = self.qkv(tokens).unflatten(3, (3, -1, self.head_dim))
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5)  # each (B, windows, heads, N, C / heads)
        index = self.relative_index[:rows, :columns, :rows, :columns].flatten(2).flatten(0, 1)
        bias = self.relative_bias[:, index].to(query.dtype)  # (heads, N, N)
        mask = _apart(x, size=(height, width), window=window, shifts=shifts)[:, None]  # (windows, 1, N, N)
        bias = bias.masked_fill(mask, float("-inf"))
        # One batch of all windows: PyTorch's fused kernels take four dimensions.
        mixed = F.scaled_dot_product_attention(
            query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), bias.repeat(x.shape[0], 1, 1, 1)
        )
        mixed = self.proj(mixed.transpose(1, 2).flatten(2))  # (B * windows, N, C)
        mixed = mixed.unflatten(0, (-1, x.shape[2] // rows, x.shape[3] // columns)).unflatten(3, window)
        mixed = mixed.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        if any(shifts):
            mixed = mixed.roll(shifts, (2, 3))
        return mixed[..., :height, :width]


def _windows(x: Tensor, window: tuple[int, int]) -> Tensor:
    """A map (B, C, H, W) to the tokens of its windows (B, windows, N, C)."""
    x = x.unflatten(3, (-1, window[1])).unflatten(2, (-1, window[0]))
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)


def _apart(x: Tensor, *, size: tuple[int, int], window: tuple[int, int], shifts: tuple[int, ...]) -> Tensor:
    """Whether two tokens of a window of a map of that size, filled up and moved, were no neighbours or are filling."""
    regions = []
    for side, padded, shift in zip(size, x.shape[2:], shifts, strict=True):
        places = (torch.arange(padded, device=x.device) + shift) % padded  # before the shift
        regions.append((places < shift).long() + 2 * (places >= side))
    region = regions[0][:, None] * 4 + regions[1]
    region = _windows(region[None, None], window)[0, ..., 0]  # (windows, N)
    return region[:, :, None] != region[:, None, :]


def _relative_index(window_size: int) -> Tensor:
    """Where the bias of two tokens of a window stands: by row and column of the one, row and column of the other."""
    places = torch.arange(window_size)
    apart = places[:, None] - places + window_size - 1
    return apart[:, None, :, None] * (2 * window_size - 1) + apart[None, :, None, :]
