"""The paper's token mixers: modules from tokens (B, C, H, W) to mixed tokens of the same shape.

Nobody imports this file: it is reached through the entry points in ``pyproject.toml``, by the same
door as a plugin. The first line of each docstring is what ``poolformer mixers NAME`` prints.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ACTIVATIONS, Activation, check_resolution, choose, init_linear


class Pooling(nn.Module):
    """Average pooling minus the input, the mixer of PoolFormer (arXiv 2111.11418, eq. 4).

    The block adds its input back, so the sum is a plain average; positions outside the map do not
    count.

    Args:
        dim: Channels C; pooling has no parameters, so it is not used.
        pool_size: Side of the pooling window in tokens; odd.
    """

    linear_by_channel = True

    def __init__(self, dim: int, pool_size: int = 3):
        super().__init__()
        if pool_size < 1 or pool_size % 2 == 0:
            raise ValueError(f"pool_size must be odd and positive, so that the map keeps its size; got {pool_size}")
        self.pool = nn.AvgPool2d(pool_size, stride=1, padding=pool_size // 2, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.pool(x)
        return pooled - x


class Identity(nn.Module):
    """No mixing at all: the frame on its own (arXiv 2111.11418, table 5).

    Args:
        dim: Channels C; not used.
    """

    linear_by_channel = True

    def __init__(self, dim: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


class DepthwiseConv(nn.Module):
    """Depthwise convolution, a learned filter for each channel (arXiv 2111.11418, table 5).

    The paper does not state the kernel size; 3 is the authors' advice (sail-sg/poolformer#18).

    Args:
        dim: Channels C.
        kernel_size: Side of the filter in tokens; odd.
        bias: Whether each channel has a bias.
    """

    def __init__(self, dim: int, kernel_size: int = 3, bias: bool = True):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, so that the map keeps its size; got {kernel_size}")
        self.conv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.conv(x)
        return mixed


class SeparableConv(nn.Module):
    """Inverted separable convolution: wider, depthwise, narrower; the mixer of ConvFormer (arXiv 2210.13452, eq. 9).

    Args:
        dim: Channels C.
        expansion_ratio: The depthwise convolution has ``expansion_ratio * dim`` channels.
        kernel_size: Side of its filters in tokens; odd.
        act: Activation before it.
        bias: Whether the three convolutions have biases.
    """

    def __init__(
        self,
        dim: int,
        expansion_ratio: float = 2.0,
        kernel_size: int = 7,
        act: Activation = "star_relu",
        bias: bool = False,
    ):
        super().__init__()
        wide = int(expansion_ratio * dim)
        if wide < 1:
            raise ValueError(f"expansion_ratio must leave a channel, got {expansion_ratio} of {dim}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, so that the map keeps its size; got {kernel_size}")
        self.pwconv1 = nn.Conv2d(dim, wide, 1, bias=bias)
        self.act1 = choose("act", act, ACTIVATIONS)()
        self.dwconv = nn.Conv2d(wide, wide, kernel_size, padding=kernel_size // 2, groups=wide, bias=bias)
        self.pwconv2 = nn.Conv2d(wide, dim, 1, bias=bias)
        for layer in (self.pwconv1, self.dwconv, self.pwconv2):
            init_linear(layer)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.pwconv2(self.dwconv(self.act1(self.pwconv1(x))))
        return mixed


class Attention(nn.Module):
    """Multi-head self-attention over all tokens (arXiv 1706.03762), as in the paper's hybrids.

    Args:
        dim: Channels C; a multiple of ``head_dim`` unless it is smaller, then there is one head.
        head_dim: Channels of a head.
        qkv_bias: Whether queries, keys and values have a bias.
        proj_bias: Whether the projection behind them has one; in CAFormer it has none.
    """

    def __init__(self, dim: int, head_dim: int = 32, qkv_bias: bool = False, proj_bias: bool = True):
        super().__init__()
        self.head_dim = min(head_dim, dim)
        if dim % self.head_dim:
            raise ValueError(f"dim={dim} is not a multiple of head_dim={head_dim}")
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim, bias=proj_bias)
        init_linear(self.qkv)
        init_linear(self.proj)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (B, N, C), N = H*W
        qkv = self.qkv(tokens).unflatten(2, (3, -1, self.head_dim))  # (B, N, 3, heads, C / heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, C / heads)
        mixed: Tensor = F.scaled_dot_product_attention(query, key, value)
        mixed = self.proj(mixed.transpose(1, 2).flatten(2))  # (B, N, C)
        mixed = mixed.transpose(1, 2).unflatten(2, x.shape[2:])
        return mixed


class RandomMatrix(nn.Module):
    """A frozen random matrix mixes the tokens, its rows drawn from [0, 1) and put through softmax (table 5).

    Each block has its own; it is saved with the weights. The authors' code for version 1 of the paper
    was never released (sail-sg/poolformer#52); this is what its counts and the follow-up's code agree on.

    Args:
        dim: Channels C; not used.
        resolution: Tokens along H and W, which are fixed with this mixer.
    """

    linear_by_channel = True

    def __init__(self, dim: int, *, resolution: tuple[int, int]):
        super().__init__()
        self.resolution = resolution
        tokens = math.prod(resolution)
        # A parameter, not a buffer: DDP sends buffers around before every step, and S12 has 84 MB of these.
        self.random_matrix = nn.Parameter(torch.rand(tokens, tokens).softmax(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        check_resolution("random_matrix", x, self.resolution)
        return _unflattened(F.linear(x.flatten(2), self.random_matrix), self.resolution)


class SpatialFC(nn.Module):
    """One linear layer over the tokens, shared by all channels, as in the paper's hybrids (table 5).

    Args:
        dim: Channels C; not used.
        resolution: Tokens along H and W, which are fixed with this mixer.
    """

    linear_by_channel = True

    def __init__(self, dim: int, *, resolution: tuple[int, int]):
        super().__init__()
        self.resolution = resolution
        self.fc = nn.Linear(math.prod(resolution), math.prod(resolution), bias=False)
        init_linear(self.fc)

    def forward(self, x: Tensor) -> Tensor:
        check_resolution("spatial_fc", x, self.resolution)
        return _unflattened(self.fc(x.flatten(2)), self.resolution)


def _unflattened(mixed: Tensor, resolution: tuple[int, int]) -> Tensor:
    """Return tokens (B, C, N) as a map (B, C, H, W)."""
    unflattened: Tensor = mixed.unflatten(2, resolution)
    return unflattened
