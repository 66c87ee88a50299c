"""Which sides of images a network takes: tried on shapes alone, as a network does not declare them."""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from ..errors import ConfigError, describe
from .example import channels_of


def check_sides(backbone: nn.Module, growth: Mapping[str, int] | None, *, name: str, image_size: int) -> None:
    """Try the sizes of progressive resizing.

    Args:
        backbone: The network.
        growth: Sides of the ``first`` and the ``last`` images in pixels; None where they do not grow.
        name: The backbone's name.
        image_size: Side of the images in pixels that it is built for.

    Raises:
        ConfigError: The backbone takes one size only.
    """
    if not growth:
        return
    on_meta = copy.deepcopy(backbone).to("meta").eval()
    if _fails(on_meta, image_size):  # a network that looks at values: shapes alone say nothing of it
        return
    for side in (growth["first"], growth["last"]):
        if error := _fails(on_meta, side):
            raise ConfigError(
                f"backbone {name!r} is built for images of {image_size} pixels and "
                f"does not take {side}, so progressive resizing is not possible: leave out "
                f"--data.growth ({describe(error)})"
            ) from error


def _fails(on_meta: nn.Module, side: int) -> Exception | None:
    try:
        with torch.no_grad():
            on_meta(torch.empty(1, channels_of(on_meta), side, side, device="meta"))
    except Exception as error:
        return error
    return None
