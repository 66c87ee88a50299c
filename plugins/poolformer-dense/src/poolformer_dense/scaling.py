"""How images and masks are scaled, cut and recoloured: the authors' settings of ADE20K, PVT's of mmsegmentation.

https://github.com/whai362/PVT/blob/v2/segmentation/configs/_base_/datasets/ade20k.py
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

IGNORED = 255
"""Of masks: a pixel without a class."""
_MEAN = (124, 116, 104)  # of ImageNet, in levels: about 0 once normalised
_MULTIPLE = 32  # of pixels, so that the last stage's map divides the image
_LONGEST = 4  # times the shorter side: the authors' 2048 for 512
_LARGEST_SHARE, _TRIALS = 0.75, 10


def to_train(side: int, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut a square from an image of half to twice the size at which it is validated, flip it, and change its colours.

    A square without a second class, or of which one class has three quarters, is cut anew, ten times at most.

    Args:
        side: Of the square in pixels; what an image lacks of it is filled, at the right and below.
        image: uint8 (3, H, W).
        mask: int64 (H, W).

    Returns:
        uint8 (3, side, side) and int64 (side, side).
    """
    size = _fitted(image.shape[1:], side * _between(0.5, 2))
    image, mask = v2.functional.resize(image, size), resized_masks(mask[None], size)[0]
    for _ in range(_TRIALS):
        rows, columns = (_window(length, side) for length in size)
        if _is_varied(mask[rows, columns]):
            break
    image, mask = image[:, rows, columns], mask[rows, columns]
    if _by_half():
        image, mask = image.flip(-1), mask.flip(-1)
    below, right = (side - length for length in mask.shape)
    image = v2.functional.pad(_recoloured(image), [0, 0, right, below], _MEAN)
    return image, F.pad(mask, (0, right, 0, below), value=IGNORED)


def to_validate(side: int, keep_shape: bool, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Resize a whole image and leave its mask as it is, for which predictions are resized.

    Args:
        side: Shorter side of the image in pixels; both sides are then rounded up to a multiple of 32.
        keep_shape: False for a square of this side.
        image: uint8 (3, H, W).
        mask: int64 (H, W).
    """
    sides = _fitted(image.shape[1:], side)
    size = [math.ceil(each / _MULTIPLE) * _MULTIPLE for each in sides] if keep_shape else [side, side]
    return v2.functional.resize(image, size), mask


def resized_masks(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Return masks (B, H, W) of another size, in which each pixel has the class that was at its centre."""
    return F.interpolate(masks[None].float(), tuple(size), mode="nearest-exact")[0].long()


def _fitted(size: Sequence[int], shorter: float) -> list[int]:
    """Height and width with this shorter side, or less where the longer one would be too long."""
    scale = min(shorter / min(size), _LONGEST * shorter / max(size))
    return [max(1, round(scale * each)) for each in size]


def _window(length: int, side: int) -> slice:
    first = int(torch.randint(max(length - side, 0) + 1, ()))
    return slice(first, first + side)


def _is_varied(mask: Tensor) -> bool:
    counts = torch.bincount(mask[mask != IGNORED])
    return int((counts > 0).sum()) > 1 and int(counts.max()) < _LARGEST_SHARE * int(counts.sum())


def _recoloured(image: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue, each by half, as mmsegmentation's PhotoMetricDistortion.

    Its saturation is that of HSV, where torchvision's blends with grey.
    """
    contrast_last = _by_half()
    if _by_half():
        image = (image.to(torch.int16) + round(_between(-32, 32))).clamp(0, 255).to(torch.uint8)
    if not contrast_last:
        image = _of_contrast(image)
    if _by_half():
        image = v2.functional.adjust_saturation(image, _between(0.5, 1.5))
    if _by_half():
        image = v2.functional.adjust_hue(image, _between(-0.1, 0.1))
    return _of_contrast(image) if contrast_last else image


def _of_contrast(image: Tensor) -> Tensor:
    # What mmsegmentation calls contrast multiplies all levels, which torchvision calls brightness.
    return v2.functional.adjust_brightness(image, _between(0.5, 1.5)) if _by_half() else image


def _by_half() -> bool:
    return _between(0, 1) < 0.5


def _between(low: float, high: float) -> float:
    return float(torch.empty(()).uniform_(low, high))
