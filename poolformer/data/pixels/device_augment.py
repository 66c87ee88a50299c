"""RandAugment of a batch in torch, on the device that trains: the pixels of randaugment.py, bit for bit.

For machines with few cores a GPU. The draws come with the batch, keyed as ever; images that drew the same operation
are processed together, and as the host knows which they are, nothing waits for the device. n counts the images of an
operation; they are uint8 (n, 3, H, W), arguments are float64 (n,) as `randaugment.argument` gives them.

Every step is one of IEEE arithmetic in the order of the kernels, in double precision where theirs is, because a fused
or shorter one changes what is cut off to a whole level.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from . import affine
from .randaugment import FILL, NONE, OPERATIONS


def augment(images: Tensor, draws: np.ndarray) -> Tensor:
    """Apply RandAugment to a batch.

    Args:
        images: uint8 (B, 3, H, W) on any device with double precision; left as they are.
        draws: float64 (B, operations, 3), `randaugment.draws` of each image.

    Returns:
        uint8 (B, 3, H, W).
    """
    images = images.clone()
    for operations, arguments, cubic in draws.transpose(1, 2, 0):
        kinds = _KINDS[operations.astype(int)]
        for kind, is_cubic in {*zip(kinds, cubic, strict=True)}:
            if kind != NONE:
                chosen = np.flatnonzero((kinds == kind) & (cubic == is_cubic))
                rows = _on_device(chosen, images.device)
                names = [OPERATIONS[int(n)] for n in operations[chosen]]
                images.index_copy_(0, rows, _apply(names, images[rows], arguments[chosen], bool(is_cubic)))
    return images


def check_device(device: torch.device) -> None:
    """Raise `ConfigError` for a device that cannot augment."""
    if device.type == "mps":
        raise ConfigError(
            "augment_on='device' computes in double precision, which Apple's GPUs do not have: use "
            "--data.augment_on host, which gives the same pixels"
        )


# Which operations are processed together, by position: each alone, but for those that move along the same axis. The
# last entry is found by NONE.
_KINDS = np.array([*range(13), OPERATIONS.index("ShearX"), OPERATIONS.index("ShearY"), NONE])


def _apply(names: list[str], images: Tensor, arguments: np.ndarray, cubic: bool) -> Tensor:
    """Apply to each of the images its operation, all of one kind."""
    if names[0] in _MATRICES:
        size = images.shape[2:]
        matrices = [_MATRICES[name](argument, *size) for name, argument in zip(names, arguments, strict=True)]
        return _transform(images, np.array(matrices), cubic)
    values = _on_device(arguments, images.device)
    return _COLOURS[names[0]](images, values[:, None, None, None])


def _on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Return an array as a tensor on a device.

    On a GPU from pinned memory: a copy out of any other waits until the device has done all that it was told.
    """
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _autocontrast(images: Tensor, _: Tensor) -> Tensor:
    low, high = (edge.double() for edge in (images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)))
    scale = torch.full_like(low, 255.0) / (high - low)  # a plain 255.0 would be multiplied by the reciprocal
    stretched = (images * scale + -low * scale).clamp(0, 255).to(torch.uint8)
    return torch.where(high > low, stretched, images)


def _equalize(images: Tensor, _: Tensor) -> Tensor:
    levels = images.flatten(2).long()  # (n, 3, H W)
    counts = levels.new_zeros(*levels.shape[:2], 256).scatter_add_(2, levels, torch.ones_like(levels))
    last = counts.gather(2, levels.amax(2, keepdim=True))
    step = (levels.shape[2] - last) // 255
    seen = step // 2 + counts.cumsum(2) - counts
    table = (seen // step.clamp_min(1)).clamp_max(255)
    return torch.where(step > 0, table.gather(2, levels), levels).to(torch.uint8).view_as(images)


def _invert(images: Tensor, _: Tensor) -> Tensor:
    return 255 - images


def _posterize(images: Tensor, bits: Tensor) -> Tensor:
    return images & (256 - (256 >> bits.int())).to(torch.uint8)


def _solarize(images: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(images < threshold, images, 255 - images)


def _solarize_add(images: Tensor, amount: Tensor) -> Tensor:
    return torch.where(images < 128, images + amount.to(torch.uint8), images)  # at most 127 + 128


def _color(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(_grey(images), images, factor)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    grey = _grey(images)
    pixels = grey[0].numel()
    mean = (2 * grey.sum((2, 3), keepdim=True) + pixels) // (2 * pixels)  # rounds half up
    return _blend(mean, images, factor)


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(torch.zeros_like(factor), images, factor)


def _sharpness(images: Tensor, factor: Tensor) -> Tensor:
    inside = images[:, :, 1:-1, 1:-1]
    old = images.int()
    lines = old[:, :, :-2] + old[:, :, 1:-1] + old[:, :, 2:]
    square = lines[:, :, :, :-2] + lines[:, :, :, 1:-1] + lines[:, :, :, 2:]
    smooth = (2 * (square + 4 * inside.int()) + 13) // 26
    out = images.clone()
    out[:, :, 1:-1, 1:-1] = _blend(smooth, inside, factor)
    return out


_COLOURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": _solarize,
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _color,
    "ContrastIncreasing": _contrast,
    "BrightnessIncreasing": _brightness,
    "SharpnessIncreasing": _sharpness,
}


def _blend(first: Tensor, second: Tensor, factor: Tensor) -> Tensor:
    """first + factor * (second - first) in single precision, cut to a byte."""
    first = first.float()
    return (first + factor.float() * (second.float() - first)).clamp(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """Return Pillow's conversion, int32 (n, 1, H, W)."""
    red, green, blue = images.int().split(1, 1)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


# (a, b, c, d, e, f) of affine.py from (argument, H, W).
_MATRICES: dict[str, Callable[[float, int, int], tuple[float, ...]]] = {
    "Rotate": affine.rotation,
    "ShearX": lambda slope, height, width: (1, slope, 0, 0, 1, 0),
    "ShearY": lambda slope, height, width: (1, 0, 0, slope, 1, 0),
    "TranslateXRel": lambda share, height, width: (1, 0, share * width, 0, 1, 0),
    "TranslateYRel": lambda share, height, width: (1, 0, 0, 0, 1, share * height),
}


def _transform(images: Tensor, matrices: np.ndarray, cubic: bool) -> Tensor:
    """Pillow's Image.transform(AFFINE) by matrices, float64 (n, 6)."""
    height, width = images.shape[2:]
    a, b, c, d, e, f = _on_device(matrices, images.device).T[:, :, None, None]
    x = torch.arange(0.5, width, dtype=torch.float64, device=images.device)
    y = torch.arange(0.5, height, dtype=torch.float64, device=images.device)[:, None]
    u, v = a * x + b * y + c, d * x + e * y + f  # (n, H, W)
    taps = (-1, 3) if cubic else (0, 2)
    # Along an axis that stays as it is, all neighbours but one have weight 0.
    columns, across = _neighbours(u, width, taps if (matrices[:, :3] != (1, 0, 0)).any() else (0, 1))
    rows, down = _neighbours(v, height, taps if (matrices[:, 3:] != (0, 1, 0)).any() else (0, 1))
    places = (rows[:, :, None] * width + columns[:, None]).long()  # (n, rows, columns, H, W)
    places_in_plane = places.flatten(1)[:, None].expand(-1, 3, -1)
    near = images.flatten(2).gather(2, places_in_plane).unflatten(2, places.shape[1:]).double()
    lines = _interpolate(near.unbind(3), across[:, None, None])
    new = _interpolate(lines.unbind(2), down[:, None]).clamp(0, 255).to(torch.uint8)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    fill = _on_device(np.array([FILL >> shift & 255 for shift in (0, 8, 16)], np.uint8), images.device)
    return torch.where(inside[:, None], new, fill[:, None, None])


def _neighbours(u: Tensor, size: int, taps: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return pixels next to coordinates (n, H, W) on an axis: (numbers (n, taps, H, W), how far u is past tap 0)"""
    u = u - 0.5
    first = u.floor()
    numbers = first[:, None] + torch.arange(*taps, dtype=u.dtype, device=u.device)[:, None, None]
    return numbers.clamp(0, size - 1), u - first


def _interpolate(near: Sequence[Tensor], t: Tensor) -> Tensor:
    """Between one sample, two, or the middle two of four by Keys' cubic with a = -1, at t from the first of them."""
    if len(near) == 1:
        return near[0]
    if len(near) == 2:
        return near[0] + (near[1] - near[0]) * t
    a, b, c, d = near
    return b + t * ((c - a) + t * ((2 * (a - b) + c - d) + t * (b - a - c + d)))
