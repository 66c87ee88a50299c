"""The recipe's transforms of one image, from decoded pixels to a slot of the batch.

Both loaders share them. A transform first plans, from the size of the image alone, what it will read; the caller
decodes at least that, and the transform then fills its slot. Normalising, erasing and mixing are not here: they
happen on the device, and so may RandAugment (see device_augment.py).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ...errors import ConfigError
from .jit import kernel
from .keyed import below, stream, uniform, word
from .randaugment import BICUBIC, BILINEAR, EITHER, augment, draws, parse_policy
from .resize import resize

INTERPOLATIONS = {"bilinear": BILINEAR, "bicubic": BICUBIC, "random": EITHER}


class Plan(NamedTuple):
    """What a transform will do to an image."""

    bottom: int
    """Rows from here on are not read."""
    arguments: tuple[Any, ...]
    """For the kernel."""


class Crop(NamedTuple):
    """How training crops are drawn, as numbers for the kernels."""

    scale_min: float
    scale_max: float
    ratio_min: float
    ratio_max: float
    flip_rate: float
    interpolation: int


class TrainTransform:
    """RandomResizedCrop, horizontal flip and RandAugment as timm's, with draws keyed by (seed, epoch, sample id).

    Args:
        image_size: Side of the result, pixels.
        seed: Seed of the run.
        scale: Smallest and largest share of the image's area that a crop takes.
        ratio: Smallest and largest width / height of a crop.
        hflip: Probability of mirroring.
        interpolation: `bilinear`, `bicubic`, or `random`: one of them for each resize and geometric operation.
        auto_augment: See `parse_policy`; None for crops and flips only.
        augment_on: `host`, or `device` to draw RandAugment without applying it.
    """

    def __init__(
        self,
        *,
        image_size: int,
        seed: int,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        hflip: float,
        interpolation: str,
        auto_augment: str | None,
        augment_on: str = "host",
    ) -> None:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ConfigError(f"scale={scale}: shares of the area, 0 < smallest <= largest <= 1")
        if not 0 < ratio[0] <= ratio[1]:
            raise ConfigError(f"ratio={ratio}: width / height, 0 < smallest <= largest")
        if not 0 <= hflip <= 1:
            raise ConfigError(f"hflip={hflip}: a probability is in [0, 1]")
        if interpolation not in INTERPOLATIONS:
            raise ConfigError(f"interpolation={interpolation!r}: one of {', '.join(INTERPOLATIONS)}")
        if augment_on not in ("host", "device"):
            raise ConfigError(f"augment_on={augment_on!r}: host or device")
        self.image_size = image_size
        self._seed = word(seed)
        self._crop = Crop(
            scale_min=float(scale[0]),
            scale_max=float(scale[1]),
            ratio_min=float(ratio[0]),
            ratio_max=float(ratio[1]),
            flip_rate=float(hflip),
            interpolation=INTERPOLATIONS[interpolation],
        )
        self._policy, self._left_out = parse_policy(auto_augment), parse_policy(None)
        self._on_host = augment_on == "host"

    def plan(self, height: int, width: int, *, epoch: int, sample: int) -> Plan:
        """Draw the crop of an image of this size."""
        state, box = _draw_box(height, width, self._seed, epoch, sample, self._crop)
        return Plan(box[0] + box[2], (state, box))

    def apply(self, pixels: np.ndarray, plan: Plan, out: np.ndarray) -> np.ndarray | None:
        """Transform pixels, uint32 (H, W) with at least plan.bottom rows, into out, uint8 (3, S, S).

        Returns RandAugment's draws (see `randaugment.draws`) where it is left to the device.
        """
        state, box = plan.arguments
        _train(pixels, state, box, self._crop, self._policy if self._on_host else self._left_out, out)
        return None if self._on_host else draws(self._policy, self._crop.interpolation, state)


class EvalTransform:
    """timm's evaluation transform: the short side to floor(image_size / crop_pct), bicubic, then the centre.

    Args:
        image_size: Side of the result, pixels.
        crop_pct: Image_size over the short side before the crop, in (0, 1].
    """

    def __init__(self, *, image_size: int, crop_pct: float) -> None:
        if not 0 < crop_pct <= 1:
            raise ConfigError(f"crop_pct={crop_pct}: a share of the short side is in (0, 1]")
        self.image_size = image_size
        self._short = math.floor(image_size / crop_pct)

    def plan(self, height: int, width: int, *, epoch: int = 0, sample: int = 0) -> Plan:
        """Return the window of an image of this size; the same for every epoch and sample."""
        full = (
            (int(self._short * height / width), self._short)
            if width <= height
            else (self._short, int(self._short * width / height))
        )
        window = round((full[0] - self.image_size) / 2), round((full[1] - self.image_size) / 2)
        stretch = height / full[0]
        reach = 2 * max(1.0, stretch) + 2  # of a bicubic filter, rounded up
        bottom = min(height, int((window[0] + self.image_size) * stretch + reach))
        return Plan(bottom, (height, width, full, window))

    def apply(self, pixels: np.ndarray, plan: Plan, out: np.ndarray) -> None:
        """Transform pixels, uint32 (H, W) with at least plan.bottom rows, into out, uint8 (3, S, S)."""
        _evaluate(pixels, *plan.arguments, out)


Transform = TrainTransform | EvalTransform


@kernel
def rgb_to_words(pixels, out):
    """Turn the first rows of pixels, uint8 (3 H W,), into words, `out`, uint32 (H', W)."""
    height, width = out.shape
    for y in range(height):
        row, line = pixels[3 * width * y : 3 * width * (y + 1)], out[y]
        for x in range(width):
            line[x] = (
                np.uint32(row[3 * x])
                | (np.uint32(row[3 * x + 1]) << np.uint32(8))
                | (np.uint32(row[3 * x + 2]) << np.uint32(16))
            )


@kernel
def _draw_box(height, width, seed, epoch, sample, crop):
    """Return (stream of draws, (top, left, height, width)) of timm's RandomResizedCropAndInterpolation."""
    state = stream(seed, epoch, sample)
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
def _train(pixels, state, box, crop, policy, out):
    side = out.shape[1]
    kind = below(state, 2) if crop.interpolation == EITHER else crop.interpolation
    flip = uniform(state, 0.0, 1.0) < crop.flip_rate
    image = np.empty((side, side), np.uint32)
    resize(pixels, box[0], box[1], box[2], box[3], (side, side), (0, 0), flip, kind, image)
    augment(image, policy, crop.interpolation, state)
    _to_planes(image, out)


@kernel
def _evaluate(pixels, height, width, full, window, out):
    side = out.shape[1]
    image = np.empty((side, side), np.uint32)
    resize(pixels, 0, 0, height, width, full, window, False, BICUBIC, image)
    _to_planes(image, out)


@kernel
def _to_planes(image, out):
    """Turn words (H, W) into uint8 (3, H, W)."""
    for y in range(image.shape[0]):
        row, red, green, blue = image[y], out[0, y], out[1, y], out[2, y]
        for x in range(image.shape[1]):
            red[x] = row[x] & 255
            green[x] = (row[x] >> 8) & 255
            blue[x] = (row[x] >> 16) & 255
