"""One image on its way into a batch, in kernels: from decoded pixels to planes.

Pixels may be those of a part of the image, around what is read of it.
"""

import math
from typing import NamedTuple

import numpy as np

from .jit import kernel
from .keyed import below, stream, uniform
from .randaugment import BICUBIC, EITHER, Policy, augment
from .resize import resize, runs_down_first


class Crop(NamedTuple):
    """How training crops are drawn, as numbers for the kernels."""

    scale_min: float
    scale_max: float
    ratio_min: float
    ratio_max: float
    flip_rate: float
    interpolation: int
    pad: int
    """Pixels of black around the whole image, from which a crop of its size is cut; 0 for crops that are resized."""


class Recipe(NamedTuple):
    """A transform, as numbers for the kernels."""

    side: int
    """Of the result, pixels."""
    short: int
    """Evaluation: the short side before the window is cut out; 0 for training."""
    seed: np.uint64
    crop: Crop
    policy: Policy
    """RandAugment."""
    on_device: bool
    """Whether RandAugment is only drawn here."""


class Plan(NamedTuple):
    """What will be done to an image."""

    box: tuple[int, int, int, int]
    """Top, left, height and width of the part that is resized."""
    full: tuple[int, int]
    """Height and width to which it is resized."""
    window: tuple[int, int]
    """Top and left of what is wanted of that."""
    needed: tuple[int, int, int, int]
    """Top, left, height and width of the part of the image that is read for it."""


@kernel
def plan(height, width, recipe, epoch, sample):
    """Return (stream of draws, plan) of an image of this size."""
    side = recipe.side
    if recipe.short == 0:
        state, box = draw_box(height, width, recipe.seed, epoch, sample, recipe.crop)
        return state, Plan(box, (side, side), (0, 0), box)
    tall = width <= height
    full = (
        int(recipe.short * height / width) if tall else recipe.short,
        recipe.short if tall else int(recipe.short * width / height),
    )
    window = round((full[0] - side) / 2), round((full[1] - side) / 2)
    top, bottom = _reach_of(height, full[0], window[0], side)
    left, right = _reach_of(width, full[1], window[1], side)
    if runs_down_first(height, width, full):  # over whole lines
        left, right = 0, width
    needed = top, left, bottom - top, right - left
    return stream(recipe.seed, epoch, sample), Plan((0, 0, height, width), full, window, needed)


@kernel
def _reach_of(size, full, first, count):
    """Return (first, end) of what a bicubic filter reads of a line, or somewhat more."""
    stretch = size / full
    reach = 2 * max(1.0, stretch) + 2
    return max(0, int(first * stretch - reach)), min(size, int((first + count) * stretch + reach))


@kernel
def draw_box(height, width, seed, epoch, sample, crop):
    """Return (stream of draws, (top, left, height, width)) of timm's RandomResizedCropAndInterpolation.

    It is the whole image where the crop is one of a padded image.
    """
    state = stream(seed, epoch, sample)
    if crop.pad > 0:
        return state, (0, 0, height, width)
    for _ in range(10):
        area = height * width * uniform(state, crop.scale_min, crop.scale_max)
        ratio = math.exp(uniform(state, math.log(crop.ratio_min), math.log(crop.ratio_max)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return state, (below(state, height - h + 1), below(state, width - w + 1), h, w)
    h, w = height, width
    if width / height < crop.ratio_min:
        h = min(height, max(1, round(width / crop.ratio_min)))
    elif width / height > crop.ratio_max:
        w = min(width, max(1, round(height * crop.ratio_max)))
    return state, ((height - h) // 2, (width - w) // 2, h, w)


@kernel
def transform(pixels, top, left, plan, recipe, state, out):
    """Write an image into its slot.

    Args:
        pixels: uint32 (H, W), a part of the image that holds what is needed.
        top, left: Of the part.
        plan: Of the image.
        recipe: The transform.
        state: Stream of draws, after those of the plan.
        out: uint8 (3, S, S), written.
    """
    kind, flip = BICUBIC, False
    if recipe.short == 0:
        crop = recipe.crop
        kind = below(state, 2) if crop.interpolation == EITHER else crop.interpolation
        flip = uniform(state, 0.0, 1.0) < crop.flip_rate
    image, box = np.empty((recipe.side, recipe.side), np.uint32), plan.box
    resize(pixels, box[0] - top, box[1] - left, box[2], box[3], plan.full, plan.window, flip, kind, image)
    if recipe.short == 0 and recipe.crop.pad > 0:
        pad = recipe.crop.pad
        _shift(image, below(state, 2 * pad + 1) - pad, below(state, 2 * pad + 1) - pad)
    if recipe.short == 0 and not recipe.on_device:
        augment(image, recipe.policy, recipe.crop.interpolation, state)
    _to_planes(image, out)


@kernel
def _shift(image, down, right):
    """Move an image (S, S) within its frame; what comes in is black, as if it had been padded before."""
    side, source = image.shape[0], image.copy()
    for y in range(side):
        for x in range(side):
            v, u = y - down, x - right
            image[y, x] = source[v, u] if 0 <= v < side and 0 <= u < side else np.uint32(0)


@kernel
def write_words(rows, width, top, left, out):
    """Write a rectangle of pixels, uint8 (3 H W,), as words, `out`, uint32 (H', W')."""
    for y in range(out.shape[0]):
        start = 3 * (width * (top + y) + left)
        row, line = rows[start : start + 3 * out.shape[1]], out[y]
        for x in range(len(line)):
            line[x] = (
                np.uint32(row[3 * x])
                | (np.uint32(row[3 * x + 1]) << np.uint32(8))
                | (np.uint32(row[3 * x + 2]) << np.uint32(16))
            )


@kernel
def _to_planes(image, out):
    """Turn words (H, W) into uint8 (3, H, W)."""
    for y in range(image.shape[0]):
        row, red, green, blue = image[y], out[0, y], out[1, y], out[2, y]
        for x in range(image.shape[1]):
            red[x] = row[x] & 255
            green[x] = (row[x] >> 8) & 255
            blue[x] = (row[x] >> 16) & 255
