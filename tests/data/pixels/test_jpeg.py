"""Decoded pixels are Pillow's, and damage is told instead of shown."""

import contextlib
import io

import numpy as np
import PIL.EpsImagePlugin
import pytest
from data_images import encoded, photo, reference_pixels
from PIL import Image

from poolformer.data.pixels.jpeg import decode, decode_sound_jpeg, read_header, to_pixels
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
def test_a_packed_jpeg_has_the_same_pixels(name):
    whole = decode(FILES[name], name)
    words = decode_sound_jpeg(np.frombuffer(FILES[name], np.uint8), name, height=len(whole), width=len(whole[0]))
    np.testing.assert_array_equal(to_pixels(words), to_pixels(whole))


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


@pytest.mark.parametrize("size", [(72, 97), (73, 96), (71, 96), (65535, 65535), (1, 1)])
def test_a_packed_jpeg_of_another_size_than_its_index_says_is_refused(size):
    # Kernels would read what lies behind the image in memory.
    height, width = size
    with pytest.raises(DataError, match=rf"^x\.beton, sample 3: it is no JPEG of {width} x {height} pixels"):
        decode_sound_jpeg(np.frombuffer(FILES["4:2:0"], np.uint8), "x.beton, sample 3", height=height, width=width)


def test_an_image_cannot_start_a_program(tmp_path, monkeypatch):
    """Pillow hands EPS, under any name, to Ghostscript."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho 10\ntouch {tmp_path}/was-run\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(PIL.EpsImagePlugin, "gs_binary", None)
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n"
    with pytest.raises(DataError, match=r"^cat\.jpg: cannot be read as an image \(not an image\)"):
        decode(data, "cat.jpg")
    assert not (tmp_path / "was-run").exists()
    with contextlib.suppress(OSError), Image.open(io.BytesIO(data)) as image:  # what it would have done
        image.load()
    assert (tmp_path / "was-run").exists()


@pytest.mark.parametrize("file_format", ["PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF"])
def test_every_format_that_counts_as_an_image_is_read(file_format):
    data = encoded(photo(11), file_format)
    np.testing.assert_array_equal(to_pixels(decode(data, "x")), reference_pixels(data))
