"""The coded bits of a sequential JPEG: where they begin and end, and tables that read a Huffman code in one look.

A reader keeps the next bits at the top of a word, `ahead`, and says how many there are; `refilled` adds to them.

A look-up takes the next LOOK bits. Nearly always they hold a whole code and the number behind it, and the entry says
both; of longer ones it says the code alone, or nothing, and `long_code` finds that by its length.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from .jit import kernel
from .lanes import Memory

LOOK = 10
"""Bits: at more, the tables take longer to make than they save (10 beat 9, 11 and 12)."""

WHOLE = 32
"""Bit of an entry that has the number, too. Below it: bits to take. Above it, 8 bits of step and 16 of the number; in
an entry of the code alone, those are the bits of the number."""

DC, AC, CODES = range(3)
"""What a look-up table is made for: numbers of DC coefficients, of the others, or the codes alone; an entry of these is
5 bits of length, and the value from bit 6 on."""

END_OF_BLOCK = 128
"""A step beyond all coefficients."""

_ONES, _TOPS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)


@intrinsic
def word_at(typing: Any, array: Any, place: Any) -> Any:
    """Return 8 bytes of a uint8 array as uint64, the first in the highest bits; nothing is checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return Memory(context, builder, signature.args[0], arguments[0]).load_word(arguments[1])

    return types.uint64(array, types.intp), generate


@intrinsic
def put_word(typing: Any, array: Any, place: Any, word: Any) -> Any:
    """Write what `word_at` returned."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        Memory(context, builder, signature.args[0], arguments[0]).store_word(*arguments[1:])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint64), generate


@kernel
def has_marker_byte(word):
    """Return whether one of 8 bytes is 0xFF."""
    return (~word - _ONES) & word & _TOPS != 0


@kernel
def next_marker(data, place):
    """Return where the next marker stands behind coded pixels, -1 where there is none."""
    last = len(data) - 1
    while place < last:
        if place + 8 <= last and not has_marker_byte(word_at(data, place)):
            place += 8
            continue
        for _ in range(min(8, last - place)):
            if data[place] == 0xFF and data[place + 1] != 0:
                return place
            place += 1
    return -1


@kernel
def unstuffed(data, place, out):
    """Copy coded pixels up to the next marker, without the zeros that follow bytes of 0xFF.

    Args:
        data: uint8, a JPEG.
        place: Where they begin.
        out: uint8, as long as `data`; written.

    Returns:
        (where the marker stands, or -1 where there is none; how many bytes were written)
    """
    size, last = 0, len(data) - 1
    while place < last:
        if place + 8 <= last:
            word = word_at(data, place)
            if not has_marker_byte(word):
                put_word(out, size, word)
                place, size = place + 8, size + 8
                continue
        for _ in range(8):
            if place >= last:
                break
            byte = data[place]
            if byte == 0xFF:
                if data[place + 1] != 0:
                    return place, size
                place += 1
            out[size] = byte
            place, size = place + 1, size + 1
    return -1, size


@kernel
def refilled(data, place, ahead, count):
    """Return (place, ahead, count) with 56 bits or more in `ahead`, of 64; 8 bytes from `place` on must be there.

    Args:
        data: uint8, unstuffed.
        place: Of the first byte of which no bit is in `ahead`.
        ahead: uint64, the next bits from its top.
        count: How many there are.
    """
    return place + ((63 - count) >> 3), ahead | word_at(data, place) >> np.uint64(count), count | 56


@kernel
def codes_fit(counts):
    """Return whether there are so many codes of 1 to 16 bits, none of ones alone: libjpeg refuses others."""
    code = 0
    for length in range(1, 17):
        code += np.int64(counts[length - 1])
        if code >= 1 << length:
            return False
        code <<= 1
    return True


@kernel
def make_look_up(table, kind, look, long, values):
    """Fill the tables of one Huffman table, whose codes are known to fit.

    Args:
        table: uint8: 16 counts, then the values, as in a file.
        kind: DC, AC or CODES.
        look: int32 (2**LOOK,), written.
        long: int64 (17, 3), written: of each length the first code, the place of its value, and how many there are.
        values: uint8 (256,), written.
    """
    look[:] = 0
    code = place = 0
    for length in range(1, 17):
        count = np.int64(table[length - 1])
        long[length, 0], long[length, 1], long[length, 2] = code, place, count
        for _ in range(count):
            values[place] = table[16 + place]
            if length <= LOOK:
                room = LOOK - length
                _enter(look[code << room : (code + 1) << room], np.int64(values[place]), length, room, kind)
            code, place = code + 1, place + 1
        code <<= 1


@kernel
def _enter(entries, value, length, room, kind):
    """Fill the entries of one code, whose number may lie in the `room` bits behind it."""
    bits = value & 15 if kind == AC else value
    step = step_of(value) if kind == AC else 0
    if kind == CODES:
        entries[:] = np.int32(length | value << 6)
    elif bits == 0:
        entries[:] = np.int32(length | WHOLE | step << 6)
    elif bits <= room:
        for rest in range(1 << room):
            number = extended(rest >> (room - bits), bits)
            entries[rest] = np.int32((length + bits) | WHOLE | step << 6 | number << 14)
    else:
        entries[:] = np.int32(length | step << 6 | bits << 14)


@kernel
def step_of(value):
    """Return by how many coefficients a value of an AC table goes on."""
    if value & 15 == 0 and value != 0xF0:
        return END_OF_BLOCK
    return 16 if value == 0xF0 else (value >> 4) + 1


@kernel
def extended(number, bits):
    """Return the signed number that `bits` bits stand for."""
    return number if number >> (bits - 1) else number - (1 << bits) + 1


@kernel
def long_code(ahead, long, values):
    """Return (length, value) of a code longer than LOOK; a length of 0 where there is none.

    Args:
        ahead: The next 16 bits.
        long, values: of `make_look_up`.
    """
    for length in range(LOOK + 1, 17):
        offset = (ahead >> (16 - length)) - long[length, 0]
        if 0 <= offset < long[length, 2]:
            return length, np.int64(values[long[length, 1] + offset])
    return 0, np.int64(0)
