"""An example of what a network takes: an image, unless the network says otherwise."""

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, PoolformerError


def own_example(network: nn.Module) -> Tensor | None:
    """Return the example of a network that takes something else than images, such as the bytes of a text.

    Such a network has a method ``example_input() -> Tensor``, which returns one sample (1, ...). Its batches are of
    that type and of as many axes and channels, and reach it as its data module yields them: neither normalised nor,
    where they are integers, mixed or erased.

    Args:
        network: Any network.

    Raises:
        ConfigError: What the method returns is not a tensor of one sample.
    """
    make: Any = getattr(network, "example_input", None)
    if not callable(make):
        return None
    example = make()
    if not isinstance(example, Tensor) or example.ndim < 2 or len(example) != 1:
        found = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise ConfigError(
            f"{type(network).__name__}.example_input() returned {found}, in place of a tensor of one sample, (1, ...)"
        )
    return example


def channels_of(network: nn.Module) -> int:
    """Return the channels of a network's images, which it says by ``in_chans``; 3 where it does not."""
    channels = getattr(network, "in_chans", 3)
    return channels if isinstance(channels, int) else 3


def accepted_channels(network: nn.Module, expected: int, side: int) -> int:
    """Return how many channels the images of a network have: as ``expected``, or what its first convolution takes.

    Args:
        network: In evaluation mode.
        expected: Channels that are tried first.
        side: Of the images in pixels.
    """
    convolutions = (module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d))
    for channels in (expected, next(convolutions, expected)):
        with contextlib.suppress(PoolformerError, RuntimeError, AssertionError, ValueError):
            network(torch.zeros(1, channels, side, side))
            return channels
    return expected


def example_input(network: nn.Module, *, image_size: int) -> Tensor:
    """Return the example of a network, or an image (1, I, image_size, image_size) of zeros, where its weights are.

    Args:
        network: Any network.
        image_size: Side of the images in pixels.

    Raises:
        ConfigError: As of `own_example`.
    """
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    example = own_example(network)
    if example is None:
        return torch.zeros(1, channels_of(network), image_size, image_size, device=like.device, dtype=like.dtype)
    return example.to(like.device, like.dtype if example.is_floating_point() else None)
