"""RandAugment (arXiv 1909.13719) as timm's 'rand-m9-mstd0.5-inc1' does it, bit for bit on the same draws.

Two operations a sample, drawn with replacement, each applied with probability 1/2, at a magnitude drawn from
gauss(9, 0.5) and clipped to [0, 10]. The draws themselves are keyed (see keyed.py), so they are not timm's.
"""

import re
from typing import NamedTuple

import numpy as np

from ...errors import ConfigError
from . import affine, colour
from .jit import kernel
from .keyed import below, normal, uniform

OPERATIONS = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
"""timm's names; `apply` takes the position, as the constants below."""

AUTO_CONTRAST, EQUALIZE, INVERT, ROTATE, POSTERIZE, SOLARIZE, SOLARIZE_ADD = range(7)
COLOR, CONTRAST, BRIGHTNESS, SHARPNESS, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y = range(7, len(OPERATIONS))

NONE = -1
"""The position that says: leave the image as it is."""

FILL = 124 | 116 << 8 | 104 << 16
"""What moves in from outside: ImageNet's mean colour, as a pixel word."""

BILINEAR, BICUBIC, EITHER = 0, 1, 2

_PART = re.compile(r"(mstd|inc|m|n|p)(\d+(?:\.\d+)?)")


class Policy(NamedTuple):
    """The numbers of a policy; `operations` = 0 augments nothing."""

    operations: int
    """Operations drawn a sample."""
    magnitude: float
    """Mean strength, 0 to 10."""
    std: float
    """Standard deviation of the strength."""
    rate: float
    """Probability that a drawn operation is applied."""


def parse_policy(text: str | None) -> Policy:
    """Read timm's spelling, such as 'rand-m9-mstd0.5-inc1'.

    Args:
        text: `rand`, then in any order `-mM` (magnitude 0 to 10), `-nN` (operations, default 2), `-mstdS` (default
            0), `-pP` (rate, default 0.5) and `-inc1`, which is required: only the operations that grow with
            magnitude are here. None augments nothing.

    Raises:
        ConfigError: The spelling is another one.
    """
    if text is None:
        return Policy(0, 0.0, 0.0, 0.0)
    name, *parts = text.split("-")
    values: dict[str, str] = {match[1]: match[2] for match in (re.fullmatch(_PART, part) for part in parts) if match}
    magnitude = float(values.get("m", 10))
    if name != "rand" or len(values) != len(parts) or values.get("inc") != "1" or magnitude > 10:
        raise ConfigError(
            f"auto_augment={text!r} is not a policy this loader has; it has timm's rand-m<0 to 10>-mstd<s>-inc1 with "
            "optional -n<operations> and -p<rate>, such as 'rand-m9-mstd0.5-inc1', and null for none"
        )
    return Policy(
        int(float(values.get("n", 2))),
        magnitude,
        float(values.get("mstd", 0)),
        float(values.get("p", 0.5)),
    )


@kernel
def augment(image, policy, interpolation, state):
    """Apply a policy in place to image, uint32 (H, W); `interpolation` is that of the geometric operations."""
    for _ in range(policy.operations):
        operation, value, cubic = _draw(policy, interpolation, state)
        if operation != NONE:
            apply(image, operation, value, cubic)


@kernel
def draws(policy, interpolation, state):
    """Return what `augment` would do, float64 (operations, 3): operation or NONE, its argument, 1 for bicubic."""
    out = np.empty((policy.operations, 3), np.float64)
    for n in range(policy.operations):
        out[n, 0], out[n, 1], out[n, 2] = _draw(policy, interpolation, state)
    return out


@kernel
def _draw(policy, interpolation, state):
    operation = below(state, TRANSLATE_Y + 1)
    applied = uniform(state, 0.0, 1.0) < policy.rate
    magnitude = min(10.0, max(0.0, normal(state, policy.magnitude, policy.std)))
    sign = 1.0 if uniform(state, 0.0, 1.0) < 0.5 else -1.0
    cubic = below(state, 2) == 1 if interpolation == EITHER else interpolation == BICUBIC
    geometric = operation == ROTATE or operation >= SHEAR_X
    return operation if applied else NONE, argument(operation, magnitude, sign), cubic and geometric


@kernel
def argument(operation, magnitude, sign):
    """Return what OPERATIONS[operation] takes at a magnitude of 0 to 10; sign is 1 or -1.

    Degrees, bits, the threshold, the amount, the enhancement factor, the slope, or a share of the side.
    """
    level = magnitude / 10.0
    if operation == ROTATE:
        return sign * level * 30.0
    if operation == POSTERIZE:
        return 4.0 - int(level * 4)
    if operation == SOLARIZE:
        return 256.0 - min(256, int(level * 256))
    if operation == SOLARIZE_ADD:
        return float(min(128, int(level * 110)))
    if COLOR <= operation <= SHARPNESS:
        return max(0.1, 1.0 + sign * level * 0.9)
    if SHEAR_X <= operation <= SHEAR_Y:
        return sign * level * 0.3
    if operation >= TRANSLATE_X:
        return sign * level * 0.45
    return 0.0


@kernel
def apply(image, operation, value, cubic):
    """OPERATIONS[operation] in place, with an argument as `argument` gives it."""
    height, width = image.shape
    fill = np.uint32(FILL)
    if operation == AUTO_CONTRAST:
        colour.autocontrast(image)
    elif operation == EQUALIZE:
        colour.equalize(image)
    elif operation == INVERT:
        colour.invert(image)
    elif operation == ROTATE:
        affine.rotate(image, value, cubic, fill)
    elif operation == POSTERIZE:
        colour.posterize(image, int(value))
    elif operation == SOLARIZE:
        colour.solarize(image, int(value))
    elif operation == SOLARIZE_ADD:
        colour.solarize_add(image, int(value))
    elif operation == COLOR:
        colour.color(image, value)
    elif operation == CONTRAST:
        colour.contrast(image, value)
    elif operation == BRIGHTNESS:
        colour.brightness(image, value)
    elif operation == SHARPNESS:
        colour.sharpness(image, value)
    elif operation == SHEAR_X:
        affine.along_x(image, value, 0.0, cubic, fill)
    elif operation == SHEAR_Y:
        affine.along_y(image, value, 0.0, cubic, fill)
    elif operation == TRANSLATE_X:
        affine.along_x(image, 0.0, value * width, cubic, fill)
    else:
        affine.along_y(image, 0.0, value * height, cubic, fill)
