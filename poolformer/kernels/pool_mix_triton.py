"""The kernels of `pool_mix` in Triton: maps (B, C, H, W) that lie channels last, sums in float32.

A program has a tile of tokens and channels of one sample. Neighbours are loaded again for each place of the
window; they are in the cache.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE_H, _TILE_W, _TILE_C = 4, 8, 32
# Triton 3.9 warns where it is not said, and 3.10 turns it off.
_OPTIONS = {"enable_fp_fusion": True}


@triton.jit
def _count(position, side, reach: tl.constexpr):
    """How many positions of a window lie inside the map, along one axis."""
    return tl.minimum(position + reach, side - 1) - tl.maximum(position - reach, 0) + 1


@triton.jit
def _tile(H, W, C, TILE_H: tl.constexpr, TILE_W: tl.constexpr, TILE_C: tl.constexpr):
    """Rows, columns and channels of this program's tile; what of it is inside."""
    tiles_w = tl.cdiv(W, TILE_W)
    token = tl.arange(0, TILE_H * TILE_W)
    row = (tl.program_id(1) // tiles_w) * TILE_H + token // TILE_W
    column = (tl.program_id(1) % tiles_w) * TILE_W + token % TILE_W
    channel = tl.program_id(2) * TILE_C + tl.arange(0, TILE_C)
    return row, column, channel, (row < H) & (column < W), channel < C


@triton.jit
def _load(start, row, column, channel, tokens, channels, W, C):
    offset = (row * W + column)[:, None] * C + channel[None, :]
    return tl.load(start + offset, mask=tokens[:, None] & channels[None, :], other=0.0).to(tl.float32)


@triton.jit
def _pool_minus_input(start, row, column, channel, tokens, channels, H, W, C, POOL: tl.constexpr):
    reach: tl.constexpr = POOL // 2
    own = _load(start, row, column, channel, tokens, channels, W, C)
    total = tl.zeros_like(own)
    for down in tl.static_range(-reach, reach + 1):
        for right in tl.static_range(-reach, reach + 1):
            i, j = row + down, column + right
            inside = (i >= 0) & (i < H) & (j >= 0) & (j < W) & tokens
            total += _load(start, i, j, channel, inside, channels, W, C)
    count = (_count(row, H, reach) * _count(column, W, reach)).to(tl.float32)
    return own, total / tl.where(tokens, count, 1.0)[:, None] - own


@triton.jit
def _forward(X, A, FACTOR, Y, H, W, C, POOL: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, TC: tl.constexpr):
    row, column, channel, tokens, channels = _tile(H, W, C, TH, TW, TC)
    sample = tl.program_id(0).to(tl.int64)
    start = sample * H * W * C
    own, mixed = _pool_minus_input(X + start, row, column, channel, tokens, channels, H, W, C, POOL)
    a = tl.load(A + channel, mask=channels, other=0.0) * tl.load(FACTOR + sample)
    offset = (row * W + column)[:, None] * C + channel[None, :]
    tl.store(Y + start + offset, own + a[None, :] * mixed, mask=tokens[:, None] & channels[None, :])


@triton.jit
def _sums(G, X, PARTS, H, W, C, POOL: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, TC: tl.constexpr):
    row, column, channel, tokens, channels = _tile(H, W, C, TH, TW, TC)
    sample = tl.program_id(0).to(tl.int64)
    start = sample * H * W * C
    _, mixed = _pool_minus_input(X + start, row, column, channel, tokens, channels, H, W, C, POOL)
    gradient = _load(G + start, row, column, channel, tokens, channels, W, C)
    part = (sample * tl.num_programs(1) + tl.program_id(1)) * C + channel
    tl.store(PARTS + part, tl.sum(gradient * mixed, 0), mask=channels)


@triton.jit
def _backward(
    G, X, A, FACTOR, MEAN, SLOPE, DX, H, W, C, POOL: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, TC: tl.constexpr
):
    reach: tl.constexpr = POOL // 2
    row, column, channel, tokens, channels = _tile(H, W, C, TH, TW, TC)
    sample = tl.program_id(0).to(tl.int64)
    start = sample * H * W * C
    gradient = _load(G + start, row, column, channel, tokens, channels, W, C)
    pooled = tl.zeros_like(gradient)
    for down in tl.static_range(-reach, reach + 1):
        for right in tl.static_range(-reach, reach + 1):
            i, j = row + down, column + right
            inside = (i >= 0) & (i < H) & (j >= 0) & (j < W) & tokens
            # The transposed pooling: each neighbour gives what its own window counted.
            count = (_count(i, H, reach) * _count(j, W, reach)).to(tl.float32)
            share = _load(G + start, i, j, channel, inside, channels, W, C)
            pooled += share / tl.where(inside, count, 1.0)[:, None]
    x = _load(X + start, row, column, channel, tokens, channels, W, C)
    a = tl.load(A + channel, mask=channels, other=0.0) * tl.load(FACTOR + sample)
    d_x = gradient + a[None, :] * (pooled - gradient) - tl.load(SLOPE + sample) * (x - tl.load(MEAN + sample))
    offset = (row * W + column)[:, None] * C + channel[None, :]
    tl.store(DX + start + offset, d_x, mask=tokens[:, None] & channels[None, :])


def forward(x: Tensor, a: Tensor, factor: Tensor, pool_size: int) -> Tensor:
    """Return ``x + factor * a * (P - I)(x)``; factor is a number a sample, (B,)."""
    y = torch.empty_like(x)
    _forward[_grid(x)](x, a, factor, y, *_sides(x), pool_size, *_TILES, **_OPTIONS)
    return y


def gradient_sums(gradient: Tensor, x: Tensor, pool_size: int) -> Tensor:
    """Return the sums of ``gradient * (P - I)(x)`` over the tokens, (B, C); the same at every call, bit for bit."""
    grid = _grid(x)
    # A number for each tile, added up by PyTorch: atomic additions would come in any order.
    parts = x.new_empty(grid[0], grid[1], x.shape[1], dtype=torch.float32)
    _sums[grid](gradient, x, parts, *_sides(x), pool_size, *_TILES, **_OPTIONS)
    return parts.sum(1)


def backward(
    gradient: Tensor, x: Tensor, a: Tensor, factor: Tensor, mean: Tensor, slope: Tensor, pool_size: int
) -> Tensor:
    """Return ``gradient + factor * a * (P^T - I)(gradient) - slope * (x - mean)``."""
    d_x = torch.empty_like(x)
    _backward[_grid(x)](gradient, x, a, factor, mean, slope, d_x, *_sides(x), pool_size, *_TILES, **_OPTIONS)
    return d_x


_TILES = (_TILE_H, _TILE_W, _TILE_C)


def _grid(x: Tensor) -> tuple[int, int, int]:
    samples, channels, height, width = x.shape
    tiles = triton.cdiv(height, _TILE_H) * triton.cdiv(width, _TILE_W)
    return samples, tiles, triton.cdiv(channels, _TILE_C)


def _sides(x: Tensor) -> tuple[int, int, int]:
    return x.shape[2], x.shape[3], x.shape[1]
