"""What libjpeg warns of: harmless oddities decode to Pillow's pixels and are packed untouched, damage is refused."""

import contextlib
import re

import numpy as np
import pytest
import simplejpeg
from data_images import encoded, photo, reference_pixels

from poolformer.data.beton import JPEG
from poolformer.data.pack import Storage, stored_image
from poolformer.data.pixels.jpeg import decode, decode_sound_jpeg, to_pixels
from poolformer.data.pixels.jpeg_huffman import coding_of, ends_well
from poolformer.data.pixels.jpeg_segments import SCAN, segments
from poolformer.data.tiling import Tiling
from poolformer.errors import DataError

IMAGE = photo(3, width=128, height=96)
PLAIN, PROGRESSIVE = encoded(IMAGE), encoded(IMAGE, progressive=True)
RESTARTS = encoded(IMAGE, restart_marker_blocks=5)
JUNK = np.random.default_rng(0).integers(0, 255, 200, dtype=np.uint8).tobytes()


def before(marker: int, junk: bytes, data: bytes) -> bytes:
    """With junk before the last marker of a kind."""
    place = data.rindex(bytes((0xFF, marker)))
    return data[:place] + junk + data[place:]


def before_restarts(junk: bytes) -> bytes:
    return re.sub(rb"\xff[\xd0-\xd7]", lambda marker: junk + marker[0], RESTARTS)


def between_segments(junk: bytes, data: bytes) -> bytes:
    """With junk before each segment but the first few, between scans and before the end as well."""
    return b"".join(
        (junk if n > 2 and part.marker in (0xC4, 0xDA, 0xD9) else b"") + data[part.start : part.end]
        for n, part in enumerate(segments(data))
    )


def scan_parameters(*values: int) -> bytes:
    data = bytearray(PLAIN)
    scan = next(part for part in segments(PLAIN) if part.marker == SCAN)
    place = scan.start + 5 + 2 * data[scan.start + 4]
    data[place : place + 3] = bytes(values)
    return bytes(data)


def jfif_version(major: int, minor: int) -> bytes:
    return PLAIN.replace(b"JFIF\0\1\1", b"JFIF\0" + bytes((major, minor)))


def with_segment(segment: bytes, *, jfif: bool = True, data: bytes = PLAIN) -> bytes:
    place = data.index(b"\xff\xdb")
    return (data[:place] if jfif else data[:2]) + segment + data[place:]


def adobe(transform: int) -> bytes:
    return b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform])


def sampled(factors: int) -> bytes:
    """The blocks of a 4:2:0 JPEG, laid out otherwise."""
    data = bytearray(encoded(photo(4, width=64, height=64)))
    data[data.index(b"\xff\xc0") + 11] = factors
    return bytes(data)


ODD = {
    "bytes before the end": before(0xD9, JUNK, PLAIN),
    "few bytes before the end": before(0xD9, b"abc", PLAIN),
    "zeros before the end": before(0xD9, bytes(59), PLAIN),
    "stuffed bytes before the end": before(0xD9, b"ab\xff\0" * 20, PLAIN),
    "fill bytes before the end": before(0xD9, b"\xff" * 9, PLAIN),
    "bytes before a restart": before(0xD3, JUNK, RESTARTS),
    "zeros before all restarts": before_restarts(bytes(20)),
    "few zeros before all restarts": before_restarts(bytes(3)),
    "zeros before all restarts and the end": before(0xD9, JUNK, before_restarts(bytes(20))),
    "progressive, bytes before the end": before(0xD9, JUNK, PROGRESSIVE),
    "progressive, zeros before each marker": between_segments(bytes(30), PROGRESSIVE),
    "bytes before the frame": before(0xC0, JUNK, PLAIN),
    "bytes before the tables": between_segments(b"\0\0\0", PLAIN),
    "bytes before all that": with_segment(b"junk"),
    "zeros in the scan": scan_parameters(0, 0, 0),
    "ones in the scan": scan_parameters(255, 255, 255),
    "spectral selection of the scan": scan_parameters(1, 63, 17),
    "JFIF 0.00": jfif_version(0, 0),
    "JFIF 2.01": jfif_version(2, 1),
    "Adobe transform 7": with_segment(adobe(7), jfif=False),
    "Adobe transform 2 of three colours": with_segment(adobe(2), jfif=False),
    "a profile in pieces that do not fit": with_segment(b"\xff\xe2\0\x20ICC_PROFILE\0\5\2" + bytes(16)),
    "4:4:1": sampled(0x14),
    "bytes after the end": PLAIN + JUNK,
    "all at once": before(
        0xD9, JUNK, with_segment(b"junk" + adobe(7), data=scan_parameters(0, 0, 0).replace(b"JFIF\0\1", b"JFIF\0\0"))
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_but_sound_jpeg_has_pillows_pixels_and_is_packed_untouched(name):
    pixels = to_pixels(decode(ODD[name], name))
    np.testing.assert_array_equal(pixels, reference_pixels(ODD[name]))
    stored = stored_image(ODD[name], name, Storage(), Tiling())
    assert (stored.mode, stored.data.tobytes()) == (JPEG, ODD[name])
    words = decode_sound_jpeg(stored.data, name, height=stored.height, width=stored.width)
    np.testing.assert_array_equal(to_pixels(words), pixels)


def zeroed(data: bytes, start: float, count: int) -> bytes:
    place = int(start * len(data))
    return data[:place] + bytes(count) + data[place + count :]


def cut(data: bytes, count: int = 300) -> bytes:
    return data[: -count - 2] + data[-2:]


def without_scan(data: bytes, number: int) -> bytes:
    scan = [part for part in segments(data) if part.marker == SCAN][number]
    return data[: scan.start] + data[scan.end :]


def behind_scan(number: int, junk: bytes, data: bytes) -> bytes:
    scan = [part for part in segments(data) if part.marker == SCAN][number]
    return data[: scan.end] + junk + data[scan.end :]


def with_scan_cut(data: bytes, number: int) -> bytes:
    scan = [part for part in segments(data) if part.marker == SCAN][number]
    return data[: scan.end - 40] + data[scan.end :]


DAMAGED = {
    "cut off, with an end": (cut(PLAIN), "premature end of data segment"),
    "cut off": (PLAIN[:-300], "Premature end of JPEG file"),
    "zeroed in the middle": (zeroed(PLAIN, 0.4, 300), "Corrupt JPEG data"),
    "zeroed in the middle, with bytes before the end": (
        before(0xD9, JUNK, zeroed(PLAIN, 0.4, 300)),
        "Corrupt JPEG data",
    ),
    "a restart out of turn": (RESTARTS.replace(b"\xff\xd3", b"\xff\xd5", 1), "found marker 0xd5 instead of RST3"),
    "a restart lost": (RESTARTS.replace(b"\xff\xd3", b"ab", 1), "extraneous bytes before marker 0xd4"),
    "cut behind a harmless restart": (
        (odd := before_restarts(bytes(20)))[: (place := odd.index(b"\xff\xd5")) - 60] + odd[place:],
        "Corrupt JPEG data",
    ),
    "cut behind harmless scan parameters": (cut(scan_parameters(0, 0, 0)), "premature end of data segment"),
    "cut behind a harmless version": (cut(jfif_version(0, 0)), "premature end of data segment"),
    "cut behind a harmless header": (cut(with_segment(b"junk")), "premature end of data segment"),
    "a scan lost": (without_scan(PROGRESSIVE, 1), "Inconsistent progression sequence"),
    "a scan cut behind a harmless one": (
        behind_scan(0, bytes(30), with_scan_cut(PROGRESSIVE, 4)),
        "Corrupt JPEG data",
    ),
    "CMYK, cut off": (cut(encoded(IMAGE.convert("CMYK"))), "premature end of data segment"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_lost_pixels_are_refused_though_a_harmless_warning_comes_first(name):
    data, reason = DAMAGED[name]
    with pytest.raises(DataError, match=f"^cat.jpg: damaged JPEG .*{reason}.*; replace the file or leave it out$"):
        decode(data, "cat.jpg")


@pytest.mark.parametrize("jpeg", [PLAIN, PROGRESSIVE], ids=["sequential", "progressive"])
def test_what_ends_early_for_damage_is_not_taken_for_bytes_before_the_end(jpeg):
    """A shifted code ends an image early; libjpeg then says the same as of a sound file with bytes too many."""
    warned = accepted = 0
    for place in range(900, len(jpeg) - 400, 40):
        data = jpeg[:place] + bytes(25) + jpeg[place + 25 :]
        try:
            simplejpeg.decode_jpeg(data)
        except ValueError as warning:
            warned += "extraneous" in str(warning)
            with contextlib.suppress(DataError):
                decode(data, "cat.jpg")
                accepted += 1
    assert warned > 10
    assert accepted <= (0 if jpeg is PLAIN else 0.2 * warned)


@pytest.mark.parametrize("tables", [{}, {0: bytes([1, *[0] * 15, 0])}], ids=["none", "of DC alone"])
def test_codes_of_a_table_that_is_not_there_are_no_codes(tables):
    """And nothing beyond an array is read. Of DC alone: the code of one bit, 0, stands for no difference."""
    coding = coding_of(tables, [(0, 0)])
    assert not ends_well(bytes(8), coding, 1)
    assert ends_well(bytes([0x7F]), coding, 1, only_dc=True) is bool(tables)
