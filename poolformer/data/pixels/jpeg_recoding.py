"""The coded pixels of a sequential JPEG written anew: other restart intervals, the best Huffman tables, equal pixels.

Codes are read once into tokens (table, symbol and the bits behind it). The coefficients other than DC pass as they are;
DC is a difference to the block before, so it is coded anew, from 0 at the start of each interval.

Nothing here trusts the bytes: a kernel has no bounds checks, so what is read is padded by more than a block can take,
and places are checked after each block.
"""

from typing import NamedTuple

import numpy as np

from .jit import kernel
from .jpeg_best_codes import LONGEST, best_table

_FAST = 10
"""Bits that are looked up at once: nearly all codes are shorter."""
_DC_BITS = 11
"""A difference of two DC coefficients has no more, with 8 bits a sample."""
_LOOKED_UP = (1 << _FAST) - 1
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
    fast, slow = np.zeros((_TABLES, 1 << _FAST), np.uint16), np.zeros((_TABLES, LONGEST + 1, 3), np.int64)
    values = np.zeros((_TABLES, 256), np.uint8)
    for number, table in scan.tables.items():
        row = _row(number)
        values[row, : len(table) - LONGEST] = np.frombuffer(table, np.uint8, offset=LONGEST)
        if not _prepare(np.frombuffer(table, np.uint8, LONGEST), values[row], fast[row], slow[row]):
            return None
    coded = np.frombuffer(scan.data, np.uint8)
    if 2 * scan.mcus * len(scan.blocks) > 8 * len(coded):  # two codes a block: the size is a lie
        return None
    plain = np.empty(len(coded) - scan.start + _PADDING, np.uint8)
    starts = np.zeros(-(-scan.mcus // scan.every) + 1, np.int64)
    if not _unstuff(coded, scan.start, plain, starts):
        return None
    most = min(8 * int(starts[-1]), scan.mcus * len(scan.blocks) * 64) + _MOST_OF_A_BLOCK  # a token takes a bit or more
    tokens, counts = np.empty(most, np.uint32), np.zeros(_TABLES * 256, np.int64)
    ends, blocks = np.zeros(-(-scan.mcus // interval), np.int64), np.array(scan.blocks, np.int64)
    tables = fast.reshape(-1), slow, values
    if not _read(plain, starts, scan.every, scan.mcus, blocks, *tables, interval, tokens, ends, counts):
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
def _prepare(counts, values, fast, slow):
    """Fill the look-up tables of a Huffman table; return whether it is one."""
    code = place = 0
    for length in range(1, LONGEST + 1):
        count = np.int64(counts[length - 1])
        if code + count > 1 << length or place + count > 256:
            return False
        slow[length, 0], slow[length, 1], slow[length, 2] = code, place, count
        if length <= _FAST:
            repeat = 1 << (_FAST - length)
            for n in range(count):
                for k in range(repeat):
                    fast[(code + n) * repeat + k] = length << 8 | values[place + n]
        code, place = (code + count) << 1, place + count
    return True


@kernel
def _unstuff(coded, start, plain, starts):
    """Copy coded pixels without zeros behind 0xFF and without restart markers; return whether the image ends there.

    Args:
        coded, start: A file and a place in it.
        plain: Has room for the rest of the file and for padding, which is added.
        starts: Filled with where each piece begins in `plain`, and where the last ends.
    """
    used, piece, place = 0, 1, start
    while place < len(coded) - 1:
        byte = coded[place]
        place += 1
        if byte == 0xFF:
            following = coded[place]
            place += 1
            if following == 0xD9:
                starts[len(starts) - 1] = used
                plain[used : used + _PADDING] = 0
                return piece == len(starts) - 1
            if following != 0:
                if following != 0xD0 + (piece - 1) % 8 or piece >= len(starts) - 1:
                    return False
                starts[piece] = used
                piece += 1
                continue
        plain[used] = byte
        used += 1
    return False


@kernel
def _long_code(bits, row, slow, values):
    """Return length x 256 + symbol of a code that 16 bits begin with and that is not looked up; 0 for none."""
    for length in range(_FAST + 1, LONGEST + 1):
        offset = (bits >> (LONGEST - length)) - slow[row, length, 0]
        if 0 <= offset < slow[row, length, 2]:
            return length << 8 | np.int64(values[row, slow[row, length, 1] + offset])
    return 0


@kernel
def _four_bytes(data, place):
    high = np.int64(data[place]) << 24 | np.int64(data[place + 1]) << 16
    return high | np.int64(data[place + 2]) << 8 | np.int64(data[place + 3])


@kernel
def _read(data, starts, every, mcus, blocks, fast, slow, values, interval, tokens, ends, counts):
    """Fill tokens, their end in each interval and how often each symbol occurs; return whether all was in order.

    A token has the symbol in its lowest 8 bits, then 3 of the table and up to 15 that follow the code.
    """
    before, written = np.zeros(4, np.int64), np.zeros(4, np.int64)
    piece = place = held = buffer = used = end = 0
    room = len(tokens) - _MOST_OF_A_BLOCK
    for mcu in range(mcus):
        if mcu % every == 0:
            if mcu and not 0 <= end - (8 * place - held) < 8:
                return False
            place, end, held = starts[piece], 8 * starts[piece + 1], 0
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
                buffer = buffer << 32 | _four_bytes(data, place)
                place += 4
                held += 32
            code = np.int64(fast[row << _FAST | buffer >> (held - _FAST) & _LOOKED_UP])
            if code == 0:
                code = _long_code(buffer >> (held - LONGEST) & 0xFFFF, row, slow, values)
            size = code & 255
            if code == 0 or size > _DC_BITS:
                return False
            held -= (code >> 8) + size
            bits = buffer >> held & ((1 << size) - 1)
            if size and bits >> (size - 1) == 0:
                bits -= (1 << size) - 1
            before[component] += bits
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
            k = 1
            while k < 64:
                if held < 32:
                    buffer = buffer << 32 | _four_bytes(data, place)
                    place += 4
                    held += 32
                code = np.int64(fast[ac << _FAST | buffer >> (held - _FAST) & _LOOKED_UP])
                if code == 0:
                    code = _long_code(buffer >> (held - LONGEST) & 0xFFFF, ac, slow, values)
                symbol, size = code & 255, code & 15
                k += (symbol >> 4) + 1
                if code == 0 or k > 64 or (size == 0 and symbol != 0 and symbol != 0xF0):
                    return False
                held -= (code >> 8) + size
                entry = ac << 8 | symbol
                tokens[used] = (buffer >> held & ((1 << size) - 1)) << 11 | entry
                used += 1
                counts[entry] += 1
                if symbol == 0:
                    break
    ends[len(ends) - 1] = used
    return 0 <= end - (8 * place - held) < 8


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
