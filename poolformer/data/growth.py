"""Fewer pixels early: the side of training images as a function of the epoch, as in the recipes of ffcv-imagenet."""

from typing import TypedDict

from ..errors import ConfigError

MULTIPLE = 32
"""Sides are multiples of this: the network halves its map five times."""


class Growth(TypedDict):
    """Training images that grow in steps of 32 pixels; plain numbers, so that checkpoints can hold it as data."""

    first: int
    """Side up to `start_epoch`, pixels."""
    last: int
    """Side from `end_epoch` on, pixels."""
    start_epoch: int
    end_epoch: int


def check_growth(growth: Growth) -> None:
    """Raise ConfigError if the numbers make no schedule."""
    for name in ("first", "last"):
        if growth[name] < MULTIPLE or growth[name] % MULTIPLE:
            raise ConfigError(f"growth: {name}={growth[name]}: sides are multiples of {MULTIPLE} pixels")
    if not 0 <= growth["start_epoch"] < growth["end_epoch"]:
        raise ConfigError(
            f"growth: start_epoch={growth['start_epoch']} and end_epoch={growth['end_epoch']}: the first must be "
            "0 or more and below the second"
        )


def side_at(growth: Growth, epoch: int) -> int:
    """Return the side of images in an epoch, pixels: a straight line between the two, rounded to a multiple."""
    span = growth["end_epoch"] - growth["start_epoch"]
    share = min(1.0, max(0.0, (epoch - growth["start_epoch"]) / span))
    return round((growth["first"] + share * (growth["last"] - growth["first"])) / MULTIPLE) * MULTIPLE
