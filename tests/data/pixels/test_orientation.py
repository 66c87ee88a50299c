"""EXIF's orientation, against what Pillow makes of it."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from poolformer.data.pixels.orientation import orientation, upright


def tagged(value: int, kind: str = "JPEG") -> bytes:
    image, file = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(5, 4, 3)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = value
    image.save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("value", range(1, 9))
def test_an_image_is_turned_as_pillow_turns_it(value):
    data = tagged(value, "PNG")
    assert orientation(data, ("PNG",)) == value
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))[..., 0]
        words = np.asarray(image)[..., 0].astype(np.uint32)
    np.testing.assert_array_equal(upright(words, value), expected)
    assert upright(words, value).flags.c_contiguous


@pytest.mark.parametrize("data", [tagged(9), tagged(0), b"", b"no image", tagged(6)[:20]])
def test_a_tag_that_says_nothing_is_upright(data):
    assert orientation(data, ("JPEG",)) == 1
