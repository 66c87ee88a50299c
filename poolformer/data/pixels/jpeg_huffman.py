"""Where the coded pixels of a JPEG end, and whether what follows looks like more of them.

A damaged byte in the middle shifts all codes behind it. Where they then end early, libjpeg speaks of extraneous bytes
only, as of a sound file with bytes too many. But an encoder fills the last byte with ones (a few with zeros), and what
a camera or an editor leaves behind an image does not go on as coded pixels up to its very end.

Of 500 damaged ImageNet files, libjpeg speaks of extraneous bytes alone in 132; this tells all of them from sound ones.
Of 200 damaged progressive ones it does in 51, of which this tells 48.
"""

from typing import NamedTuple

import numpy as np

from .jit import kernel

_LONGEST = 16


class Coding(NamedTuple):
    """How the blocks of a baseline scan are coded."""

    tables: np.ndarray
    """Of each table, for codes of 1 to 16 bits: smallest code, its value's place, number of codes; (T, 17, 3)."""
    values: np.ndarray
    """uint8 (T, 256): what the codes stand for."""
    blocks: np.ndarray
    """Of each block of an MCU: its tables for DC and AC; (B, 2)."""


def ends_well(data: bytes, coding: Coding, mcus: int, *, only_dc: bool = False) -> bool:
    """Return whether coded pixels, up to a marker, end as an encoder ends them, and what follows is something else.

    Args:
        data: What stands between two markers.
        coding: Coding of the scan.
        mcus: How many there are.
        only_dc: Whether it is the first scan of a progressive JPEG.
    """
    bits = np.frombuffer(data.replace(b"\xff\x00", b"\xff"), np.uint8)
    end = _walk(bits, 0, *coding, mcus, only_dc)
    if end < 0 or _fill(bits, end) not in ("", "0", "1"):
        return False
    further = _walk(bits, end, *coding, -1, only_dc)
    goes_on = further > end and 8 * len(bits) - further < 8 and _fill(bits, further) in ("", "1")
    return not goes_on


def _fill(bits: np.ndarray, place: int) -> str:
    """Return the kinds of bits from a place to the end of its byte."""
    unused = -place % 8
    return "".join(sorted({*format(int(bits[place // 8]), "08b")[8 - unused :]})) if unused else ""


def coding_of(tables: dict[int, bytes], blocks: list[tuple[int, int]]) -> Coding:
    """Return the coding of a scan.

    Args:
        tables: Huffman tables as they stand in a file, by class and number: 16 counts, then the values. Of none, or for
            blocks whose table is not among them, what is read is no code.
        blocks: Numbers of the tables of each block of an MCU.
    """
    none = len(tables)  # a last one that has no codes
    rows, values = np.zeros((none + 1, _LONGEST + 1, 3), np.int64), np.zeros((none + 1, 256), np.uint8)
    for row, table in enumerate(tables.values()):
        code = place = 0
        for length in range(1, _LONGEST + 1):
            count = table[length - 1]
            rows[row, length] = code, place, count
            code, place = (code + count) << 1, place + count
        values[row, : len(table) - _LONGEST] = np.frombuffer(table, np.uint8, offset=_LONGEST)
    numbers = {number: row for row, number in enumerate(tables)}
    pairs = [(numbers.get(dc, none), numbers.get(16 + ac, none)) for dc, ac in blocks]
    return Coding(rows, values, np.array(pairs, np.int64))


@kernel
def _walk(data, start, tables, values, blocks, mcus, only_dc):
    """Return the bit behind `mcus` MCUs, -1 where the data ends before; if mcus is -1, behind the last whole MCU."""
    place = whole = start
    last = 8 * len(data)
    while mcus != 0:
        for n in range(len(blocks)):
            place, size = _decode(data, place, last, tables[blocks[n, 0]], values[blocks[n, 0]])
            place += size
            k = 64 if only_dc else 1
            while k < 64 and place <= last:
                place, value = _decode(data, place, last, tables[blocks[n, 1]], values[blocks[n, 1]])
                size = value & 15
                if size == 0 and value != 0xF0:
                    break
                place += size
                k += (value >> 4) + 1
            if place > last:
                return whole if mcus < 0 else -1
        whole = place
        mcus -= 1
    return whole


@kernel
def _decode(data, place, last, table, values):
    """Return (place behind a code, what it stands for); a place behind `last` where there is no such code."""
    code = 0
    for length in range(1, 17):
        if place >= last:
            break
        code = (code << 1) | ((data[place >> 3] >> (7 - (place & 7))) & 1)
        place += 1
        offset = code - table[length, 0]
        if 0 <= offset < table[length, 2]:
            return place, int(values[table[length, 1] + offset])
    return last + 1, 0


class Refinement(NamedTuple):
    """What a scan of a progressive JPEG holds of the blocks of one component, DC aside."""

    first: int
    """Of the coefficients, 1 to 63."""
    last: int
    is_first: bool
    """Whether these coefficients come for the first time."""


def refines_well(data: bytes, coding: Coding, scan: Refinement, known: np.ndarray) -> bool:
    """Return whether a scan without DC in a progressive JPEG ends as an encoder ends it.

    Args:
        data: What stands between two markers.
        coding: With the one table of the scan.
        scan: What it holds.
        known: Uint64 a block, a bit for each coefficient that is not zero; added to.
    """
    bits = np.frombuffer(data.replace(b"\xff\x00", b"\xff"), np.uint8)
    end = _refine(bits, 0, coding.tables[0], coding.values[0], *scan, known)
    # Codes are so short here that what follows nearly always goes on to its end.
    return end >= 0 and _fill(bits, end) in ("", "1")


@kernel
def _refine(data, start, table, values, first, final, is_first, known):
    """Return the bit behind the blocks, -1 where the data ends before them."""
    place, run, last = start, 0, 8 * len(data)
    for block in range(len(known)):
        place, run, known[block] = _refine_block(
            data, place, last, table, values, first, final, is_first, known[block], run
        )
        if place > last:
            return -1
    return place


@kernel
def _refine_block(data, place, last, table, values, first, final, is_first, mask, run):
    """Return (place behind a block, blocks of nothing new that follow, its coefficients that are not zero)"""
    one, k = np.uint64(1), first
    if run == 0:
        while k <= final and place <= last:
            place, value = _decode(data, place, last, table, values)
            zeros, size = value >> 4, value & 15
            if size == 0 and zeros < 15:
                run = 1 << zeros
                for n in range(zeros):
                    run += _bit(data, place, last) << (zeros - 1 - n)
                    place += 1
                break
            place += size if is_first else min(size, 1)
            while k <= final:
                if not is_first and (mask >> np.uint64(k)) & one:
                    place += 1
                else:
                    if zeros == 0:
                        break
                    zeros -= 1
                k += 1
            if size and k <= final:
                mask |= one << np.uint64(k)
            k += 1
    if run:
        if not is_first:
            while k <= final:
                place += int((mask >> np.uint64(k)) & one)
                k += 1
        run -= 1
    return place, run, mask


@kernel
def _bit(data, place, last):
    return int((data[place >> 3] >> (7 - (place & 7))) & 1) if place < last else 0
