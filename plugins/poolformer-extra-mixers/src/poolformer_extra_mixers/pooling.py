"""Mixers by pooling: tokens (B, C, H, W) to the same shape."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StripPooling(nn.Module):
    """Means of whole rows and of whole columns gate each token (strip pooling, arXiv 2003.13328).

    Args:
        dim: Channels C.
        kernel_size: Of the convolutions along the strips, in tokens; odd.
    """

    def __init__(self, dim: int, kernel_size: int = 3):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}")
        reach = kernel_size // 2
        self.along_rows = nn.Conv2d(dim, dim, (1, kernel_size), padding=(0, reach))
        self.along_columns = nn.Conv2d(dim, dim, (kernel_size, 1), padding=(reach, 0))
        self.gate = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.along_columns(x.mean(3, keepdim=True))  # (B, C, H, 1)
        columns = self.along_rows(x.mean(2, keepdim=True))  # (B, C, 1, W)
        return x * self.gate(F.relu(rows + columns)).sigmoid()


class MultiGranularityPooling(nn.Module):
    """Pools over the map, over segments and over neighbours, and adds the three (PoNet, arXiv 2110.02442).

    The mean token asks all tokens by attention; what it hears, and the maximum of each segment, are multiplied
    into the tokens; the maximum of the neighbours is added. PoNet's segments are sentences, here they are squares.

    Args:
        dim: Channels C.
        segment: Side of a segment in tokens; segments at the right and bottom may be smaller.
        neighbours: Side of the window of the local maximum in tokens; odd.
    """

    def __init__(self, dim: int, segment: int = 4, neighbours: int = 3):
        super().__init__()
        if segment < 1 or neighbours < 1 or neighbours % 2 == 0:
            raise ValueError(f"segment={segment} must be positive and neighbours={neighbours} odd and positive")
        self.segment, self.neighbours = segment, neighbours
        self.proj = nn.Conv2d(dim, 6 * dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value, out, segmented, local = self.proj(x).chunk(6, dim=1)
        return (self._heard(query, key, value) + self._of_segments(segmented)) * out + F.max_pool2d(
            local, self.neighbours, stride=1, padding=self.neighbours // 2
        )

    def _heard(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of the mean query to all tokens: (B, C, 1, 1)."""
        mean = query.mean((2, 3))[:, None]  # (B, 1, C)
        key, value = (tensor.flatten(2).transpose(1, 2) for tensor in (key, value))  # (B, N, C)
        return F.scaled_dot_product_attention(mean, key, value).transpose(1, 2)[..., None]

    def _of_segments(self, x: Tensor) -> Tensor:
        """The maximum of each token's segment: (B, C, H, W)."""
        height, width = x.shape[2:]
        most = F.max_pool2d(x, self.segment, ceil_mode=True)
        return F.interpolate(most, scale_factor=self.segment)[..., :height, :width]


class SummaryMixing(nn.Module):
    """Each token meets the mean of all, both after a layer of their own (SummaryMixing, arXiv 2307.07421).

    Args:
        dim: Channels C.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.local = nn.Conv2d(dim, dim, 1)
        self.summary = nn.Conv2d(dim, dim, 1)
        self.combine = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.gelu(self.summary(x)).mean((2, 3), keepdim=True).expand_as(x)
        return F.gelu(self.combine(torch.cat([F.gelu(self.local(x)), mean], dim=1)))
