"""A JPEG in tiles: the same pixels, with restart markers every few blocks, so that a crop can be decoded alone.

Between two restart markers nothing depends on what comes before. A reader that needs a part of the image goes to the
markers that enclose it and leaves the rest alone; for everybody else it is an ordinary JPEG.

The coefficients stay as they are (nothing is lost); Huffman tables are made for the image, which saves more than the
markers cost. Kept is what decides the pixels, and the orientation of EXIF where an image is to be turned; thumbnails,
colour profiles, comments and what follows the image are left out.
"""

from typing import NamedTuple

from .jpeg_best_codes import LONGEST
from .jpeg_recoding import Scan, recoded
from .jpeg_segments import HUFFMAN, RESTART_INTERVAL, SCAN, SEQUENTIAL, Segment
from .orientation import as_exif, orientation

_TILE = 48
"""Width of what stands between two markers, in pixels: see data/README.md for what other widths cost."""
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_JFIF, _EXIF, _ADOBE, _COMMENT, _QUANTISATION = 0xE0, 0xE1, 0xEE, 0xFE, 0xDB
_DECIDES_COLOURS = {_JFIF: b"JFIF\0", _ADOBE: b"Adobe"}
_SAMPLINGS = {
    *(b"\x11\x11\x11", b"\x21\x11\x11", b"\x12\x11\x11", b"\x22\x11\x11"),
    *(b"\x11", b"\x21", b"\x12", b"\x22"),
}
"""4:4:4, 4:2:2, 4:4:0, 4:2:0 and grey, where it means nothing."""


def tiled(jpeg: bytes, interval: int | None = None) -> bytes | None:
    """Return a JPEG of the same pixels with a restart marker every `interval` MCUs.

    Args:
        jpeg: The bytes of a file.
        interval: MCUs between two markers, 1 to 65,535; by default those of 48 pixels: 3 of 4:2:0, 6 of 4:4:4. It need
            not divide a row of them.

    Returns:
        The new file; None for what is not a sound JPEG of one sequential scan with Huffman codes and 8 bits, grey or of
        three components in a usual sampling.
    """
    if (parts := _head(jpeg)) is None or (kept := _kept(jpeg, parts)) is None or (found := _scan(jpeg, parts)) is None:
        return None
    scan, width = found
    interval = interval or _TILE // width
    if (coded := recoded(scan, interval)) is None:
        return None
    tables, pixels = coded
    restart = _segment(RESTART_INTERVAL, interval.to_bytes(2, "big"))
    huffman = _segment(HUFFMAN, b"".join(bytes([number]) + table for number, table in tables.items()))
    choice = jpeg[parts[-1].start : parts[-1].end - 3]  # which component has which tables
    return b"".join((_SOI, *kept, restart, huffman, choice, b"\0\x3f\0", pixels, _EOI))


def _segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + (2 + len(content)).to_bytes(2, "big") + content


def _head(jpeg: bytes) -> list[Segment] | None:
    """Return the segments between the start of a JPEG and its first coded pixels, None where something is between."""
    parts, place = [], len(_SOI)
    while jpeg.startswith(_SOI) and place + 4 <= len(jpeg) and jpeg[place] == 0xFF:
        marker, size = jpeg[place + 1], int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if marker == 0xFF:  # a byte of padding
            place += 1
            continue
        part = Segment(marker, place, place + 2 + size)
        parts.append(part)
        place = part.end
        if size < 3 or place > len(jpeg):
            return None
        if marker == SCAN:
            return parts
    return None


def _kept(jpeg: bytes, parts: list[Segment]) -> list[bytes] | None:
    """Return what stays of the segments before the scan, None where one is odd."""
    kept, has_exif = [], False
    for marker, start, end in parts:
        if marker in SEQUENTIAL or marker == _QUANTISATION:
            kept.append(jpeg[start:end])
        elif marker in _DECIDES_COLOURS:
            if jpeg.startswith(_DECIDES_COLOURS[marker], start + 4):
                kept.append(jpeg[start:end])
        elif not (0xE1 <= marker <= 0xEF or marker in (_COMMENT, HUFFMAN, RESTART_INTERVAL, SCAN)):
            return None
        has_exif |= marker == _EXIF
    if has_exif and (turned := orientation(jpeg, ("JPEG",))) != 1:
        kept.insert(0, _segment(_EXIF, as_exif(turned)))
    return kept


def _scan(jpeg: bytes, parts: list[Segment]) -> tuple[Scan, int] | None:
    """Return (scan of a JPEG, pixels across an MCU), None where it is none that can be recoded."""
    frames, start = [part for part in parts if part.marker in SEQUENTIAL], parts[-1].end
    if len(frames) != 1:
        return None
    frame, scan = jpeg[frames[0].start : frames[0].end], jpeg[parts[-1].start : start]
    grid, tables, every = _grid(frame), _tables(jpeg, parts), _restart_interval(jpeg, parts)
    if grid is None or tables is None or every is None:
        return None
    chosen = _chosen(frame, scan)
    if chosen is None:
        return None
    blocks = [(n, dc, 4 + ac) for n, (dc, ac) in enumerate(chosen) for _ in range(grid.blocks[n])]
    used = sorted({dc for dc, _ in chosen} | {0x10 + ac for _, ac in chosen})
    if any(number not in tables for number in used):
        return None
    every = min(every or grid.mcus, grid.mcus)
    return Scan(jpeg, start, every, grid.mcus, {number: tables[number] for number in used}, blocks), grid.width


class _Grid(NamedTuple):
    mcus: int
    width: int
    """Of an MCU, in pixels."""
    blocks: list[int]
    """Of each component in an MCU."""


def _grid(frame: bytes) -> _Grid | None:
    """Return what a frame, with its marker, divides its image into; None for one of other kinds than we recode."""
    if len(frame) < 10 or frame[1] not in SEQUENTIAL or frame[4] != 8 or len(frame) != 10 + 3 * frame[9]:
        return None
    height, width = (int.from_bytes(frame[n : n + 2], "big") for n in (5, 7))
    sampling = frame[11::3]
    if height == 0 or width == 0 or sampling not in _SAMPLINGS:
        return None
    across, down = (sampling[0] >> 4, sampling[0] & 15) if len(sampling) == 3 else (1, 1)  # one alone has no MCUs
    mcus = -(-width // (8 * across)) * -(-height // (8 * down))
    return _Grid(mcus, 8 * across, [across * down, 1, 1][: len(sampling)])


def _chosen(frame: bytes, scan: bytes) -> list[tuple[int, int]] | None:
    """Return (DC table, AC table) of each component, None unless the scan has all of them in the frame's order."""
    count, numbers = frame[9], frame[10::3]
    if len(scan) != 8 + 2 * count or scan[4] != count or scan[5 : 5 + 2 * count : 2] != numbers:
        return None
    chosen = [divmod(choice, 16) for choice in scan[6 : 6 + 2 * count : 2]]
    return chosen if len(set(numbers)) == count and max(max(pair) for pair in chosen) < 4 else None


def _tables(jpeg: bytes, parts: list[Segment]) -> dict[int, bytes] | None:
    """Return the Huffman tables, None where one is damaged."""
    tables = {}
    for part in parts:
        place = part.start + 4
        while part.marker == HUFFMAN and place < part.end:
            size = 1 + LONGEST + sum(jpeg[place + 1 : place + 1 + LONGEST])
            if size > 1 + LONGEST + 256 or place + size > part.end or jpeg[place] & ~0x13:
                return None
            tables[jpeg[place]] = jpeg[place + 1 : place + size]
            place += size
    return tables


def _restart_interval(jpeg: bytes, parts: list[Segment]) -> int | None:
    """Return the MCUs between two markers, 0 for all, None where it is said wrongly."""
    said = [jpeg[part.start + 4 : part.end] for part in parts if part.marker == RESTART_INTERVAL]
    if any(len(content) != 2 for content in said):
        return None
    return int.from_bytes(said[-1], "big") if said else 0
