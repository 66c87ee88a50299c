"""Mean and deviation of each sample in Triton: a kernel that reads the map, and what another one makes of its parts."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .availability import wrapper

_TILE = 4096
MOST: tl.constexpr = tl.constexpr(64)
# Triton 3.9 warns where it is not said, and 3.10 turns it off.
OPTIONS = {"enable_fp_fusion": True}


@triton.jit
def _moments(X, PARTS, SIZE, CHUNK, TILE: tl.constexpr):
    """Mean, and squared distances from it, of a chunk of a sample: squares of numbers far from zero would cancel."""
    start = X + tl.program_id(0).to(tl.int64) * SIZE
    first = tl.program_id(1) * CHUNK
    last = tl.minimum(first + CHUNK, SIZE)
    mean = 0.0
    squares = 0.0
    for here in range(first, last, TILE):
        within = here + tl.arange(0, TILE)
        x = tl.load(start + within, mask=within < last, other=0.0).to(tl.float32)
        count = tl.minimum(last - here, TILE).to(tl.float32)
        own = tl.sum(x, 0) / count
        distance = tl.where(within < last, x - own, 0.0)
        before = (here - first).to(tl.float32)
        delta = own - mean
        squares += tl.sum(distance * distance, 0) + delta * delta * before * count / (before + count)
        mean += delta * count / (before + count)
    part = PARTS + (tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)) * 2
    tl.store(part, mean)
    tl.store(part + 1, squares)


@triton.jit
def mean_and_rstd(PARTS, sample, SIZE, CHUNK, COUNT, eps):
    """Put the parts of a sample together."""
    part = tl.arange(0, MOST)
    inside = part < COUNT
    count = tl.where(inside, tl.minimum(SIZE - part * CHUNK, CHUNK), 0).to(tl.float32)
    place = PARTS + (sample * COUNT + part) * 2
    means = tl.load(place, mask=inside, other=0.0)
    mean = tl.sum(count * means, 0) / SIZE
    squares = tl.load(place + 1, mask=inside, other=0.0) + count * (means - mean) * (means - mean)
    return mean, tl.rsqrt(tl.sum(squares, 0) / SIZE + eps)


@triton.jit
def factor_of(FACTOR, place, inside):
    """Numbers, or one where there are none."""
    return 1.0 if FACTOR is None else tl.load(FACTOR + place, mask=inside, other=0.0).to(tl.float32)


def moments(x: Tensor) -> tuple[Tensor, int, int]:
    """Return the parts (B, count, 2) of what `mean_and_rstd` returns, the numbers of a chunk, and the count."""
    size = x.shape[1] * x.shape[2] * x.shape[3]
    chunk, count = chunks(size, _TILE)
    parts = torch.empty((x.shape[0], count, 2), dtype=torch.float32, device=x.device)
    wrap_triton = wrapper(x)
    wrap_triton(_moments)[x.shape[0], count](x, parts, size, chunk, _TILE, **OPTIONS)
    return parts, chunk, count


def chunks(size: int, tile: int) -> tuple[int, int]:
    """Divide the numbers of a sample among at most `MOST` programs: how many each has, in whole tiles, and how many."""
    chunk = tile * up(size, MOST.value * tile)
    return chunk, up(size, chunk)


def up(number: int, unit: int) -> int:
    """Divide and round up; `triton.cdiv` takes five microseconds."""
    return -(-number // unit)
