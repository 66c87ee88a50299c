"""`pool_mix` in Triton: maps (B, C, H, W) that lie channels last, sums in float32.

A program has a tile of tokens and channels of one sample. Neighbours are loaded again for each place of the
window; they are in the cache. What is a number for each sample or channel is worked out where it is needed: a kernel
costs more to launch than these take.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .availability import wrapper
from .moments_triton import OPTIONS, factor_of, mean_and_rstd, moments, up

_TILE_H, _TILE_W, _TILE_C = 4, 8, 32
_TILES = (_TILE_H, _TILE_W, _TILE_C)
_PROGRAMS = 1024


@triton.jit
def _count(position, side, reach: tl.constexpr):
    """How many positions of a window lie inside the map, along one axis."""
    return tl.minimum(position + reach, side - 1) - tl.maximum(position - reach, 0) + 1


@triton.jit
def _tile(tile, H, W, C, TILE_H: tl.constexpr, TILE_W: tl.constexpr, TILE_C: tl.constexpr):
    """Rows, columns and channels of a tile; what of it is inside."""
    tiles_w = tl.cdiv(W, TILE_W)
    token = tl.arange(0, TILE_H * TILE_W)
    row = (tile // tiles_w) * TILE_H + token // TILE_W
    column = (tile % tiles_w) * TILE_W + token % TILE_W
    channel = tl.program_id(2) * TILE_C + tl.arange(0, TILE_C)
    return row, column, channel, (row < H) & (column < W), channel < C


@triton.jit
def _load(start, row, column, channel, tokens, channels, W, C):
    offset = (row * W + column)[:, None] * C + channel[None, :]
    return tl.load(start + offset, mask=tokens[:, None] & channels[None, :], other=0.0).to(tl.float32)


@triton.jit
def _weight(WEIGHT, SCALE, channel, channels):
    return tl.load(WEIGHT + channel, mask=channels, other=0.0).to(tl.float32) * factor_of(SCALE, channel, channels)


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
def _forward(
    X, PARTS, WEIGHT, SCALE, KEEP, Y, MEAN, RSTD, H, W, C, CHUNK, COUNT, eps,
    POOL: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, TC: tl.constexpr,
):  # fmt: skip
    row, column, channel, tokens, channels = _tile(tl.program_id(1), H, W, C, TH, TW, TC)
    sample = tl.program_id(0).to(tl.int64)
    start = sample * H * W * C
    mean, rstd = mean_and_rstd(PARTS, sample, H * W * C, CHUNK, COUNT, eps)
    if tl.program_id(1) + tl.program_id(2) == 0:
        tl.store(MEAN + sample, mean)
        tl.store(RSTD + sample, rstd)
    own, mixed = _pool_minus_input(X + start, row, column, channel, tokens, channels, H, W, C, POOL)
    a = _weight(WEIGHT, SCALE, channel, channels) * (rstd * factor_of(KEEP, sample, sample >= 0))
    offset = (row * W + column)[:, None] * C + channel[None, :]
    tl.store(Y + start + offset, own + a[None, :] * mixed, mask=tokens[:, None] & channels[None, :])


@triton.jit
def _sums(
    G, X, WEIGHT, SCALE, PARTS, ALONG, H, W, C, TILES,
    POOL: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, TC: tl.constexpr,
):  # fmt: skip
    """Sums of ``gradient * (P - I)(x)`` over some of a sample's tiles: of each channel, and along the weights."""
    sample = tl.program_id(0).to(tl.int64)
    start = sample * H * W * C
    channel = tl.program_id(2) * TC + tl.arange(0, TC)
    total = tl.zeros((TC,), tl.float32)
    for tile in range(tl.program_id(1), TILES, tl.num_programs(1)):
        row, column, _, tokens, channels = _tile(tile, H, W, C, TH, TW, TC)
        _, mixed = _pool_minus_input(X + start, row, column, channel, tokens, channels, H, W, C, POOL)
        total += tl.sum(_load(G + start, row, column, channel, tokens, channels, W, C) * mixed, 0)
    group = sample * tl.num_programs(1) + tl.program_id(1)
    tl.store(PARTS + group * C + channel, total, mask=channel < C)
    along = tl.sum(_weight(WEIGHT, SCALE, channel, channel < C) * total, 0)
    tl.store(ALONG + group * tl.num_programs(2) + tl.program_id(2), along)


@triton.jit
def _backward(
    G, X, WEIGHT, SCALE, KEEP, MEAN, RSTD, ALONG, DX, H, W, C, COUNT,
    POOL: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr, TC: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    reach: tl.constexpr = POOL // 2
    row, column, channel, tokens, channels = _tile(tl.program_id(1), H, W, C, TH, TW, TC)
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
    along = tl.zeros((TILE,), tl.float32)
    for first in range(0, COUNT, TILE):
        part = first + tl.arange(0, TILE)
        along += tl.load(ALONG + sample * COUNT + part, mask=part < COUNT, other=0.0)
    rstd, keep = tl.load(RSTD + sample), factor_of(KEEP, sample, sample >= 0)
    slope = keep * tl.sum(along, 0) * rstd * rstd * rstd / (H * W * C)
    x = _load(X + start, row, column, channel, tokens, channels, W, C)
    a = _weight(WEIGHT, SCALE, channel, channels) * (rstd * keep)
    d_x = gradient + a[None, :] * (pooled - gradient) - slope * (x - tl.load(MEAN + sample))
    offset = (row * W + column)[:, None] * C + channel[None, :]
    tl.store(DX + start + offset, d_x, mask=tokens[:, None] & channels[None, :])


@triton.jit
def _parameters(
    PARTS, WEIGHT, SCALE, KEEP, RSTD, DWEIGHT, DBIAS, DSCALE, ROWS, GROUPS, C, TILE: tl.constexpr, TC: tl.constexpr
):
    """Gradients of weight and scale, and zeros for the bias, from the parts of all samples."""
    channel = tl.program_id(0) * TC + tl.arange(0, TC)
    channels = channel < C
    total = tl.zeros((TILE, TC), tl.float32)
    for first in range(0, ROWS, TILE):
        row = first + tl.arange(0, TILE)
        sample, rows = row // GROUPS, row < ROWS
        factor = tl.load(RSTD + sample, mask=rows, other=0.0) * factor_of(KEEP, sample, rows)
        offset = row.to(tl.int64)[:, None] * C + channel[None, :]
        part = tl.load(PARTS + offset, mask=rows[:, None] & channels[None, :], other=0.0)
        total += factor[:, None] * part
    d_a = tl.sum(total, 0)
    tl.store(DWEIGHT + channel, d_a * factor_of(SCALE, channel, channels), mask=channels)
    if SCALE is not None:
        weight = tl.load(WEIGHT + channel, mask=channels, other=0.0).to(tl.float32)
        tl.store(DSCALE + channel, d_a * weight, mask=channels)
    if DBIAS is not None:
        tl.store(DBIAS + channel, tl.zeros_like(d_a), mask=channels)


def forward(
    x: Tensor, weight: Tensor, scale: Tensor | None, keep: Tensor | None, eps: float, pool_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``x + keep * scale * weight * rstd * (P - I)(x)``, mean and rstd."""
    wrap_triton = wrapper(x)
    parts, chunk, count = moments(x)
    y = torch.empty_like(x)
    mean, rstd = (torch.empty(x.shape[0], dtype=torch.float32, device=x.device) for _ in range(2))
    wrap_triton(_forward)[_grid(x)](
        x, parts, weight, scale, keep, y, mean, rstd, *_sides(x), chunk, count, eps, pool_size, *_TILES, **OPTIONS
    )
    return y, mean, rstd


def backward(
    pool_size: int,
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    keep: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of x, weight, bias and scale; the same at every call, bit for bit."""
    wrap_triton = wrapper(x)
    samples, tiles, of_channels = _grid(x)
    sides, channels = _sides(x), x.shape[1]
    # Sums of groups of tiles, added up by who reads them: atomic additions would come in any order.
    groups = max(1, min(tiles, _PROGRAMS // max(1, samples * of_channels)))
    parts = torch.empty((samples, groups, channels), dtype=torch.float32, device=x.device)
    along = torch.empty((samples, groups, of_channels), dtype=torch.float32, device=x.device)
    wrap_triton(_sums)[samples, groups, of_channels](
        gradient, x, weight, scale, parts, along, *sides, tiles, pool_size, *_TILES, **OPTIONS
    )
    d_x, d_weight = torch.empty_like(x), torch.empty_like(weight)
    wrap_triton(_backward)[samples, tiles, of_channels](
        gradient, x, weight, scale, keep, mean, rstd, along, d_x, *sides, groups * of_channels,
        pool_size, *_TILES, 128, **OPTIONS,
    )  # fmt: skip
    d_bias, d_scale = (None if each is None else torch.empty_like(each) for each in (bias, scale))
    wrap_triton(_parameters)[(of_channels,)](
        parts, weight, scale, keep, rstd, d_weight, d_bias, d_scale,
        samples * groups, groups, channels, 64, _TILE_C, **OPTIONS,
    )  # fmt: skip
    return d_x, d_weight, d_bias, d_scale


def _grid(x: Tensor) -> tuple[int, int, int]:
    samples, channels, height, width = x.shape
    return samples, up(height, _TILE_H) * up(width, _TILE_W), up(channels, _TILE_C)


def _sides(x: Tensor) -> tuple[int, int, int]:
    return x.shape[2], x.shape[3], x.shape[1]
