"""How images and their masks are scaled and cut: the authors' settings of ADE20K, which are PVT's and mmsegmentation's.

https://github.com/whai362/PVT/blob/v2/segmentation/configs/_base_/datasets/ade20k.py
"""

import math

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

IGNORED = 255
"""Of masks: a pixel without a class."""
_FILL = {tv_tensors.Image: (124, 116, 104), tv_tensors.Mask: IGNORED}  # the mean colour, which is 0 once normalised
_MULTIPLE = 32  # of pixels, for the last stage's map to have no rest
_LONGEST = 4  # times the shorter side: the authors' 2048 for 512
_LARGEST_SHARE, _TRIALS = 0.75, 10
# Brightness by a factor, where mmsegmentation adds up to 32 of 255 levels.
_COLOURS = v2.Compose(
    [
        v2.RandomApply([v2.ColorJitter(**jitter)], p=0.5)
        for jitter in ({"brightness": 0.125}, {"contrast": 0.5}, {"saturation": 0.5}, {"hue": 0.1})
    ]
)


def to_train(side: int, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Cut a square from an image of half to twice the size at which it is validated, flip it, and change its colours.

    A square of which one class has more than three quarters is cut anew, ten times at most.

    Args:
        side: Of the square in pixels.
        image: uint8 (3, H, W).
        mask: int64 (H, W).
    """
    ratio = float(torch.empty(()).uniform_(0.5, 2))
    whole = v2.Resize(_fitted(image.shape[1:], ratio * side))(tv_tensors.Image(image), tv_tensors.Mask(mask))
    cut = v2.RandomCrop(side, pad_if_needed=True, fill=_FILL)
    for _ in range(_TRIALS):
        crop = cut(*whole)
        if _is_varied(crop[1]):
            break
    image, mask = v2.RandomHorizontalFlip()(*crop)
    return _COLOURS(image).as_subclass(Tensor), mask.as_subclass(Tensor)


def to_validate(side: int, keep_shape: bool, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Resize a whole image and leave its mask as it is, for which predictions are resized.

    Args:
        side: Shorter side of the image in pixels; both sides are then brought to a multiple of 32.
        keep_shape: False for a square of this side.
        image: uint8 (3, H, W).
        mask: int64 (H, W).
    """
    sides = _fitted(image.shape[1:], side)
    size = [math.ceil(each / _MULTIPLE) * _MULTIPLE for each in sides] if keep_shape else [side, side]
    return v2.functional.resize(image, size), mask


def _fitted(size: torch.Size, shorter: float) -> list[int]:
    """Height and width with this shorter side, or less where the longer one would be too long."""
    scale = min(shorter / min(size), _LONGEST * shorter / max(size))
    return [max(1, round(scale * each)) for each in size]


def _is_varied(mask: Tensor) -> bool:
    counts = torch.bincount(mask[mask != IGNORED])
    return int((counts > 0).sum()) > 1 and int(counts.max()) < _LARGEST_SHARE * int(counts.sum())
