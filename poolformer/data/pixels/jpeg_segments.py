"""The markers of a JPEG: finding them, and a file without what is odd in them and harmless. Not its coded pixels."""

import re
from collections.abc import Iterator
from typing import NamedTuple

EOI, SCAN, HUFFMAN, RESTART_INTERVAL = 0xD9, 0xDA, 0xC4, 0xDD
SEQUENTIAL, PROGRESSIVE, ARITHMETIC = (0xC0, 0xC1), 0xC2, (0xC9, 0xCA)
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL_TOO = (*SEQUENTIAL, 0xC9)  # arithmetic
_JFIF, _ADOBE = 0xE0, 0xEE
_UNUSED = {*range(0xE0, 0xF0), 0xFE, 0xDC} - {_JFIF, _ADOBE}
_BARE = {0x01, *range(0xD0, 0xD9)}
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


class Segment(NamedTuple):
    """A marker and what belongs to it."""

    marker: int
    start: int
    """Of its byte 0xFF."""
    end: int
    """Behind it; of a scan, behind its coded pixels."""


def segments(jpeg: bytes) -> Iterator[Segment]:
    """Return the segments of a JPEG up to its end, as libjpeg finds them: what lies between two of them is skipped."""
    place = 0
    while found := _MARKER.search(jpeg, place):
        start, place, marker = found.start(), found.end(), found[0][1]
        if marker not in _BARE and marker != EOI:
            place += int.from_bytes(jpeg[place : place + 2], "big")
        if marker == SCAN:
            after = _END_OF_SCAN.search(jpeg, place)
            place = after.start() if after else len(jpeg)
        yield Segment(marker, start, place)
        if marker == EOI:
            return


def tidied(jpeg: bytes) -> bytes:
    """Return the same pixels without what is odd and harmless in the markers, or only describes the image."""
    parts = [(part.marker, bytearray(jpeg[part.start : part.end])) for part in segments(jpeg)]
    components, is_sequential = 0, False
    for marker, part in parts:
        if marker in FRAMES and len(part) > 9:
            components, is_sequential = part[9], marker in _SEQUENTIAL_TOO
        elif marker == SCAN and is_sequential and len(part) > 4:
            place = 5 + 2 * part[4]
            part[place : place + 3] = bytes((0, 63, 0))
        elif marker == _JFIF and part[4:9] == b"JFIF\0" and len(part) > 9:
            part[9] = 1
    for marker, part in parts:
        if marker == _ADOBE and part[4:9] == b"Adobe" and len(part) > 15:
            usual = {3: 1, 4: 2}.get(components, 0)
            part[15] = part[15] if part[15] in (0, usual) else usual
    return b"".join(part for marker, part in parts if marker not in _UNUSED)


def unsampled(jpeg: bytes) -> bytes:
    """Return the same header with no colour subsampled."""
    head = bytearray(jpeg)
    for part in segments(jpeg):
        if part.marker in FRAMES:
            head[part.start + 11 : part.end : 3] = bytes([0x11]) * len(head[part.start + 11 : part.end : 3])
    return bytes(head)
