"""Decoded pixels are Pillow's, and damage is told instead of shown."""

import numpy as np
import pytest
from data_images import encoded, photo, reference_pixels

from poolformer.data.jpeg import decode, decode_sound_jpeg, read_header, to_pixels
from poolformer.errors import DataError

FILES = {
    "4:2:0": encoded(photo(0)),
    "4:2:2": encoded(photo(1), subsampling=1),
    "4:4:4": encoded(photo(2, width=33, height=111), subsampling=0),
    "progressive": encoded(photo(3), progressive=True),
    "restarts": encoded(photo(4), restart_marker_blocks=3),
    "grey": encoded(photo(5).convert("L")),
    "one pixel": encoded(photo(6, width=1, height=1)),
}


@pytest.mark.parametrize("name", FILES)
def test_jpeg_pixels_are_those_of_pillow(name):
    np.testing.assert_array_equal(to_pixels(decode(FILES[name], name)), reference_pixels(FILES[name]))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 1])
def test_rows_above_the_bottom_are_those_of_the_whole_image(name, share):
    whole = decode(FILES[name], name)
    bottom = max(1, round(share * len(whole)))
    part = decode_sound_jpeg(np.frombuffer(FILES[name], np.uint8), bottom)
    np.testing.assert_array_equal(to_pixels(part[:bottom]), to_pixels(whole[:bottom]))


def test_rows_below_the_bottom_are_not_decoded():
    assert len(decode_sound_jpeg(np.frombuffer(FILES["4:2:0"], np.uint8), 10)) == 32


@pytest.mark.parametrize(
    ("file_format", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "L"), ("JPEG", "CMYK")]
)
def test_other_images_are_converted_as_pillow_does(file_format, mode):
    data = encoded(photo(7).convert(mode), file_format)
    assert read_header(data) is None
    np.testing.assert_array_equal(to_pixels(decode(data, "x")), reference_pixels(data))


WHOLE = encoded(photo(8, width=200, height=150))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"no image at all", "not an image"),
        (bytes(5000), "not an image"),
        (WHOLE[: len(WHOLE) // 2], "damaged JPEG"),
        (WHOLE[:-2], "damaged JPEG"),
        (WHOLE[: len(WHOLE) // 2] + bytes(len(WHOLE) - len(WHOLE) // 2), "damaged JPEG"),
        (encoded(photo(9), "PNG")[:300], "cannot be read as an image"),
    ],
    ids=["empty", "text", "zeros", "half a JPEG", "no end", "half zeroed", "cut PNG"],
)
def test_damage_is_an_error_that_names_the_file(data, reason):
    with pytest.raises(DataError, match=f"^shop/cat.jpg: .*{reason}"):
        decode(data, "shop/cat.jpg")


def test_absurd_sizes_are_refused_before_decoding():
    data = bytearray(encoded(photo(10)))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = b"\xff\xfe\xff\xfe"
    with pytest.raises(DataError, match=r"^huge\.jpg: .*4294705156 pixels"):
        decode(bytes(data), "huge.jpg")
