"""From the coded bits of a JPEG's scan to its samples: of the blocks around a crop alone, the others being skipped.

Where the file has restart markers (see jpeg_tiles.py), whole pieces between them are skipped unread.
"""

from typing import NamedTuple

import numpy as np

from . import jpeg_bits
from .idct import write_block
from .jit import kernel
from .jpeg_bits import LOOK, WHOLE, extended, long_code, make_look_up, next_marker, refilled, step_of, unstuffed
from .jpeg_frame import AC, ACROSS, COMPONENTS, DC, DOWN, HEIGHT, INTERVAL, QUANT, SCAN, WIDTH, Frame, empty_frame

_ZIGZAG = """
 0  1  8 16  9  2  3 10 17 24 32 25 18 11  4  5 12 19 26 33 40 48 41 34 27 20 13  6  7 14 21 28
35 42 49 56 57 50 43 36 29 22 15 23 30 37 44 51 58 59 52 45 38 31 39 46 53 60 61 54 47 55 62 63
"""
# As libjpeg, a step past the last coefficient lands on it; a step goes 16 further at most.
ZIGZAG = np.pad(np.array(_ZIGZAG.split(), np.int64), (0, 16), constant_values=63)

SLACK = 1024
"""Bytes behind the coded bits that may be looked at: a damaged block takes up to 249 that are not there."""

_SYMBOL = np.uint64(48)
# Encoders write up to 1024; beyond this, libjpeg-turbo's results depend on which of its shortcuts are taken.
_LARGEST = 8191


class Tables(NamedTuple):
    """What is kept from one file to the next, all of it rewritten."""

    frame: Frame
    look: np.ndarray
    """int32 (8, 2**LOOK): DC tables, then AC."""
    long: np.ndarray
    """int64 (8, 17, 3)."""
    values: np.ndarray
    """uint8 (8, 256)."""
    coefficients: np.ndarray
    """int16 (64,): of the block that is read; zeros between two blocks."""


class Window(NamedTuple):
    """The MCUs that are wanted."""

    top: int
    bottom: int
    left: int
    right: int


class Layout(NamedTuple):
    """Where the blocks of an MCU go, up to six."""

    components: np.ndarray
    """int64 (6,): the component of each block."""
    places: np.ndarray
    """int64 (6,): of the first MCU's blocks in the planes."""
    starts: np.ndarray
    """int64 (3,): of the planes of a component."""
    across: np.ndarray
    """int64 (3,): from an MCU to the next, by component."""
    down: np.ndarray
    """int64 (3,): from a row of MCUs to the next."""
    strides: np.ndarray
    """int64 (3,): from line to line."""


@kernel
def tables():
    """Return room for the tables of a file."""
    look, long = np.zeros((8, 1 << LOOK), np.int32), np.zeros((8, 17, 3), np.int64)
    return Tables(empty_frame(), look, long, np.zeros((8, 256), np.uint8), np.zeros(64, np.int16))


@kernel
def window_of(numbers, top, bottom, left, right):
    """Return the window for a crop in pixels; halved chroma is interpolated from a sample further out."""
    across, down = numbers[ACROSS], numbers[DOWN]
    further_x, further_y = (2 if across == 2 else 0), (2 if down == 2 else 0)
    return Window(
        max(0, top - further_y) // (8 * down),
        -(-min(numbers[HEIGHT], bottom + further_y) // (8 * down)),
        max(0, left - further_x) // (8 * across),
        -(-min(numbers[WIDTH], right + further_x) // (8 * across)),
    )


@kernel
def layout_of(numbers, window):
    """Return (layout, size of the planes): luma, then both of chroma."""
    rows, columns = window.bottom - window.top, window.right - window.left
    of_blocks, of_components = np.zeros((2, 6), np.int64), np.zeros((4, 3), np.int64)
    layout = Layout(of_blocks[0], of_blocks[1], of_components[0], of_components[1], of_components[2], of_components[3])
    start = block = 0
    for component in range(numbers[COMPONENTS]):
        across, down = (numbers[ACROSS], numbers[DOWN]) if component == 0 else (1, 1)
        stride = 8 * columns * across
        layout.strides[component], layout.starts[component] = stride, start
        layout.across[component], layout.down[component] = 8 * across, 8 * down * stride
        for y in range(down):
            for x in range(across):
                layout.components[block], layout.places[block] = component, start + 8 * (y * stride + x)
                block += 1
        start += rows * 8 * down * stride
    return layout, start


@kernel
def decode_scan(data, tables, window, layout, planes, whole):
    """Write the samples of a window's MCUs; return whether nothing was wrong.

    Args:
        data: uint8, a JPEG whose header is read.
        tables: With its frame.
        window, layout: Of its frame.
        planes: uint8, written.
        whole: Whether to decode what lies outside as well, to find damage; the file must then end where it should.
    """
    numbers = tables.frame.numbers
    _make_tables(data, tables)
    tables.coefficients[:] = 0  # a damaged file before may have left some
    per_row = -(-numbers[WIDTH] // (8 * numbers[ACROSS]))
    count = per_row * -(-numbers[HEIGHT] // (8 * numbers[DOWN]))
    interval = numbers[INTERVAL] if numbers[INTERVAL] > 0 else count
    end = count if whole else (window.bottom - 1) * per_row + window.right
    bits = np.empty(len(data) + SLACK, np.uint8)
    place = numbers[SCAN]
    for piece in range(-(-end // interval)):
        first, last = piece * interval, min((piece + 1) * interval, count)
        if whole or _reaches(window, first, last, per_row):
            place, size = unstuffed(data, place, bits)
            bits[size : size + SLACK] = 0
            if place < 0 or not _decode_piece(
                bits, size, first, min(last, end), per_row, tables, window, layout, planes, whole
            ):
                return False
        else:
            place = next_marker(data, place)
            if place < 0:
                return False
        if last < end and data[place + 1] != 0xD0 + (piece & 7):
            return False
        place += 2
    return not whole or data[place - 1] == 0xD9


@kernel
def _make_tables(data, tables):
    numbers, huffmans = tables.frame.numbers, tables.frame.huffmans
    for component in range(numbers[COMPONENTS]):
        for n in (numbers[DC + component], numbers[AC + component]):
            kind = jpeg_bits.AC if n >= 4 else jpeg_bits.DC
            make_look_up(data[huffmans[n] :], kind, tables.look[n], tables.long[n], tables.values[n])


@kernel
def _reaches(window, first, last, per_row):
    """Return whether any of the MCUs first .. last - 1 may be in a window."""
    top, bottom = first // per_row, (last - 1) // per_row
    if bottom < window.top or top >= window.bottom:
        return False
    return top != bottom or (first - top * per_row < window.right and last - top * per_row > window.left)


@kernel
def _decode_piece(bits, size, first, last, per_row, tables, window, layout, planes, whole):
    """Decode the MCUs first .. last - 1 from a piece of `size` bytes."""
    numbers, quants = tables.frame.numbers, tables.frame.quants
    coefficients = tables.coefficients
    blocks = 1 if numbers[COMPONENTS] == 1 else numbers[ACROSS] * numbers[DOWN] + 2
    previous = np.zeros(3, np.int64)
    # Of the next bits, `count` are in `ahead`, from its top; the byte at `place` is the first that is not.
    place, ahead, count = 0, np.uint64(0), 0
    row, column = first // per_row, first % per_row
    for _ in range(last - first):
        wanted = window.top <= row < window.bottom and window.left <= column < window.right
        for block in range(blocks):
            component = layout.components[block]
            dc, ac = numbers[DC + component], numbers[AC + component]
            look, quant = tables.look[ac], quants[numbers[QUANT + component]]
            if count < 48:
                place, ahead, count = refilled(bits, place, ahead, count)
            entry = np.int64(tables.look[dc, ahead >> np.uint64(64 - LOOK)])
            taken, width = entry & 31, 0
            if not entry & WHOLE:
                width = entry >> 14
                if entry == 0:
                    taken, width = long_code(np.int64(ahead >> _SYMBOL), tables.long[dc], tables.values[dc])
                if taken == 0 or width > 15:
                    return False
            ahead, count = ahead << np.uint64(taken), count - taken
            if width > 0:
                previous[component] += extended(np.int64(ahead >> np.uint64(64 - width)), width)
                ahead, count = ahead << np.uint64(width), count - width
            elif entry & WHOLE:
                previous[component] += entry >> 14
            if wanted:
                coefficients[0] = np.int16(previous[component] * quant[0])
                if abs(previous[component] * quant[0]) > _LARGEST:
                    return False
            k = 1  # of the next coefficient
            while k < 64:
                if count < 32:
                    place, ahead, count = refilled(bits, place, ahead, count)
                entry = np.int64(look[ahead >> np.uint64(64 - LOOK)])
                taken, width = entry & 31, 0
                if entry & WHOLE:
                    k += (entry >> 6) & 255
                    number = entry >> 14
                else:
                    width, step = entry >> 14, (entry >> 6) & 255
                    if entry == 0:
                        taken, value = long_code(np.int64(ahead >> _SYMBOL), tables.long[ac], tables.values[ac])
                        if taken == 0:
                            return False
                        width, step = value & 15, step_of(value)
                    k += step
                    number = 0
                    if width > 0 and wanted:
                        number = extended(np.int64((ahead << np.uint64(taken)) >> np.uint64(64 - width)), width)
                    taken += width
                ahead, count = ahead << np.uint64(taken), count - taken
                if number != 0 and wanted:
                    at = np.uint64(k - 1)
                    if abs(number * quant[at]) > _LARGEST:
                        return False
                    coefficients[np.uint64(ZIGZAG[at])] = np.int16(number * quant[at])
            if 64 < k < 128 or place - (count >> 3) > size:
                return False
            if wanted:
                where = (row - window.top) * layout.down[component] + (column - window.left) * layout.across[component]
                write_block(coefficients, planes, layout.places[block] + where, layout.strides[component])
        column += 1
        if column == per_row:
            row, column = row + 1, 0
    return not whole or place - (count >> 3) == size
