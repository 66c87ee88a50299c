"""`channel_mix` in Triton around PyTorch's matrix products: maps of T = B H W tokens, sums in float32.

A program has a tile of tokens and channels; each kernel reads and writes what it has to once. What is a number for each
sample or channel is worked out where it is needed: a kernel costs more to launch than these take.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .availability import wrapper
from .moments_triton import MOST, OPTIONS, chunks, factor_of, mean_and_rstd, moments, up

_TILE_T, _TILE_C = 32, 64
_TILES = (_TILE_T, _TILE_C)
_FLAT = 2048
# Of a kernel that adds up tokens: for each, a row of as many sums as it has channels is written and read.
_PROGRAMS = 4096
_LINES, _ACROSS = 8, 128


@triton.jit
def _tile(token, T, C, TILE_C: tl.constexpr):
    """Offsets of a tile of some tokens and this program's channels, what of it is inside, and the channels."""
    channel = tl.program_id(1) * TILE_C + tl.arange(0, TILE_C)
    inside = (token < T)[:, None] & (channel < C)[None, :]
    return token[:, None] * C + channel[None, :], inside, channel


@triton.jit
def _load(start, offset, inside):
    return tl.load(start + offset, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _normalise(X, PARTS, N, RSTD, SIZE, CHUNK, COUNT, eps, TILE: tl.constexpr):
    sample = tl.program_id(0).to(tl.int64)
    mean, rstd = mean_and_rstd(PARTS, sample, SIZE, CHUNK, COUNT, eps)
    if tl.program_id(1) == 0:
        tl.store(RSTD + sample, rstd)
    within = tl.program_id(1) * TILE + tl.arange(0, TILE)
    offset, inside = sample * SIZE + within, within < SIZE
    tl.store(N + offset, (_load(X, offset, inside) - mean) * rstd, mask=inside)


@triton.jit
def _fold(
    W1, B1, W2, B2, WEIGHT, BIAS, SCALE, W1_, B1_, W2_, B2_, C, HIDDEN, W1_OUT, W1_IN, W2_OUT, W2_IN,
    LINES: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """Make the norm's weights part of fc1, in the first programs, and the layer scale part of fc2."""
    of_fc1 = tl.cdiv(HIDDEN, LINES)
    line = tl.program_id(0) * LINES + tl.arange(0, LINES)
    if tl.program_id(0) < of_fc1:
        lines = line < HIDDEN
        bias = _load(B1, line, lines)
        for first in range(0, C, ACROSS):
            across = first + tl.arange(0, ACROSS)
            inside = lines[:, None] & (across < C)[None, :]
            w = _load(W1, line[:, None] * W1_OUT + across[None, :] * W1_IN, inside)
            bias += tl.sum(w * _load(BIAS, across, across < C)[None, :], 1)
            w *= _load(WEIGHT, across, across < C)[None, :]
            tl.store(W1_ + line[:, None] * C + across[None, :], w, mask=inside)
        tl.store(B1_ + line, bias, mask=lines)
    else:
        line -= of_fc1 * LINES
        lines = line < C
        scale = factor_of(SCALE, line, lines)
        tl.store(B2_ + line, scale * _load(B2, line, lines), mask=lines)
        scale = tl.zeros((LINES,), tl.float32) + scale
        for first in range(0, HIDDEN, ACROSS):
            across = first + tl.arange(0, ACROSS)
            inside = lines[:, None] & (across < HIDDEN)[None, :]
            w = _load(W2, line[:, None] * W2_OUT + across[None, :] * W2_IN, inside)
            tl.store(W2_ + line[:, None] * HIDDEN + across[None, :], scale[:, None] * w, mask=inside)


@triton.jit
def _below(h):
    """Share of a normal distribution below h."""
    return 0.5 + 0.5 * tl.erf(h * 0.7071067811865476)


@triton.jit
def _gelu(H, BIAS, ACTIVE, T, C, TILE_T: tl.constexpr, TILE_C: tl.constexpr):
    token = tl.program_id(0).to(tl.int64) * TILE_T + tl.arange(0, TILE_T)
    offset, inside, channel = _tile(token, T, C, TILE_C)
    h = _load(H, offset, inside) + _load(BIAS, channel, channel < C)[None, :]
    tl.store(ACTIVE + offset, h * _below(h), mask=inside)


@triton.jit
def _add(X, MIXED, BIAS, KEEP, Y, T, C, PER_SAMPLE, TILE_T: tl.constexpr, TILE_C: tl.constexpr):
    token = tl.program_id(0).to(tl.int64) * TILE_T + tl.arange(0, TILE_T)
    offset, inside, channel = _tile(token, T, C, TILE_C)
    mixed = _load(MIXED, offset, inside) + _load(BIAS, channel, channel < C)[None, :]
    if KEEP is not None:
        mixed *= _load(KEEP, token // PER_SAMPLE, token < T)[:, None]
    tl.store(Y + offset, _load(X, offset, inside) + mixed, mask=inside)


@triton.jit
def _scale(G, KEEP, Y, SUMS, T, C, HIDDEN, PER_SAMPLE, TILE_T: tl.constexpr, TILE_C: tl.constexpr):
    total = tl.zeros((TILE_C,), tl.float32)
    for first in range(tl.program_id(0) * TILE_T, T, tl.num_programs(0) * TILE_T):
        token = first + tl.arange(0, TILE_T).to(tl.int64)
        offset, inside, _ = _tile(token, T, C, TILE_C)
        y = _load(G, offset, inside)
        if KEEP is not None:
            y *= _load(KEEP, token // PER_SAMPLE, token < T)[:, None]
        tl.store(Y + offset, y, mask=inside)
        total += tl.sum(y, 0)
    channel = tl.program_id(1) * TILE_C + tl.arange(0, TILE_C)
    tl.store(SUMS + tl.program_id(0) * (HIDDEN + C) + HIDDEN + channel, total, mask=channel < C)


@triton.jit
def _gelu_backward(G, H, BIAS, D, ACTIVE, SUMS, T, HIDDEN, C, TILE_T: tl.constexpr, TILE_C: tl.constexpr):
    channel = tl.program_id(1) * TILE_C + tl.arange(0, TILE_C)
    bias = _load(BIAS, channel, channel < HIDDEN)[None, :]
    total = tl.zeros((TILE_C,), tl.float32)
    for first in range(tl.program_id(0) * TILE_T, T, tl.num_programs(0) * TILE_T):
        token = first + tl.arange(0, TILE_T).to(tl.int64)
        offset, inside, _ = _tile(token, T, HIDDEN, TILE_C)
        h = _load(H, offset, inside) + bias
        below = _below(h)
        density = 0.3989422804014327 * tl.exp(-0.5 * h * h)
        d = _load(G, offset, inside) * (below + h * density)
        tl.store(D + offset, d, mask=inside)
        tl.store(ACTIVE + offset, h * below, mask=inside)
        total += tl.sum(d, 0)
    tl.store(SUMS + tl.program_id(0) * (HIDDEN + C) + channel, total, mask=channel < HIDDEN)


@triton.jit
def _norm_sums(D, N, PARTS, SIZE, CHUNK, TILE: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * SIZE
    first = tl.program_id(1) * CHUNK
    last = tl.minimum(first + CHUNK, SIZE)
    total = 0.0
    along = 0.0
    for here in range(first, last, TILE):
        within = here + tl.arange(0, TILE)
        d = _load(D, start + within, within < last)
        # Not in tiles that are added up at the end: Triton 3.9 dies of those, in LLVM.
        total += tl.sum(d, 0)
        along += tl.sum(d * _load(N, start + within, within < last), 0)
    part = PARTS + (tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)) * 2
    tl.store(part, total)
    tl.store(part + 1, along)


@triton.jit
def _norm_backward(G, D, N, RSTD, PARTS, DX, SIZE, COUNT, TILE: tl.constexpr, MOST: tl.constexpr):
    sample = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, MOST)
    place = PARTS + (sample * COUNT + part) * 2
    mean = tl.sum(tl.load(place, mask=part < COUNT, other=0.0), 0) / SIZE
    along = tl.sum(tl.load(place + 1, mask=part < COUNT, other=0.0), 0) / SIZE
    within = tl.program_id(1) * TILE + tl.arange(0, TILE)
    offset, inside = sample * SIZE + within, within < SIZE
    d = _load(D, offset, inside) - mean - along * _load(N, offset, inside)
    tl.store(DX + offset, _load(G, offset, inside) + tl.load(RSTD + sample) * d, mask=inside)


@triton.jit
def _unfold(
    ALONG1, ALONG2, SUMS, WEIGHT, BIAS, W1, W2, B2, SCALE, DWEIGHT, DBIAS, DW1, DB1, DW2, DB2, DSCALE,
    C, HIDDEN, W1_OUT, W1_IN, W2_OUT, W2_IN, DW1_OUT, DW1_IN, DW2_OUT, DW2_IN,
    LINES: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """Gradients of all parameters from those of the folded layers: of the norm and fc1 in the first programs, by
    columns of fc1, of fc2 and the layer scale in the others, by rows of fc2."""
    of_fc1 = tl.cdiv(C, LINES)
    line = (tl.program_id(0) % of_fc1) * LINES + tl.arange(0, LINES)
    lines = line < C
    one = tl.zeros((LINES,), tl.float32)
    other = tl.zeros((LINES,), tl.float32)
    if tl.program_id(0) < of_fc1:
        weight, bias = _load(WEIGHT, line, lines), _load(BIAS, line, lines)
        for first in range(0, HIDDEN, ACROSS):
            row = first + tl.arange(0, ACROSS)
            inside = (row < HIDDEN)[:, None] & lines[None, :]
            along = _load(ALONG1, row[:, None] * C + line[None, :], inside)
            sums = _load(SUMS, row, row < HIDDEN)
            w = _load(W1, row[:, None] * W1_OUT + line[None, :] * W1_IN, inside)
            one += tl.sum(along * w, 0)
            other += tl.sum(sums[:, None] * w, 0)
            d_w = along * weight[None, :] + sums[:, None] * bias[None, :]
            tl.store(DW1 + row[:, None] * DW1_OUT + line[None, :] * DW1_IN, d_w, mask=inside)
            if tl.program_id(0) == 0:
                tl.store(DB1 + row, sums, mask=row < HIDDEN)
        tl.store(DWEIGHT + line, one, mask=lines)
        tl.store(DBIAS + line, other, mask=lines)
    else:
        scale = one + factor_of(SCALE, line, lines)
        for first in range(0, HIDDEN, ACROSS):
            across = first + tl.arange(0, ACROSS)
            inside = lines[:, None] & (across < HIDDEN)[None, :]
            along = _load(ALONG2, line[:, None] * HIDDEN + across[None, :], inside)
            one += tl.sum(along * _load(W2, line[:, None] * W2_OUT + across[None, :] * W2_IN, inside), 1)
            place = line[:, None] * DW2_OUT + across[None, :] * DW2_IN
            tl.store(DW2 + place, scale[:, None] * along, mask=inside)
        sums = _load(SUMS, HIDDEN + line, lines)
        tl.store(DB2 + line, scale * sums, mask=lines)
        if SCALE is not None:
            tl.store(DSCALE + line, one + _load(B2, line, lines) * sums, mask=lines)


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    scale: Tensor | None,
    keep: Tensor | None,
    eps: float,
    dtype: torch.dtype,
    kept: int,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """Return the output, n(x), rstd, and W1' n(x); of the two maps only so many as are to be ``kept``."""
    wrap_triton = wrapper(x)
    samples, channels, height, width = x.shape
    size, tokens = channels * height * width, samples * height * width
    parts, chunk, count = moments(x)
    normed = torch.empty((tokens, channels), dtype=dtype, device=x.device)
    rstd = torch.empty(samples, dtype=torch.float32, device=x.device)
    wrap_triton(_normalise)[samples, up(size, _FLAT)](x, parts, normed, rstd, size, chunk, count, eps, _FLAT, **OPTIONS)
    fc1, bias1, fc2, bias2 = _folded(x, weight, bias, w1, b1, w2, b2, scale, dtype)
    hidden = torch.mm(normed, fc1.t())
    active = torch.empty_like(hidden) if kept > 1 else hidden
    wrap_triton(_gelu)[_grid(hidden)](hidden, bias1, active, *hidden.shape, *_TILES, **OPTIONS)
    mixed, y = torch.mm(active, fc2.t()), torch.empty_like(x)
    wrap_triton(_add)[_grid(mixed)](x, mixed, bias2, keep, y, *mixed.shape, height * width, *_TILES, **OPTIONS)
    return y, normed if kept > 0 else None, rstd, hidden if kept > 1 else None


def backward(
    gradient: Tensor,
    normed: Tensor,
    rstd: Tensor,
    hidden: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    scale: Tensor | None,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Return the gradients of x, weight, bias, w1, b1, w2, b2 and scale; the same at every call, bit for bit."""
    wrap_triton = wrapper(gradient)
    samples, channels, height, width = gradient.shape
    size, (tokens, _), wide = channels * height * width, normed.shape, w1.shape[0]
    fc1, bias1, fc2, _ = _folded(gradient, weight, bias, w1, b1, w2, b2, scale, normed.dtype)
    if hidden is None:
        hidden = torch.mm(normed, fc1.t())
    # Sums of tokens that are far apart, added up below: atomic additions would come in any order.
    rows = max(1, min(up(tokens, _TILE_T), _PROGRAMS * _TILE_C // wide))
    sums = torch.empty((rows, wide + channels), dtype=torch.float32, device=gradient.device)
    d_mixed = torch.empty_like(normed)
    wrap_triton(_scale)[rows, up(channels, _TILE_C)](
        gradient, keep, d_mixed, sums, tokens, channels, wide, height * width, *_TILES, **OPTIONS
    )
    d_hidden, active = torch.mm(d_mixed, fc2), torch.empty_like(hidden)
    wrap_triton(_gelu_backward)[rows, up(wide, _TILE_C)](
        d_hidden, hidden, bias1, d_hidden, active, sums, tokens, wide, channels, *_TILES, **OPTIONS
    )
    along2, sums = torch.mm(d_mixed.t(), active), sums.sum(0)
    del d_mixed, active, hidden
    along1, d_normed = torch.mm(d_hidden.t(), normed), torch.mm(d_hidden, fc1)
    del d_hidden
    chunk, count = chunks(size, _FLAT)
    parts = torch.empty((samples, count, 2), dtype=torch.float32, device=gradient.device)
    wrap_triton(_norm_sums)[samples, count](d_normed, normed, parts, size, chunk, _FLAT, **OPTIONS)
    d_x = torch.empty_like(gradient)
    wrap_triton(_norm_backward)[samples, up(size, _FLAT)](
        gradient, d_normed, normed, rstd, parts, d_x, size, count, _FLAT, MOST.value, **OPTIONS
    )
    d_weight, d_bias, d_w1, d_b1, d_w2, d_b2 = map(torch.empty_like, (weight, bias, w1, b1, w2, b2))
    d_scale = None if scale is None else torch.empty_like(scale)
    wrap_triton(_unfold)[(2 * up(channels, _LINES),)](
        along1, along2, sums, weight, bias, w1, w2, b2, scale, d_weight, d_bias, d_w1, d_b1, d_w2, d_b2, d_scale,
        channels, wide, *w1.stride()[:2], *w2.stride()[:2], *d_w1.stride()[:2], *d_w2.stride()[:2],
        _LINES, _ACROSS, **OPTIONS,
    )  # fmt: skip
    return d_x, d_weight, d_bias, d_w1, d_b1, d_w2, d_b2, d_scale


def _folded(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    scale: Tensor | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return W1' (hidden, C) and W2' (C, hidden) in a type, b1' and b2' in float32."""
    wrap_triton = wrapper(x)
    wide, channels = w1.shape[:2]
    fc1 = torch.empty((wide, channels), dtype=dtype, device=x.device)
    fc2 = torch.empty((channels, wide), dtype=dtype, device=x.device)
    bias1 = torch.empty(wide, dtype=torch.float32, device=x.device)
    bias2 = torch.empty(channels, dtype=torch.float32, device=x.device)
    wrap_triton(_fold)[(up(wide, _LINES) + up(channels, _LINES),)](
        w1, b1, w2, b2, weight, bias, scale, fc1, bias1, fc2, bias2,
        channels, wide, *w1.stride()[:2], *w2.stride()[:2], _LINES, _ACROSS, **OPTIONS,
    )  # fmt: skip
    return fc1, bias1, fc2, bias2


def _grid(x: Tensor) -> tuple[int, int]:
    return up(x.shape[0], _TILE_T), up(x.shape[1], _TILE_C)
