"""The coded pixels of a sequential JPEG written anew: other restart intervals, the best Huffman tables, equal pixels.

Codes are read once into tokens (table, symbol and the bits behind it). The coefficients other than DC pass as they are;
DC is a difference to the block before, so it is coded anew, from 0 at the start of each interval.

Nothing here trusts the bytes: a kernel has no bounds checks, so what is read is padded by more than a block can take,
and places are checked before each block.
"""

from typing import NamedTuple

import numpy as np

from .jit import kernel
from .jpeg_best_codes import LONGEST, best_table
from .jpeg_bits import CODES, LOOK, codes_fit, extended, long_code, make_look_up, refilled, unstuffed

_DC_BITS = 11
"""A difference of two DC coefficients has no more, with 8 bits a sample."""
_INDEX, _LONG_INDEX = np.uint64(64 - LOOK), np.uint64(64 - LONGEST)
_PADDING = 512
"""A block takes at most 64 x (16 + 15) bits."""
_MOST_OF_A_BLOCK = 65
"""Tokens, and one more."""
_TABLES = 8
"""Four for DC, four for the rest."""


class Scan(NamedTuple):
    """A scan of all components of a sequential JPEG."""

    data: bytes
    """The whole file."""
    start: int
    """Of its coded pixels."""
    every: int
    """MCUs between two restart markers; all of them where there is none."""
    mcus: int
    tables: dict[int, bytes]
    """Huffman tables as they stand in a file, by class and number: 16 counts, then the values."""
    blocks: list[tuple[int, int, int]]
    """Of each block of an MCU: its component, its table for DC, for AC (4 to 7)."""


def recoded(scan: Scan, interval: int) -> tuple[dict[int, bytes], bytes] | None:
    """Return (best tables, coded pixels) with a restart marker every `interval` MCUs, None for a damaged scan."""
    look, long = np.zeros((_TABLES, 1 << LOOK), np.int32), np.zeros((_TABLES, LONGEST + 1, 3), np.int64)
    values = np.zeros((_TABLES, 256), np.uint8)
    for number, table in scan.tables.items():
        row, counts_and_values = _row(number), np.frombuffer(bytearray(table), np.uint8)
        if not codes_fit(counts_and_values):
            return None
        make_look_up(counts_and_values, CODES, look[row], long[row], values[row])
    coded = np.frombuffer(bytearray(scan.data), np.uint8)  # writable, as in jpeg_crop.py
    if 2 * scan.mcus * len(scan.blocks) > 8 * len(coded):  # two codes a block: the size is a lie
        return None
    plain = np.empty(len(coded) - scan.start + _PADDING, np.uint8)
    starts = np.zeros(-(-scan.mcus // scan.every) + 1, np.int64)
    if not _unstuff(coded, scan.start, plain, starts):
        return None
    most = min(8 * int(starts[-1]), scan.mcus * len(scan.blocks) * 64) + _MOST_OF_A_BLOCK  # a token takes a bit or more
    tokens, counts = np.empty(most, np.uint32), np.zeros(_TABLES * 256, np.int64)
    ends, blocks = np.zeros(-(-scan.mcus // interval), np.int64), np.array(scan.blocks, np.int64)
    if not _read(plain, starts, scan.every, scan.mcus, blocks, look, long, values, interval, tokens, ends, counts):
        return None
    return _coded(tokens, ends, counts.reshape(_TABLES, 256), scan.tables)


def _row(number: int) -> int:
    """Of a table: DC first, then AC."""
    return (number >> 4) * 4 + (number & 3)


def _coded(
    tokens: np.ndarray, ends: np.ndarray, counts: np.ndarray, numbers: dict[int, bytes]
) -> tuple[dict[int, bytes], bytes]:
    codes, lengths = np.zeros((_TABLES, 256), np.int64), np.zeros((_TABLES, 256), np.int64)
    tables = {}
    for number in numbers:
        row, table = _row(number), np.zeros(LONGEST + 256, np.uint8)
        used = best_table(counts[row], table, codes[row], lengths[row])
        tables[number] = table[: LONGEST + used].tobytes()
    nbytes = int((counts * lengths).sum()) // 8 + len(ends)
    out = np.empty(2 * nbytes + 2 * len(ends), np.uint8)  # each byte may be one that is followed by 0
    size = _write(tokens, ends, codes.reshape(-1), lengths.reshape(-1), out)
    return tables, out[:size].tobytes()


@kernel
def _unstuff(coded, start, plain, starts):
    """Copy coded pixels without zeros behind 0xFF and without restart markers; return whether the image ends there.

    Args:
        coded, start: A file and a place in it.
        plain: Has room for the rest of the file and for padding, which is added.
        starts: Filled with where each piece begins in `plain`, and where the last ends.
    """
    used, piece, place = 0, 1, start
    while True:
        place, size = unstuffed(coded, place, plain[used:])
        used += size
        if place < 0:
            return False
        marker = coded[place + 1]
        if marker == 0xD9:
            starts[len(starts) - 1] = used
            plain[used : used + _PADDING] = 0
            return piece == len(starts) - 1
        if marker != 0xD0 + (piece - 1) % 8 or piece >= len(starts) - 1:
            return False
        starts[piece] = used
        piece, place = piece + 1, place + 2


@kernel
def _read(data, starts, every, mcus, blocks, look, long, values, interval, tokens, ends, counts):
    """Fill tokens, their end in each interval and how often each symbol occurs; return whether all was in order.

    A token has the symbol in its lowest 8 bits, then 3 of the table and up to 15 that follow the code.
    """
    before, written = np.zeros(4, np.int64), np.zeros(4, np.int64)
    piece = used = end = 0
    place, ahead, held = 0, np.uint64(0), 0  # see `refilled`
    room = len(tokens) - _MOST_OF_A_BLOCK
    for mcu in range(mcus):
        if mcu % every == 0:
            if mcu and not 0 <= end - (8 * place - held) < 8:
                return False
            place, ahead, held, end = starts[piece], np.uint64(0), 0, 8 * starts[piece + 1]
            piece += 1
            before[:] = 0
        if mcu % interval == 0:
            if mcu:
                ends[mcu // interval - 1] = used
            written[:] = 0
        for block in range(len(blocks)):
            component, row, ac = blocks[block, 0], blocks[block, 1], blocks[block, 2]
            if used > room or 8 * place - held > end:
                return False
            if held < 32:
                place, ahead, held = refilled(data, place, ahead, held)
            taken, size = _symbol(ahead, look[row], long[row], values[row])
            if taken == 0 or size > _DC_BITS:
                return False
            if size:
                before[component] += extended(_bits(ahead, taken, size), size)
            ahead, held = ahead << np.uint64(taken + size), held - taken - size
            difference = before[component] - written[component]
            written[component] = before[component]
            rest, size = abs(difference), 0
            while rest:
                rest >>= 1
                size += 1
            if size > _DC_BITS:
                return False
            if difference < 0:
                difference += (1 << size) - 1
            tokens[used] = difference << 11 | row << 8 | size
            used += 1
            counts[row << 8 | size] += 1
            look_ac, k = look[ac], 1
            while k < 64:
                if held < 32:
                    place, ahead, held = refilled(data, place, ahead, held)
                taken, symbol = _symbol(ahead, look_ac, long[ac], values[ac])
                size = symbol & 15
                k += (symbol >> 4) + 1
                if taken == 0 or k > 64 or (size == 0 and symbol != 0 and symbol != 0xF0):
                    return False
                entry = ac << 8 | symbol
                tokens[used] = _bits(ahead, taken, size) << 11 | entry
                ahead, held = ahead << np.uint64(taken + size), held - taken - size
                used += 1
                counts[entry] += 1
                if symbol == 0:
                    break
    ends[len(ends) - 1] = used
    return 0 <= end - (8 * place - held) < 8


@kernel
def _symbol(ahead, look, long, values):
    """Return (length, symbol) of the code that bits begin with; a length of 0 where there is none."""
    entry = np.int64(look[ahead >> _INDEX])
    if entry == 0:
        return long_code(np.int64(ahead >> _LONG_INDEX), long, values)
    return entry & 31, entry >> 6


@kernel
def _bits(ahead, taken, size):
    """Return the `size` bits, 15 at most, behind the first `taken`."""
    return np.int64((ahead << np.uint64(taken)) >> np.uint64(32) >> np.uint64(32 - size))


@kernel
def _write(tokens, ends, codes, lengths, out):
    """Write the codes of tokens, with a restart marker between two intervals; return the number of bytes."""
    used = start = 0
    for interval in range(len(ends)):
        buffer = held = 0
        for n in range(start, ends[interval]):
            token = np.int64(tokens[n])
            entry = token & 0x7FF
            length = lengths[entry]
            buffer = buffer << length | codes[entry] | token >> 11
            held += length
            if held >= 32:
                held -= 32
                used = _put(buffer >> held, 4, out, used)
        start = ends[interval]
        ones = -held % 8
        used = _put(buffer << ones | ((1 << ones) - 1), (held + ones) >> 3, out, used)
        if interval < len(ends) - 1:
            out[used], out[used + 1] = 0xFF, 0xD0 + interval % 8
            used += 2
    return used


@kernel
def _put(word, nbytes, out, used):
    """Write the lowest bytes of a word, a zero behind each of ones alone; return the place behind them."""
    for n in range(nbytes - 1, -1, -1):
        byte = word >> (8 * n) & 0xFF
        out[used] = byte
        used += 1
        if byte == 0xFF:
            out[used] = 0
            used += 1
    return used
