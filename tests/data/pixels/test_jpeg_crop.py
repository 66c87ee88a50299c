"""A rectangle of a JPEG has the pixels of the whole image, whatever the rectangle, the sampling and the coding."""

import ctypes
import io
import mmap
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from data_images import encoded, photo
from PIL import Image

from poolformer.data.pixels.jpeg import decode, to_pixels
from poolformer.data.pixels.jpeg_crop import decode_crop, decoded
from poolformer.data.pixels.jpeg_frame import read_frame
from poolformer.data.pixels.jpeg_scan import tables
from poolformer.data.pixels.jpeg_tiles import tiled
from poolformer.errors import DataError

SAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2, "4:4:0": "4:4:0"}


def jpeg(width: int, height: int, sampling: str, *, seed: int = 0, **options: object) -> bytes:
    image = photo(seed, width=width, height=height)
    if sampling == "grey":
        return encoded(image.convert("L"), **options)
    if sampling == "4:4:0":  # Pillow names no such sampling: rows and columns change their places
        turned = encoded(image.transpose(Image.Transpose.TRANSPOSE), subsampling=1, **options)
        return with_sampling(turned, 0x12, width, height)
    return encoded(image, subsampling=SAMPLINGS[sampling], **options)


def with_sampling(data: bytes, factors: int, width: int, height: int) -> bytes:
    """A file of 4:2:2 taken for one whose blocks lie below each other: other pixels, and a sound file."""
    place = data.index(b"\xff\xc0")
    head = bytearray(data)
    # As many MCUs: pairs of blocks side by side become pairs of blocks above each other.
    across, down = -(-height // 16), -(-width // 8)
    head[place + 5 : place + 9] = (16 * down).to_bytes(2, "big") + (8 * across).to_bytes(2, "big")
    head[place + 11] = factors
    return bytes(head)


def assert_crops_are_parts(data: bytes, *, crops: int = 6, seed: int = 0) -> None:
    whole = to_pixels(decode(data, "x"))
    height, width = whole.shape[:2]
    rng = random.Random(seed)
    places = [(0, height, 0, width), (height - 1, height, width - 1, width), (0, 1, 0, 1)]
    for _ in range(crops):
        top, left = rng.randrange(height), rng.randrange(width)
        places.append((top, rng.randint(top + 1, height), left, rng.randint(left + 1, width)))
    for n, (top, bottom, left, right) in enumerate(places):
        words = decoded(data, top, left, bottom - top, right - left, whole=n % 2 == 0)
        assert words is not None, (top, bottom, left, right)
        np.testing.assert_array_equal(to_pixels(words), whole[top:bottom, left:right])


@pytest.mark.parametrize("sampling", [*SAMPLINGS, "grey"])
@pytest.mark.parametrize("size", [(96, 72), (33, 47), (5, 3), (130, 17), (16, 16), (17, 64)])
def test_crops_are_parts_of_the_image(sampling, size):
    assert_crops_are_parts(jpeg(*size, sampling))


@pytest.mark.parametrize("quality", [1, 40, 100])
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:0"])
def test_crops_are_exact_at_any_quality(quality, sampling):
    assert_crops_are_parts(jpeg(70, 50, sampling, quality=quality, optimize=quality == 40))


@pytest.mark.parametrize("interval", [1, 3, 7, 1000])
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:0", "grey"])
def test_pieces_between_restarts_may_be_skipped(interval, sampling):
    data = tiled(jpeg(200, 90, sampling), interval)
    assert data is not None
    assert_crops_are_parts(data, crops=20)


@pytest.mark.exhaustive
@pytest.mark.parametrize("sampling", [*SAMPLINGS, "grey"])
def test_crops_are_exact_at_all_sizes(sampling):
    rng = random.Random(1)
    for n in range(600):
        data = jpeg(rng.randint(5, 600), rng.randint(1, 600), sampling, seed=n, quality=rng.randint(1, 100))
        assert_crops_are_parts(data, seed=n)
        assert_crops_are_parts(tiled(data, rng.randint(1, 12)) or data, seed=n)


def test_numbers_beyond_what_an_encoder_writes_are_computed_as_libjpeg_does():
    data = bytearray(jpeg(64, 64, "4:2:0", quality=60))
    place = data.index(b"\xff\xdb") + 5
    # The coefficients are multiplied by far more than they were divided by.
    data[place : place + 64] = bytes([255]) * 64
    words = decoded(bytes(data), 0, 0, 64, 64)
    assert words is None or (to_pixels(words) == to_pixels(decode(bytes(data), "x"))).all()


def with_code_of_ones(data: bytes) -> bytes:
    place = data.index(b"\xff\xc4") + 5
    return data[:place] + bytes([2]) + data[place + 1 :]


OTHERS = {
    "progressive": encoded(photo(1), progressive=True),
    "CMYK": encoded(photo(1).convert("CMYK")),
    "PNG": encoded(photo(1), "PNG"),
    "cut off": jpeg(96, 72, "4:2:0")[:-200],
    "without an end": jpeg(96, 72, "4:2:0")[:-2],
    "empty": b"",
    "a head alone": jpeg(96, 72, "4:2:0")[:300],
    "a code of ones alone": with_code_of_ones(jpeg(96, 72, "4:2:0")),
    "grey of no sampling": jpeg(96, 72, "grey").replace(b"\x01\x01\x11\x00", b"\x01\x01\x05\x00"),
    "four pixels wide": jpeg(4, 4, "4:2:0"),
    "an unknown colour transform": jpeg(96, 72, "4:2:0").replace(b"\1\x22\0\2\x11\1\3\x11\1", b"R\x22\0G\x11\1B\x11\1"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_rare_or_damaged_is_left_to_libjpeg(name):
    assert decoded(OTHERS[name], 0, 0, 1, 1, whole=True) is None


def between_forbidden_pages(size: int, *, at_the_end: bool = True) -> np.ndarray:
    """Bytes before (or behind) which nothing may be read or written: the process would end."""
    page = mmap.PAGESIZE
    room = -(-size // page) * page
    memory = np.frombuffer(mmap.mmap(-1, room + 2 * page), np.uint8)
    for place in (0, page + room):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(memory.ctypes.data + place), ctypes.c_size_t(page), 0) == 0
    start = page + (room - size if at_the_end else 0)
    return memory[start : start + size]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="memory is protected another way")
@pytest.mark.parametrize("sampling", [*SAMPLINGS, "grey"])
def test_nothing_around_a_file_or_its_pixels_is_touched(sampling):
    for width in range(17, 34):
        data, at_the_end = jpeg(width, 19, sampling), width % 4 > 0
        pixels = to_pixels(decode(data, "x"))
        file, room = between_forbidden_pages(len(data), at_the_end=at_the_end), tables()
        file[:] = np.frombuffer(data, np.uint8)
        file.flags.writeable = False  # as what `decoded` hands over: the kernels are compiled once
        out = between_forbidden_pages(4 * pixels[..., 0].size, at_the_end=at_the_end)
        out = out.view(np.uint32).reshape(pixels.shape[:2])
        assert read_frame(file, room.frame)
        assert decode_crop(file, room, 0, 0, out, True)
        np.testing.assert_array_equal(to_pixels(out), pixels)


def test_a_damaged_file_leaves_nothing_for_the_next():
    sound, room, damaged = jpeg(96, 72, "4:2:0"), tables(), 0
    for end in range(len(sound) - 400, len(sound) - 2, 7):
        for data in (sound[:end] + b"\xff\xd9", sound):
            file, out = np.frombuffer(data, np.uint8), np.empty((72, 96), np.uint32)
            assert read_frame(file, room.frame)
            is_whole = decode_crop(file, room, 0, 0, out, True)
            damaged += not is_whole
        np.testing.assert_array_equal(to_pixels(out), to_pixels(decode(sound, "x")))
    assert damaged > 50


def test_a_rectangle_outside_is_an_error():
    for top, left, height, width in [(0, 0, 73, 1), (0, 0, 1, 97), (-1, 0, 1, 1), (0, 0, 0, 1), (72, 0, 1, 1)]:
        with pytest.raises(ValueError, match="no part of an image of 96 x 72 pixels"):
            decoded(jpeg(96, 72, "4:2:0"), top, left, height, width)


def changed(data: bytes, rng: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        result[rng.randrange(len(result))] = rng.choice([0, 255, 0xD9, rng.randrange(256)])
    return bytes(result[: rng.randrange(len(result))] if rng.random() < 0.1 else result)


def attempt(seeds: range) -> int:
    """Decode damaged files; return how many were decoded as a whole."""
    count = 0
    for seed in seeds:
        rng = random.Random(seed)
        data = jpeg(rng.randint(1, 60), rng.randint(1, 60), rng.choice([*SAMPLINGS, "grey"]))
        data = changed(tiled(data, 2) or data if rng.random() < 0.5 else data, rng)
        try:
            words = decoded(data, 0, 0, 1, 1)
            with Image.open(io.BytesIO(data)) as image:
                size = image.size
            words = decoded(data, 0, 0, size[1], size[0], whole=True)
        except (ValueError, OSError):
            continue
        if words is not None:
            try:
                pixels = decode(data, "x")
            except DataError:
                continue
            np.testing.assert_array_equal(to_pixels(words), to_pixels(pixels))
            count += 1
    return count


def test_no_damage_gives_other_pixels_than_libjpegs():
    assert attempt(range(300)) > 10


@pytest.mark.exhaustive
def test_no_damage_makes_a_kernel_leave_its_arrays(tmp_path):
    """In a process and a cache of its own: numba checks indices only where it is told to before it compiles."""
    code = "import test_jpeg_crop; print(test_jpeg_crop.attempt(range(1000, 6000)))"
    environment = {
        **os.environ,
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100
