"""An example of what a network takes: an image, unless the network says otherwise."""

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError


def own_example(network: nn.Module) -> Tensor | None:
    """Return the example of a network that takes something else than images, such as the bytes of a text.

    Such a network has a method ``example_input() -> Tensor``, which returns one sample (1, ...). Its batches are of
    that type and of as many axes and channels, and reach it as its data module yields them: neither normalised nor,
    where they are integers, mixed or erased. Its values differ, so that `rolled` makes other samples of it.

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


def rolled(example: Tensor, count: int) -> Tensor:
    """Return a batch of samples that a network takes and tells apart: the example, rolled by a place more for each.

    What other values an example of integers could have, such as numbers of tokens, only its network knows.

    Args:
        example: One sample (1, ..., L).
        count: Samples B of the batch (B, ..., L).
    """
    return torch.cat([example.roll(places, -1) for places in range(count)])


def channels_of(network: nn.Module) -> int:
    """Return the channels of a network's images, which it says by ``in_chans``; 3 where it does not."""
    channels = getattr(network, "in_chans", 3)
    return channels if isinstance(channels, int) else 3


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
