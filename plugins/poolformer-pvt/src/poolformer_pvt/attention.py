"""Spatial-reduction attention: the attention of PVT's blocks, and a token mixer for any other network."""

import torch.nn.functional as F
from torch import Tensor, nn


class SpatialReductionAttention(nn.Module):
    """Self-attention with keys and values from a smaller map (PVT, arXiv 2102.12122, section 3.3).

    A strided convolution makes one key and one value of each square of ``sr_ratio`` x ``sr_ratio``
    tokens, so attention over N tokens costs N * N / sr_ratio**2. As in the authors' code, the squares
    start at the top left, and what is left over at the bottom and right has no keys. A map
    smaller than one square is filled up with zeros.

    Args:
        dim: Channels C; a multiple of ``head_dim`` unless it is smaller, then there is one head.
        head_dim: Channels of a head; 64 in PVT.
        sr_ratio: Side of the squares in tokens; 8, 4, 2, 1 in PVT's four stages. 1 is plain attention.
        qkv_bias: Whether queries, keys and values have a bias.
    """

    def __init__(self, dim: int, head_dim: int = 32, sr_ratio: int = 2, qkv_bias: bool = True):
        super().__init__()
        if sr_ratio < 1 or head_dim < 1:
            raise ValueError(f"sr_ratio={sr_ratio} and head_dim={head_dim} must be positive")
        self.sr_ratio = sr_ratio
        self.head_dim = min(head_dim, dim)
        if dim % self.head_dim:
            raise ValueError(f"dim={dim} is not a multiple of head_dim={head_dim}")
        self.q = linear(dim, dim, bias=qkv_bias)
        self.kv = linear(dim, 2 * dim, bias=qkv_bias)
        self.proj = linear(dim, dim)
        if sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, sr_ratio, stride=sr_ratio)
            self.norm = nn.LayerNorm(dim)  # with PyTorch's 1e-5, unlike the norms of the blocks

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W), in and out
        query = self.q(_tokens(x)).unflatten(2, (-1, self.head_dim)).transpose(1, 2)  # (B, heads, N, C / heads)
        key_value = self.kv(self._reduced(x)).unflatten(2, (2, -1, self.head_dim))  # (B, M, 2, heads, C / heads)
        key, value = key_value.permute(2, 0, 3, 1, 4)  # each (B, heads, M, C / heads)
        mixed = F.scaled_dot_product_attention(query, key, value)
        mixed = self.proj(mixed.transpose(1, 2).flatten(2))  # (B, N, C)
        return mixed.transpose(1, 2).unflatten(2, x.shape[2:])

    def _reduced(self, x: Tensor) -> Tensor:
        """A map (B, C, H, W) to the tokens (B, M, C) that keys and values are made of."""
        if self.sr_ratio == 1:
            return _tokens(x)
        rows, columns = (max(self.sr_ratio - side, 0) for side in x.shape[2:])
        if rows or columns:
            x = F.pad(x, (0, columns, 0, rows))
        return self.norm(_tokens(self.sr(x)))


def linear(in_features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
    """Make a linear layer as PVT draws its weights: std 0.02, cut at +-2 absolute, bias 0."""
    layer = nn.Linear(in_features, out_features, bias=bias)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # (B, C, H, W) to (B, N, C)
