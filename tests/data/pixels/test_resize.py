"""The resize is Pillow's to the last bit, whatever the crop, the window and the order of the passes."""

import numpy as np
import pytest
from data_images import as_pillow_13
from PIL import Image

from poolformer.data.pixels.jpeg import to_pixels, to_words
from poolformer.data.pixels.resize import BICUBIC, BILINEAR, resize

FILTERS = {BILINEAR: Image.Resampling.BILINEAR, BICUBIC: Image.Resampling.BICUBIC}


def resized(pixels, box, full, window, size, *, flip=False, kind=BICUBIC):
    out = np.empty(size, np.uint32)
    resize(to_words(pixels), *box, full, window, flip, kind, out)
    return to_pixels(out)


def by_pillow(pixels, box, full, window, size, *, flip=False, kind=BICUBIC):
    top, left, height, width = box
    image = Image.fromarray(pixels).crop((left, top, left + width, top + height))
    image = image.resize(full[::-1], FILTERS[kind])
    image = image.crop((window[1], window[0], window[1] + size[1], window[0] + size[0]))
    return np.asarray(image)[:, ::-1] if flip else np.asarray(image)


@pytest.mark.slow
@as_pillow_13
def test_random_sizes_crops_and_windows_equal_pillow():
    rng = np.random.default_rng(0)
    for n in range(300):
        pixels = rng.integers(0, 256, (*rng.integers(1, 300, 2), 3), dtype=np.uint8)
        top, left = (int(rng.integers(size)) for size in pixels.shape[:2])
        height, width = int(rng.integers(1, len(pixels) - top + 1)), int(rng.integers(1, pixels.shape[1] - left + 1))
        full = tuple(map(int, rng.integers(1, 200, 2)))
        window = tuple(int(rng.integers(size)) for size in full)
        size = tuple(int(rng.integers(1, a - b + 1)) for a, b in zip(full, window, strict=True))
        arguments = pixels, (top, left, height, width), full, window, size
        options = {"flip": n % 2 == 0, "kind": n % 3 % 2}
        np.testing.assert_array_equal(
            resized(*arguments, **options), by_pillow(*arguments, **options), err_msg=f"{arguments[1:]} {options}"
        )


@pytest.mark.parametrize("shape", [pytest.param((90, 30), marks=as_pillow_13), (30, 90), (64, 64)])
@pytest.mark.parametrize("kind", FILTERS)
def test_portrait_landscape_and_square_equal_pillow(shape, kind):
    """Portrait images take Pillow 13's other order of passes."""
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    arguments = pixels, (0, 0, *shape), (28, 28), (0, 0), (28, 28)
    np.testing.assert_array_equal(resized(*arguments, kind=kind), by_pillow(*arguments, kind=kind))
