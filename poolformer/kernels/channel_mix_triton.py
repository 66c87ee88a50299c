"""The kernels of `channel_mix` in Triton: what is not a matrix product, on maps (B, H W, C), in float32.

A program has a tile of tokens and channels; each kernel reads and writes what it has to once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE_T, _TILE_C = 32, 64
_FLAT = 2048
# Triton 3.9 warns where it is not said, and 3.10 turns it off.
_OPTIONS = {"enable_fp_fusion": True}


@triton.jit
def _tile(T, C, TILE_T: tl.constexpr, TILE_C: tl.constexpr):
    """Offsets of this program's tile, what of it is inside, and its tokens and channels."""
    token = tl.program_id(0).to(tl.int64) * TILE_T + tl.arange(0, TILE_T)
    channel = tl.program_id(1) * TILE_C + tl.arange(0, TILE_C)
    inside = (token < T)[:, None] & (channel < C)[None, :]
    return token[:, None] * C + channel[None, :], inside, token, channel


@triton.jit
def _load(start, offset, inside):
    return tl.load(start + offset, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _normalise(X, MEAN, RSTD, N, T, C, PER_SAMPLE, TILE_T: tl.constexpr, TILE_C: tl.constexpr):
    offset, inside, token, _ = _tile(T, C, TILE_T, TILE_C)
    sample = token // PER_SAMPLE
    mean = _load(MEAN, sample, token < T)
    rstd = _load(RSTD, sample, token < T)
    x = _load(X, offset, inside)
    tl.store(N + offset, (x - mean[:, None]) * rstd[:, None], mask=inside)


@triton.jit
def _below(h):
    """Share of a normal distribution below h."""
    return 0.5 + 0.5 * tl.erf(h * 0.7071067811865476)


@triton.jit
def _gelu(H, BIAS, ACTIVE, T, C, TILE_T: tl.constexpr, TILE_C: tl.constexpr):
    offset, inside, _, channel = _tile(T, C, TILE_T, TILE_C)
    h = _load(H, offset, inside) + _load(BIAS, channel, channel < C)[None, :]
    tl.store(ACTIVE + offset, h * _below(h), mask=inside)


@triton.jit
def _add(X, MIXED, BIAS, KEEP, Y, T, C, PER_SAMPLE, TILE_T: tl.constexpr, TILE_C: tl.constexpr):
    offset, inside, token, channel = _tile(T, C, TILE_T, TILE_C)
    keep = _load(KEEP, token // PER_SAMPLE, token < T)
    mixed = _load(MIXED, offset, inside) + _load(BIAS, channel, channel < C)[None, :]
    tl.store(Y + offset, _load(X, offset, inside) + keep[:, None] * mixed, mask=inside)


@triton.jit
def _scale(X, FACTOR, Y, PARTS, T, C, PER_SAMPLE, TILE_T: tl.constexpr, TILE_C: tl.constexpr):
    offset, inside, token, channel = _tile(T, C, TILE_T, TILE_C)
    factor = _load(FACTOR, token // PER_SAMPLE, token < T)
    y = factor[:, None] * _load(X, offset, inside)
    tl.store(Y + offset, y, mask=inside)
    tl.store(PARTS + tl.program_id(0) * C + channel, tl.sum(y, 0), mask=channel < C)


@triton.jit
def _gelu_backward(G, H, BIAS, D, ACTIVE, PARTS, T, C, TILE_T: tl.constexpr, TILE_C: tl.constexpr):
    offset, inside, _, channel = _tile(T, C, TILE_T, TILE_C)
    h = _load(H, offset, inside) + _load(BIAS, channel, channel < C)[None, :]
    below = _below(h)
    density = 0.3989422804014327 * tl.exp(-0.5 * h * h)
    d = _load(G, offset, inside) * (below + h * density)
    tl.store(D + offset, d, mask=inside)
    tl.store(ACTIVE + offset, h * below, mask=inside)
    tl.store(PARTS + tl.program_id(0) * C + channel, tl.sum(d, 0), mask=channel < C)


@triton.jit
def _norm_sums(D, N, PARTS, SIZE, TILE: tl.constexpr):
    within = tl.program_id(1) * TILE + tl.arange(0, TILE)
    offset = tl.program_id(0).to(tl.int64) * SIZE + within
    d = _load(D, offset, within < SIZE)
    part = PARTS + (tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)) * 2
    tl.store(part, tl.sum(d, 0))
    tl.store(part + 1, tl.sum(d * _load(N, offset, within < SIZE), 0))


@triton.jit
def _norm_backward(G, D, N, RSTD, MEAN, ALONG, DX, SIZE, TILE: tl.constexpr):
    sample = tl.program_id(0).to(tl.int64)
    within = tl.program_id(1) * TILE + tl.arange(0, TILE)
    offset, inside = sample * SIZE + within, within < SIZE
    d = _load(D, offset, inside) - tl.load(MEAN + sample) - tl.load(ALONG + sample) * _load(N, offset, inside)
    tl.store(DX + offset, _load(G, offset, inside) + tl.load(RSTD + sample) * d, mask=inside)


def normalise(x: Tensor, mean: Tensor, rstd: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``(x - mean) * rstd``; mean and rstd are numbers a sample."""
    normed = torch.empty_like(x, dtype=dtype)
    _normalise[_grid(x)](x, mean, rstd, normed, *_sizes(x), x.shape[1], _TILE_T, _TILE_C, **_OPTIONS)
    return normed


def gelu(hidden: Tensor, bias: Tensor) -> Tensor:
    """Return ``gelu(hidden + bias)``."""
    active = torch.empty_like(hidden)
    _gelu[_grid(hidden)](hidden, bias, active, *_sizes(hidden), _TILE_T, _TILE_C, **_OPTIONS)
    return active


def add(x: Tensor, mixed: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
    """Return ``x + keep * (mixed + bias)``."""
    y = torch.empty_like(x)
    _add[_grid(x)](x, mixed, bias, keep, y, *_sizes(x), x.shape[1], _TILE_T, _TILE_C, **_OPTIONS)
    return y


def scale(x: Tensor, factor: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return ``factor * x`` and its sums over all tokens, (C,)."""
    grid, y = _grid(x), torch.empty_like(x, dtype=dtype)
    parts = x.new_empty(grid[0], x.shape[2], dtype=torch.float32)
    _scale[grid](x, factor, y, parts, *_sizes(x), x.shape[1], _TILE_T, _TILE_C, **_OPTIONS)
    return y, parts.sum(0)


def gelu_backward(gradient: Tensor, hidden: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradient of ``hidden``, ``gelu(hidden + bias)``, and the gradient's sums over all tokens, (hidden,).

    The first lies where ``gradient`` lay.
    """
    grid, active = _grid(hidden), torch.empty_like(hidden)
    parts = hidden.new_empty(grid[0], hidden.shape[2], dtype=torch.float32)
    _gelu_backward[grid](gradient, hidden, bias, gradient, active, parts, *_sizes(hidden), _TILE_T, _TILE_C, **_OPTIONS)
    return gradient, active, parts.sum(0)


def norm_backward(gradient: Tensor, d_normed: Tensor, normed: Tensor, rstd: Tensor) -> Tensor:
    """Return ``gradient + rstd * (d - mean(d) - mean(d * normed) * normed)`` with d the gradient of ``normed``."""
    size = normed.shape[1:].numel()
    grid = (len(normed), triton.cdiv(size, _FLAT))
    parts = normed.new_empty(*grid, 2, dtype=torch.float32)
    _norm_sums[grid](d_normed, normed, parts, size, _FLAT, **_OPTIONS)
    mean, along = (parts.sum(1) / size).T.contiguous()
    d_x = torch.empty_like(gradient)
    _norm_backward[grid](gradient, d_normed, normed, rstd, mean, along, d_x, size, _FLAT, **_OPTIONS)
    return d_x


def _grid(x: Tensor) -> tuple[int, int]:
    tokens, channels = _sizes(x)
    return triton.cdiv(tokens, _TILE_T), triton.cdiv(channels, _TILE_C)


def _sizes(x: Tensor) -> tuple[int, int]:
    return x.shape[0] * x.shape[1], x.shape[2]
