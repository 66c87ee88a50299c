"""The orientation that cameras write into EXIF, for those who want it: ImageNet, timm and torchvision ignore it."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

_TAG = 0x0112
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.T,
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].T,
    8: lambda image: np.rot90(image),
}
"""By the tag's value; 1, and whatever is not here, is upright already."""


def orientation(data: bytes, formats: tuple[str, ...]) -> int:
    """Return the orientation of an image file, 1 to 8; 1 where it states none that can be read.

    Args:
        data: The bytes of the file.
        formats: What Pillow may take it for.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if image.format == "TIFF":  # Pillow turns these itself
                return 1
            value = image.getexif().get(_TAG, 1)
    except Exception:  # Pillow's plugins raise whatever their parser stumbles over; an image needs no tag
        return 1
    return value if value in _UPRIGHT else 1


def upright(words: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image, uint32 (H, W), as it is to be seen."""
    turn = _UPRIGHT.get(orientation)
    return words if turn is None else np.ascontiguousarray(turn(words))


def as_exif(orientation: int) -> bytes:
    """Return the content of an EXIF segment that states an orientation and nothing else."""
    head, entry = b"Exif\0\0MM\0\x2a\0\0\0\x08", (_TAG << 16 | 3).to_bytes(4, "big")  # one entry, of a short number
    return head + b"\0\x01" + entry + b"\0\0\0\x01" + bytes((0, orientation, 0, 0)) + bytes(4)
