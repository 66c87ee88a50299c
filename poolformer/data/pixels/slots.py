"""From files to a batch in one call for many images: read, decode, crop, augment, without the interpreter lock.

Nearly all images are JPEGs or raw pixels, and sound; the others are left to whoever calls, to decode or to name.
"""

from typing import NamedTuple

import numpy as np

from .image_kernels import Recipe, plan, transform, write_words
from .jit import kernel
from .jpeg import MAX_PIXELS
from .jpeg_crop import decode_crop
from .jpeg_frame import HAS_EXIF, HEIGHT, WIDTH, read_frame
from .jpeg_scan import tables
from .randaugment import draws
from .reading import IS_POSSIBLE, Pieces, read_piece


class Images(NamedTuple):
    """Images as they are stored, arrays of one value each."""

    pieces: Pieces
    is_raw: np.ndarray
    """bool: rows of RGB instead of a JPEG."""
    heights: np.ndarray
    """int32, pixels; -1 where the file says so itself."""
    widths: np.ndarray
    """int32."""
    are_sound: bool
    """Whether damage has been ruled out by checksums; else all of a file is decoded."""
    are_upright: bool
    """Whether they are taken as they are; else one that may have to be turned is left out."""


class Filled(NamedTuple):
    """What was done to the slots of a batch."""

    done: np.ndarray
    """bool (n,): which of them are filled."""
    draws: np.ndarray
    """RandAugment's draws where it is left to the device, float64 (n, operations, 3)."""


def fill_slots(images: Images, recipe: Recipe, samples: np.ndarray, epoch: int, out: np.ndarray) -> Filled:
    """Fill the slots of a batch, as far as that is possible here.

    Args:
        images: The images.
        recipe: Of their transform.
        samples: Their numbers, which key the draws, int64 (n,).
        epoch: Number of the epoch.
        out: uint8 (n, 3, S, S), written.
    """
    done = np.zeros(len(samples), np.bool_)
    drawn = np.empty((len(samples), recipe.policy.operations if recipe.on_device else 0, 3))
    if IS_POSSIBLE:
        _fill_slots(images, recipe, samples, epoch, out, drawn, done)
    return Filled(done, drawn)


@kernel
def _fill_slots(images, recipe, samples, epoch, out, drawn, done):
    room = tables()
    for n in range(len(samples)):
        data = read_piece(images.pieces, n)
        height, width = _size(data, images, n, room.frame)
        if height <= 0:
            continue
        state, planned = plan(height, width, recipe, epoch, samples[n])
        top, left, rows, columns = planned.needed
        words = np.empty((rows, columns), np.uint32)
        if images.is_raw[n]:
            write_words(data, width, top, left, words)
        elif not decode_crop(data, room, top, left, words, not images.are_sound):
            continue
        transform(words, top, left, planned, recipe, state, out[n])
        if recipe.on_device:
            drawn[n] = draws(recipe.policy, recipe.crop.interpolation, state)
        done[n] = True


@kernel
def _size(data, images, n, frame):
    """Return (height, width) of an image that can be decoded here; a height of 0 of any other."""
    height, width = np.int64(images.heights[n]), np.int64(images.widths[n])
    if images.is_raw[n]:
        return (height if 0 < len(data) == 3 * height * width else 0), width
    if not read_frame(data, frame):
        return 0, 0
    numbers = frame.numbers
    as_said = height < 0 or (height == numbers[HEIGHT] and width == numbers[WIDTH])
    turned = numbers[HAS_EXIF] != 0 and not images.are_upright
    fits = as_said and not turned and numbers[HEIGHT] * numbers[WIDTH] <= MAX_PIXELS
    return (numbers[HEIGHT] if fits else 0), numbers[WIDTH]
