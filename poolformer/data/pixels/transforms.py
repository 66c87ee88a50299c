"""The recipe's transforms of one image, from decoded pixels to a slot of the batch.

Both loaders share them. A transform is called with the pixels of a whole image; `fill_slots` (see slots.py) does the
same to many files by its numbers, its `recipe`, and decodes no more of them than is read. Normalising, erasing and
mixing are not here: they happen on the device, and so may RandAugment (see device_augment.py).
"""

import math

import numpy as np

from ...errors import ConfigError
from .image_kernels import Crop, Recipe, plan, transform
from .keyed import word
from .randaugment import BICUBIC, BILINEAR, EITHER, draws, parse_policy

INTERPOLATIONS = {"bilinear": BILINEAR, "bicubic": BICUBIC, "random": EITHER}


class TrainTransform:
    """RandomResizedCrop (or a padded crop), flip and RandAugment as timm's, drawn by (seed, epoch, sample id).

    Args:
        image_size: Side of the result, pixels.
        seed: Seed of the run.
        scale: Smallest and largest share of the image's area that a crop takes.
        ratio: Smallest and largest width / height of a crop.
        hflip: Probability of mirroring.
        interpolation: `bilinear`, `bicubic`, or `random`: one of them for each resize and geometric operation.
        auto_augment: See `parse_policy`; None for crops and flips only.
        augment_on: `host`, or `device` to draw RandAugment without applying it.
        pad: Pixels of black around the resized image, from which a crop of `image_size` is cut in place of one by
            `scale` and `ratio`; 0 for those.
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
        pad: int = 0,
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
        if not 0 <= pad <= image_size:
            raise ConfigError(f"pad={pad}: pixels from 0 to image_size, {image_size}")
        self.image_size = image_size
        crop = Crop(
            scale_min=float(scale[0]),
            scale_max=float(scale[1]),
            ratio_min=float(ratio[0]),
            ratio_max=float(ratio[1]),
            flip_rate=float(hflip),
            interpolation=INTERPOLATIONS[interpolation],
            pad=pad,
        )
        self.recipe = Recipe(image_size, 0, word(seed), crop, parse_policy(auto_augment), augment_on == "device")

    def __call__(self, pixels: np.ndarray, out: np.ndarray, *, epoch: int, sample: int) -> np.ndarray | None:
        """Transform pixels, uint32 (H, W), into out, uint8 (3, S, S).

        Returns RandAugment's draws (see `randaugment.draws`) where it is left to the device.
        """
        return _apply(self.recipe, pixels, out, epoch, sample)


class EvalTransform:
    """timm's evaluation transform: the short side to floor(image_size / crop_pct), bicubic, then the centre.

    Args:
        image_size: Side of the result, pixels.
        crop_pct: Image_size over the short side before the crop, in (0, 1].

    Attributes:
        short: Short side before the crop, pixels.
    """

    def __init__(self, *, image_size: int, crop_pct: float) -> None:
        if not 0 < crop_pct <= 1:
            raise ConfigError(f"crop_pct={crop_pct}: a share of the short side is in (0, 1]")
        self.image_size = image_size
        self.short = math.floor(image_size / crop_pct)
        crop = Crop(1.0, 1.0, 1.0, 1.0, 0.0, BICUBIC, 0)  # none is drawn
        self.recipe = Recipe(image_size, self.short, word(0), crop, parse_policy(None), False)

    def __call__(self, pixels: np.ndarray, out: np.ndarray, *, epoch: int = 0, sample: int = 0) -> None:
        """Transform pixels, uint32 (H, W), into out, uint8 (3, S, S); the same for every epoch and sample."""
        _apply(self.recipe, pixels, out, epoch, sample)


def _apply(recipe: Recipe, pixels: np.ndarray, out: np.ndarray, epoch: int, sample: int) -> np.ndarray | None:
    state, planned = plan(*pixels.shape, recipe, epoch, sample)
    transform(pixels, 0, 0, planned, recipe, state, out)
    return draws(recipe.policy, recipe.crop.interpolation, state) if recipe.on_device else None


Transform = TrainTransform | EvalTransform
