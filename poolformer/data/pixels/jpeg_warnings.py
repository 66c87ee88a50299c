"""JPEGs that libjpeg warns of: which of them have all their pixels, and how to decode those.

libjpeg tells its first warning alone, and simplejpeg none where the header is odd. So a file is first rewritten without
what is odd and harmless in its markers, as cameras and editors leave it; what is odd between its pixels is then looked
at piece by piece, so that nothing hides behind a first, harmless warning.

| warning of libjpeg | cause | pixels |
|---|---|---|
| N extraneous bytes before marker | padding or leftovers before a marker | all there |
| Invalid SOS parameters for sequential JPEG | three bytes that a sequential JPEG does not use | all there |
| unknown JFIF revision number | a version other than 1 | all there |
| Unknown Adobe color transform code | taken for YCbCr or YCCK, by all that use libjpeg | all there |
| bad ICC marker | a colour profile in pieces that do not fit | all there |
| premature end of data segment, Premature end of JPEG file | cut off, or damaged | lost |
| bad Huffman code, bad arithmetic code | damaged | lost |
| found marker ... instead of RST | damaged | lost |
| Inconsistent progression sequence | a scan is missing | lost |
"""

import re
from typing import NamedTuple

import numpy as np
import simplejpeg

from .jpeg_huffman import Coding, Refinement, coding_of, ends_well, refines_well
from .jpeg_segments import (
    ARITHMETIC,
    EOI,
    FRAMES,
    HUFFMAN,
    PROGRESSIVE,
    RESTART_INTERVAL,
    SCAN,
    SEQUENTIAL,
    Segment,
    segments,
    tidied,
)

_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_END = bytes((0xFF, EOI))
_EXTRANEOUS = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x[0-9a-f]{2}")
_LARGEST = 65500
"""Side of an image, as libjpeg will have it."""


def decode_despite_warnings(jpeg: bytes) -> np.ndarray:
    """Decode a JPEG that libjpeg warns of, if all its pixels are there.

    Returns:
        uint8 (H, W, 4): red, green, blue and padding; the pixels that libjpeg makes of the file as it is.

    Raises:
        ValueError: Pixels are lost; the message is libjpeg's.
    """
    tidy = tidied(jpeg)
    try:
        return simplejpeg.decode_jpeg(tidy, "RGBX")
    except ValueError as warning:
        loss = _loss(tidy, str(warning))
    if loss is not None:
        raise ValueError(loss)
    return simplejpeg.decode_jpeg(tidy, "RGBX", strict=False)


def _loss(jpeg: bytes, first_warning: str) -> str | None:
    """Return the first warning that means lost pixels."""
    if not _EXTRANEOUS.fullmatch(first_warning):
        return first_warning
    parts = list(segments(jpeg))
    scans = [part for part in parts if part.marker == SCAN]
    frame = next((part for part in parts if part.marker in FRAMES), None)
    if frame is None:
        return first_warning
    is_whole = len(scans) == 1 and jpeg[scans[0].start + 4] == jpeg[frame.start + 9]
    if is_whole and frame.marker in SEQUENTIAL:
        return _loss_in_restart_intervals(jpeg, parts, frame, scans[0], first_warning)
    return _loss_in_scans(jpeg, parts, frame)


def _loss_in_restart_intervals(
    jpeg: bytes, parts: list[Segment], frame: Segment, scan: Segment, first_warning: str
) -> str | None:
    data = scan.start + 2 + int.from_bytes(jpeg[scan.start + 2 : scan.start + 4], "big")
    grid, coding = _grid(jpeg, frame), _coding(jpeg, parts, frame, scan)
    if coding is None:
        return first_warning
    mcus = grid.mcus
    every = _restart_interval(jpeg, parts)
    pieces = _RESTART.split(jpeg[data : scan.end]) if every else [jpeg[data : scan.end]]  # pixels, number, pixels ...
    in_turn = all(number[0] & 7 == n % 8 for n, number in enumerate(pieces[1::2]))
    last = mcus - every * (len(pieces) // 2)
    if not in_turn or not 0 < last <= (every or mcus):
        return first_warning
    for n, pixels in enumerate(pieces[::2]):
        count = last if 2 * n + 1 == len(pieces) else every
        head = bytearray(jpeg[:data])
        head[frame.start + 5 : frame.start + 9] = grid.size_of(count)
        warning = _warning(bytes(head) + pixels + _END)
        if warning is not None and not (_EXTRANEOUS.fullmatch(warning) and ends_well(pixels, coding, count)):
            return warning
    return None


def _loss_in_scans(jpeg: bytes, parts: list[Segment], frame: Segment) -> str | None:
    sound, known = b"", _nothing_known(jpeg, frame)
    for n, part in enumerate(parts):
        sound += jpeg[part.start : part.end]
        if part.marker != SCAN:
            continue
        warning = _warning(sound + _END)
        extraneous = _EXTRANEOUS.fullmatch(warning or "")
        if warning is not None and not extraneous:
            return warning
        if (
            _ends_well_in_scan(jpeg, parts[:n], frame, part, known) and extraneous
        ):  # the next scan's warnings would hide behind it
            sound = sound.rstrip(b"\xff")[: -int(extraneous[1])]
            warning = _warning(sound + _END)
        if warning is not None:
            return warning
    return None


def _nothing_known(jpeg: bytes, frame: Segment) -> dict[int | None, np.ndarray]:
    """For each component of a progressive JPEG, which coefficients of its blocks are not zero."""
    numbers = jpeg[frame.start + 10 : frame.end : 3]
    return {number: np.zeros(_grid(jpeg, frame, number).mcus, np.uint64) for number in numbers}


def _ends_well_in_scan(
    jpeg: bytes, before: list[Segment], frame: Segment, scan: Segment, known: dict[int | None, np.ndarray]
) -> bool:
    data = scan.start + 2 + int.from_bytes(jpeg[scan.start + 2 : scan.start + 4], "big")
    first, last, bits = jpeg[data - 3 : data]
    if frame.marker in ARITHMETIC or (frame.marker == PROGRESSIVE and first == 0 < bits >> 4):
        return True  # an end that does not show; single bits, which no damage shifts
    coding = _coding(jpeg, before, frame, scan)
    if coding is None or frame.marker not in (*SEQUENTIAL, PROGRESSIVE):
        return False
    number = jpeg[scan.start + 5] if jpeg[scan.start + 4] == 1 else None
    mcus, pixels = _grid(jpeg, frame, number).mcus, jpeg[data : scan.end]
    if _restart_interval(jpeg, before):
        return False
    if frame.marker in SEQUENTIAL:
        return ends_well(pixels, coding, mcus)
    if first == 0:
        return ends_well(pixels, coding, mcus, only_dc=True)
    return refines_well(pixels, coding, Refinement(first, last, bits >> 4 == 0), known[number])


def _restart_interval(jpeg: bytes, parts: list[Segment]) -> int:
    return next((int.from_bytes(jpeg[p.start + 4 : p.end], "big") for p in parts if p.marker == RESTART_INTERVAL), 0)


class _Grid(NamedTuple):
    """Of the units (MCUs) in which an image is coded."""

    columns: int
    rows: int
    width: int
    """Of one, in pixels."""
    height: int

    @property
    def mcus(self) -> int:
        return self.columns * self.rows

    def size_of(self, mcus: int) -> bytes:
        """Height and width of an image of so many, as a frame states them; nothing where there is none."""
        rows = mcus // self.columns if mcus % self.columns == 0 else 1
        height, width = rows * self.height, mcus // rows * self.width
        return height.to_bytes(2, "big") + width.to_bytes(2, "big") if max(height, width) <= _LARGEST else bytes(4)


def _grid(jpeg: bytes, frame: Segment, component: int | None = None) -> _Grid:
    """Of a scan of all components, or of one, which is then coded block by block."""
    height, width = (int.from_bytes(jpeg[frame.start + n : frame.start + n + 2], "big") for n in (5, 7))
    sampling = dict(zip(jpeg[frame.start + 10 : frame.end : 3], jpeg[frame.start + 11 : frame.end : 3], strict=False))
    across, down = (
        max(factors >> 4 for factors in sampling.values()),
        max(factors & 15 for factors in sampling.values()),
    )
    if component is None and len(sampling) > 1:
        return _Grid(-(-width // (8 * across)), -(-height // (8 * down)), 8 * across, 8 * down)
    factors = sampling[next(iter(sampling)) if component is None else component]
    width, height = -(-width * (factors >> 4) // across), -(-height * (factors & 15) // down)
    return _Grid(-(-width // 8), -(-height // 8), 8, 8)


def _coding(jpeg: bytes, parts: list[Segment], frame: Segment, scan: Segment) -> Coding | None:
    tables: dict[int, bytes] = {}
    for part in parts:
        place = part.start + 4
        while part.marker == HUFFMAN and place < part.end:
            size = 17 + sum(jpeg[place + 1 : place + 17])
            tables[jpeg[place]] = jpeg[place + 1 : place + size]
            place += size
    sampling = dict(zip(jpeg[frame.start + 10 : frame.end : 3], jpeg[frame.start + 11 : frame.end : 3], strict=False))
    components = jpeg[scan.start + 4]
    blocks = []
    for n in range(components):
        number, choice = jpeg[scan.start + 5 + 2 * n : scan.start + 7 + 2 * n]
        count = (sampling[number] >> 4) * (sampling[number] & 15) if components > 1 else 1
        blocks += [(choice >> 4, choice & 15)] * count
    first, last, _ = jpeg[scan.start + 5 + 2 * components : scan.start + 8 + 2 * components]
    used = {dc for dc, _ in blocks if first == 0} | {16 + ac for _, ac in blocks if last > 0}
    return coding_of({number: tables[number] for number in used}, blocks) if used <= set(tables) else None


def _warning(jpeg: bytes) -> str | None:
    try:
        simplejpeg.decode_jpeg(jpeg)
    except ValueError as warning:
        return str(warning)
    return None
