"""Tiles are lossless: whoever decodes them gets the pixels of the file they were made of."""

import io
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg
from data_images import encoded, photo, reference_pixels
from PIL import Image

from poolformer.data.class_folders import FolderFiles
from poolformer.data.pixels.jpeg_segments import HUFFMAN, RESTART_INTERVAL, SCAN, segments
from poolformer.data.pixels.jpeg_tiles import tiled
from poolformer.data.pixels.orientation import orientation

SAMPLINGS = ["444", "422", "420", "440", "Gray"]


def jpeg(seed: int, width: int, height: int, sampling: str, quality: int = 90) -> bytes:
    pixels = np.asarray(photo(seed, width=width, height=height))
    if sampling == "Gray":
        return simplejpeg.encode_jpeg(
            pixels[..., :1].copy(), quality=quality, colorspace="Gray", colorsubsampling="Gray"
        )
    return simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling=sampling)


def check(data: bytes, interval: int | None = None) -> bytes:
    """Tile a JPEG and hold the result to its pixels, with both decoders."""
    tiles = tiled(data, interval)
    assert tiles is not None
    np.testing.assert_array_equal(reference_pixels(tiles), reference_pixels(data))
    decoded = [simplejpeg.decode_jpeg(one, "RGBX") for one in (tiles, data)]  # strict: a warning is an error
    np.testing.assert_array_equal(*decoded)
    return tiles


def intervals(data: bytes) -> list[int]:
    return [int.from_bytes(data[s.start + 4 : s.end], "big") for s in segments(data) if s.marker == RESTART_INTERVAL]


def sizes(rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
    return [(1, 1), (16, 16), (17, 1), (1, 600), *(tuple(map(int, rng.integers(1, 601, 2))) for _ in range(count))]


@pytest.mark.slow
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_pixels_stay_at_any_size_and_interval(sampling):
    rng = np.random.default_rng(SAMPLINGS.index(sampling))
    for n, (width, height) in enumerate(sizes(rng, 6)):
        data = jpeg(n, width, height, sampling, quality=int(rng.integers(30, 101)))
        check(data, int(rng.integers(1, 80)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_pixels_stay_at_many_sizes_and_intervals(sampling):
    rng = np.random.default_rng(100 + SAMPLINGS.index(sampling))
    for n, (width, height) in enumerate(sizes(rng, 300)):
        check(jpeg(n, width, height, sampling, quality=int(rng.integers(1, 101))), int(rng.integers(1, 80)))


@pytest.mark.parametrize(("sampling", "interval"), [*zip(SAMPLINGS, (6, 3, 3, 6, 6), strict=True)])
def test_a_tile_is_48_pixels_wide(sampling, interval):
    assert intervals(check(jpeg(0, 300, 200, sampling))) == [interval]


def as_extended(data: bytes) -> bytes:
    return data.replace(b"\xff\xc0", b"\xff\xc1", 1)


KINDS = {
    "restarts": encoded(photo(0), restart_marker_blocks=3),
    "restarts every row": encoded(photo(1), restart_marker_rows=1, optimize=True),
    "RGB": encoded(photo(2), keep_rgb=True),
    "extended": as_extended(encoded(photo(3))),
    "noise": encoded(Image.effect_noise((70, 50), 300).convert("RGB"), quality=100),
    "padding before a marker": encoded(photo(4)).replace(b"\xff\xdb", b"\xff\xff\xff\xdb"),
    "bytes behind the end": encoded(photo(5)) + b"\xff\xd8more",
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("interval", [1, 4, 65535])
def test_pixels_of_many_kinds_stay(name, interval):
    assert intervals(check(KINDS[name], interval)) == [interval]


@pytest.mark.parametrize("name", KINDS)
def test_tiles_of_tiles_are_those_of_the_first_file(name):
    """So every coefficient is there, wherever the intervals began before."""
    assert tiled(tiled(KINDS[name], 3), 7) == tiled(KINDS[name], 7)


def test_a_file_without_markers_gets_smaller():
    data = encoded(photo(0, width=500, height=400))
    assert len(tiled(data, 65535)) < len(data)


@pytest.mark.skipif(not shutil.which("jpegtran") or not shutil.which("djpeg"), reason="needs libjpeg-turbo's programs")
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_libjpegs_programs_see_the_same_image(sampling):
    data = jpeg(1, 190, 130, sampling)
    tiles = tiled(data, 4)
    for command in (["jpegtran", "-copy", "none", "-optimize"], ["djpeg", "-pnm"]):
        seen = [subprocess.run(command, input=one, capture_output=True, check=True) for one in (data, tiles)]
        assert seen[0].stdout == seen[1].stdout
        assert seen[1].stderr == b""


@pytest.mark.skipif(not shutil.which("jpegtran"), reason="needs libjpeg-turbo's programs")
def test_tables_are_as_good_as_jpegtrans():
    data = jpeg(2, 400, 300, "420")
    command = ["jpegtran", "-copy", "none", "-optimize", "-restart", "4B"]
    theirs = subprocess.run(command, input=data, capture_output=True, check=True).stdout
    assert len(tiled(data, 4)) <= len(theirs)


def test_what_only_describes_the_image_is_left_out_but_for_its_orientation():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    data = encoded(photo(6), exif=exif, icc_profile=bytes(2000), comment=b"a comment")
    tiles = check(data)
    assert orientation(tiles, ("JPEG",)) == 6
    with Image.open(io.BytesIO(tiles)) as image:
        assert dict(image.getexif()) == {0x0112: 6}
        assert not {"icc_profile", "comment"} & set(image.info)
    exif[0x0112] = 1
    assert b"Exif" not in check(encoded(photo(6), exif=exif))


def changed(data: bytes, marker: int, offset: int, value: int) -> bytes:
    """Another byte in the first segment of a kind."""
    part = next(part for part in segments(data) if part.marker == marker)
    return data[: part.start + offset] + bytes([value]) + data[part.start + offset + 1 :]


WHOLE = encoded(photo(8, width=200, height=150))
RESTARTS = encoded(photo(9, width=200, height=150), restart_marker_blocks=5)
UNTOUCHED = {
    "nothing": b"",
    "PNG": encoded(photo(0), "PNG"),
    "progressive": encoded(photo(0), progressive=True),
    "CMYK": encoded(photo(0).convert("CMYK")),
    "4:1:1": jpeg(0, 90, 70, "411"),
    "12 bits": changed(as_extended(WHOLE), 0xC1, 4, 12),
    "arithmetic": WHOLE.replace(b"\xff\xc0", b"\xff\xc9", 1),
    "no height": changed(changed(WHOLE, 0xC0, 5, 0), 0xC0, 6, 0),
    "a higher frame": changed(WHOLE, 0xC0, 5, 200),
    "a lower frame": changed(WHOLE, 0xC0, 6, 60),
    "no tables": WHOLE.replace(b"\xff\xc4", b"\xff\xfe"),
    "a table with too many codes": changed(WHOLE, HUFFMAN, 5, 3),
    "a table that ends early": changed(WHOLE, HUFFMAN, 20, 200),
    "a table of no such number": changed(WHOLE, SCAN, 6, 0x33),
    "half": WHOLE[: len(WHOLE) // 2],
    "no end": WHOLE[:-2],
    "bytes before the end": WHOLE[:-2] + b"\0\0\xff\xd9",
    "bytes before a marker": WHOLE.replace(b"\xff\xdb", b"\0\xff\xdb", 1),
    "a marker out of turn": RESTARTS.replace(b"\xff\xd1", b"\xff\xd2", 1),
    "a marker too few": RESTARTS.replace(b"\xff\xd7", b"", 1),
    "a marker nobody spoke of": WHOLE[:-300] + b"\xff\xd0" + WHOLE[-300:],
    "another interval": changed(RESTARTS, RESTART_INTERVAL, 5, 6),
    "a scan of one component": changed(WHOLE, SCAN, 4, 1),
}


@pytest.mark.parametrize("name", UNTOUCHED)
def test_what_is_damaged_or_of_another_kind_is_left_alone(name):
    assert tiled(UNTOUCHED[name]) is None


@pytest.mark.skipif(not shutil.which("jpegtran"), reason="needs libjpeg-turbo's programs")
def test_several_scans_are_left_alone(tmp_path):
    (tmp_path / "scans").write_text("0;\n1;\n2;\n")
    command = ["jpegtran", "-scans", str(tmp_path / "scans")]
    assert tiled(subprocess.run(command, input=WHOLE, capture_output=True, check=True).stdout) is None


def fuzz(seed: int, rounds: int) -> int:
    """Change, cut and add bytes; what is tiled all the same has to keep its pixels. Returns how often it was."""
    rng, tiles = np.random.default_rng(seed), 0
    files = [np.frombuffer(one, np.uint8) for one in (WHOLE, RESTARTS, *KINDS.values())]
    for _ in range(rounds):
        data = files[rng.integers(len(files))].copy()
        where = len(data) if rng.random() < 0.5 else 700  # the header
        data[rng.integers(2, where, rng.integers(1, 6))] = rng.integers(0, 256)
        if rng.random() < 0.2:
            data = data[: rng.integers(2, len(data))]
        elif rng.random() < 0.1:
            data = np.insert(data, rng.integers(2, len(data)), rng.integers(0, 256, 3).astype(np.uint8))
        made = tiled(data.tobytes(), int(rng.integers(1, 20)))
        if made is not None:
            tiles += 1
            try:
                want = simplejpeg.decode_jpeg(data.tobytes(), "RGBX")
            except ValueError:  # the header is odd in another way
                continue
            np.testing.assert_array_equal(simplejpeg.decode_jpeg(made, "RGBX"), want)
    return tiles


def test_no_bytes_break_the_transcoder():
    assert fuzz(0, 300) > 0


@pytest.mark.exhaustive
def test_no_bytes_make_the_transcoder_read_beyond_an_array(tmp_path):
    """Once more with numba's checks of each index, which are chosen when kernels are compiled."""
    code = "import test_jpeg_tiles as t; print(t.fuzz(1, 4000))"
    environment = os.environ | {
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@pytest.mark.slow
@pytest.mark.skipif("POOLFORMER_IMAGES" not in os.environ, reason="POOLFORMER_IMAGES names no folder of images")
def test_real_photographs_keep_their_pixels_and_their_size():
    folder = FolderFiles(os.environ["POOLFORMER_IMAGES"])
    before = after = pixels = images = 0
    for n in range(len(folder.names)):
        data = folder.read(n)
        if tiled(data) is not None:
            tiles = check(data)
            before, after, images = before + len(data), after + len(tiles), images + 1
            pixels += reference_pixels(data)[..., 0].size
    print(f"\n{images} of {len(folder.names)} images, {pixels} pixels, {after / before:.4f} of their bytes")
    assert images
