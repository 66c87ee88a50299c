"""The header of a JPEG as the crop decoder reads it: baseline or sequential, 8 bits, one scan, grey or YCbCr.

Whatever is rarer than that is refused here, with no reason: libjpeg-turbo then decodes the whole file.
"""

from typing import NamedTuple

import numpy as np

from .jit import kernel
from .jpeg_bits import codes_fit

HEIGHT, WIDTH, COMPONENTS, ACROSS, DOWN, INTERVAL, SCAN, HAS_EXIF = range(8)
"""Places in `Frame.numbers`: size in pixels; luma samples a chroma sample, 1 or 2; MCUs between restarts; where the
coded pixels begin."""
QUANT, DC, AC = 8, 11, 14
"""Places of the numbers of a component's tables, three of each."""

_LONGEST = 65500  # side of an image, as libjpeg will have it
_PADDED = 160  # coefficients of a damaged block may run past 63


class Frame(NamedTuple):
    """What a header says; room for one, used again for each."""

    numbers: np.ndarray
    """int64 (17,), by the places above."""
    quants: np.ndarray
    """int64 (4, 160): quantisation tables in zigzag order, zeros behind 64."""
    huffmans: np.ndarray
    """int64 (8,): where Huffman tables stand in the file, DC then AC; -1 for none."""


@kernel
def empty_frame():
    """Return room for a header."""
    return Frame(np.zeros(17, np.int64), np.zeros((4, _PADDED), np.int64), np.zeros(8, np.int64))


@kernel
def read_frame(data, frame):
    """Read the header of a JPEG; return whether it is one that the crop decoder takes.

    Args:
        data: uint8, the file.
        frame: Written.
    """
    numbers, quants, huffmans = frame
    numbers[:] = 0
    huffmans[:] = -1
    size, place = len(data), 2
    components = np.zeros(3, np.int64)
    has_quants = np.zeros(4, np.bool_)
    is_jfif, transform = False, -1
    if size < 4 or data[0] != 0xFF or data[1] != 0xD8:
        return False
    while place + 4 <= size and data[place] == 0xFF:
        marker, end = data[place + 1], place + 2 + _two_bytes(data, place + 2)
        part = data[place + 4 : end]
        if end < place + 4 or end > size:
            return False
        if marker == 0xC0 or marker == 0xC1:
            if not _read_components(part, numbers, components):
                return False
        elif marker == 0xC4:
            if not _find_huffmans(part, place + 4, huffmans):
                return False
        elif marker == 0xDB:
            if not _read_quants(part, quants, has_quants):
                return False
        elif marker == 0xDD:
            if len(part) != 2:
                return False
            numbers[INTERVAL] = _two_bytes(part, 0)
        elif marker == 0xDA:
            if not _read_scan(part, numbers, components, has_quants, huffmans):
                return False
            numbers[SCAN] = end
            return _is_usual(numbers, components, is_jfif, transform)
        elif marker == 0xE0 and _begins(part, b"JFIF\0"):
            if len(part) < 14 or part[5] != 1:  # libjpeg takes it for something else, or warns
                return False
            is_jfif = True
        elif marker == 0xE1:
            numbers[HAS_EXIF] |= _begins(part, b"Exif\0")
        elif marker == 0xEE and _begins(part, b"Adobe"):
            transform = np.int64(part[11]) if len(part) >= 12 else 255
        elif marker != 0xFE and (marker < 0xE0 or marker > 0xEF):
            return False
        place = end
    return False


@kernel
def _two_bytes(data, place):
    return np.int64(data[place]) << 8 | np.int64(data[place + 1])


@kernel
def _begins(part, text):
    matching = 0
    while matching < min(len(part), len(text)) and part[matching] == text[matching]:
        matching += 1
    return matching == len(text)


@kernel
def _read_components(part, numbers, components):
    if numbers[COMPONENTS] or len(part) < 6 or part[0] != 8:
        return False
    count = np.int64(part[5])
    if count not in (1, 3) or len(part) != 6 + 3 * count:
        return False
    numbers[HEIGHT], numbers[WIDTH], numbers[COMPONENTS] = _two_bytes(part, 1), _two_bytes(part, 3), count
    for n in range(count):
        components[n], numbers[QUANT + n] = part[6 + 3 * n], part[8 + 3 * n]
        if numbers[QUANT + n] > 3 or (n > 0 and part[7 + 3 * n] != 0x11):
            return False
    across, down = part[7] >> 4, part[7] & 15
    if min(across, down) < 1 or max(across, down) > 4 or max(numbers[HEIGHT], numbers[WIDTH]) > _LONGEST:
        return False
    # A grey image's sampling says nothing: its blocks come one by one.
    numbers[ACROSS], numbers[DOWN] = (1, 1) if count == 1 else (across, down)
    return 1 <= numbers[ACROSS] <= 2 and 1 <= numbers[DOWN] <= 2 and numbers[HEIGHT] > 0 and numbers[WIDTH] > 0


@kernel
def _find_huffmans(part, place, huffmans):
    start = 0
    while start < len(part):
        kind = np.int64(part[start])
        if start + 17 > len(part) or kind >> 4 > 1 or kind & 15 > 3:
            return False
        counts = part[start + 1 : start + 17]
        count = np.int64(counts.sum())
        if not codes_fit(counts) or count > 256 or start + 17 + count > len(part):
            return False
        huffmans[4 * (kind >> 4) + (kind & 15)] = place + start + 1
        for n in range(start + 17, start + 17 + count):
            if kind < 16 and part[n] > 15:  # more bits than a DC coefficient has
                return False
        start += 17 + count
    return True


@kernel
def _read_quants(part, quants, has_quants):
    if len(part) % 65:  # of 16 bits, or damaged
        return False
    for start in range(0, len(part), 65):
        kind = part[start]
        if kind > 3:
            return False
        has_quants[kind] = True
        for n in range(64):
            quants[kind, n] = part[start + 1 + n]
    return True


@kernel
def _read_scan(part, numbers, components, has_quants, huffmans):
    count = numbers[COMPONENTS]
    if count == 0 or len(part) != 4 + 2 * count or part[0] != count:
        return False
    for n in range(count):
        dc, ac = part[2 + 2 * n] >> 4, part[2 + 2 * n] & 15
        if part[1 + 2 * n] != components[n] or dc > 3 or ac > 3:
            return False
        if huffmans[dc] < 0 or huffmans[4 + ac] < 0 or not has_quants[numbers[QUANT + n]]:
            return False
        numbers[DC + n], numbers[AC + n] = dc, 4 + ac
    return part[1 + 2 * count] == 0 and part[2 + 2 * count] == 63 and part[3 + 2 * count] == 0


@kernel
def _is_usual(numbers, components, is_jfif, transform):
    """Return whether colours are surely YCbCr, and chroma is interpolated, which libjpeg leaves in tiny images."""
    if numbers[COMPONENTS] == 1:
        return True
    numbered = components[0] == 1 and components[1] == 2 and components[2] == 3
    is_ycbcr = is_jfif or transform == 1 or (transform < 0 and numbered)
    return is_ycbcr and (numbers[ACROSS] == 1 or numbers[WIDTH] > 4)
