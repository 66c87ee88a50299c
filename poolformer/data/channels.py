"""Channels of images and of what they are normalised by: networks of 1, 4 or any other number of them.

Shapes: B images, I channels, H and W pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Of 65536: the luma of ITU-R BT.601, in the integers by which Pillow's convert("L") computes it.
_LUMA, _HALF, _BITS = (19595, 38470, 7471), 1 << 15, 16


def of_each_channel(option: str, given: Sequence[float], channels: int) -> tuple[float, ...]:
    """Return a mean or a standard deviation for each channel.

    Args:
        option: Its name, for the message.
        given: One number for all, one for each, or three for RGB, of which other images take the average.
        channels: How many I.

    Raises:
        ConfigError: There are some other number of them.
    """
    if len(given) == channels:
        return tuple(given)
    if len(given) not in (1, 3):
        raise ConfigError(
            f"--model.{option} has {len(given)} numbers and the images {channels} channel{'s' * (channels > 1)}: give "
            "one for each"
        )
    return (sum(given) / len(given),) * channels


def as_taken(images: Tensor, channels: int) -> Tensor:
    """Return images uint8 (B, I, H, W) as a network of so many channels takes them; for one, RGB becomes grey.

    Raises:
        ConfigError: It takes another number than they have.
    """
    if images.shape[1] == channels:
        return images
    if channels != 1 or images.shape[1] != 3:
        raise ConfigError(
            f"the network takes images of {channels} channels, and these have {images.shape[1]}: a data module of your "
            "own can give them"
        )
    return grey(images)


def grey(images: Tensor) -> Tensor:
    """Return the luma of RGB images, uint8 (B, 3, H, W) to uint8 (B, 1, H, W): Pillow's ``convert("L")``."""
    weights = torch.tensor(_LUMA, dtype=torch.int32, device=images.device)[:, None, None]
    luma = ((images.int() * weights).sum(1, keepdim=True, dtype=torch.int32) + _HALF) >> _BITS
    return luma.to(torch.uint8)
