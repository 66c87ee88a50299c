"""From the samples of a JPEG to pixels, bit for bit as libjpeg-turbo: chroma interpolated, YCbCr turned into RGB."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from .jit import kernel
from .jpeg_frame import ACROSS, COMPONENTS, DOWN, HEIGHT, WIDTH
from .lanes import Lanes, Memory

LANES = 16
"""Samples computed at once; as many past the end of a line may be read and written."""


@kernel
def write_pixels(planes, layout, numbers, window, top, left, out):
    """Write a crop.

    Args:
        planes: uint8, samples of a window, and LANES more.
        layout: Of the planes (see jpeg_scan.py).
        numbers: Of the frame.
        window: Of the planes.
        top, left: Of the crop.
        out: uint32 (H, W), written: red, green, blue and one of padding.
    """
    height, width = out.shape
    across, down = numbers[ACROSS], numbers[DOWN]
    first, count = left // across, (left + width - 1) // across + 1 - left // across
    sums, chroma = np.empty(count + 4 * LANES, np.int16), np.empty((2, 2 * count + 4 * LANES), np.uint8)
    chroma[:] = 128  # grey, unless there are colours
    whole, rest = width - width % LANES, np.empty(LANES, np.uint32)
    for y in range(height):
        for n in range(numbers[COMPONENTS] - 1):
            _write_chroma(planes, layout, numbers, window, 1 + n, top + y, first, count, sums, chroma[n])
        start = (top + y - 8 * down * window.top) * layout.strides[0] + left - 8 * across * window.left
        for x in range(0, whole, LANES):
            _write_words(planes, start + x, chroma[0], chroma[1], left % across + x, out[y], x)
        if whole < width:
            _write_words(planes, start + whole, chroma[0], chroma[1], left % across + whole, rest, 0)
            out[y, whole:] = rest[: width - whole]


@kernel
def _write_chroma(planes, layout, numbers, window, component, y, first, count, sums, out):
    """Write `count` samples of a component, from `first` on, in line y of the image; twice as many where halved.

    Sums of a nearer and a further line stand in `sums`, the first at LANES, as it has a neighbour to the left.
    """
    across, down = numbers[ACROSS], numbers[DOWN]
    stride = layout.strides[component]
    origin = layout.starts[component] - 8 * window.top * stride - 8 * window.left
    near = origin + y // down * stride
    if across == 1 and down == 1:
        out[:count] = planes[near + first : near + first + count]
        return
    low, high = first, first + count
    if across == 2:
        low, high = max(0, first - 1), min(-(-numbers[WIDTH] // 2), first + count + 1)
    if down == 2:
        lines = -(-numbers[HEIGHT] // 2)
        far = origin + min(lines - 1, max(0, y // 2 - 1 if y % 2 == 0 else y // 2 + 1)) * stride
        for x in range(low, high, LANES):
            _blend(planes, near + x, far + x, sums, LANES + x - first)
    else:
        sums[LANES + low - first : LANES + high - first] = planes[near + low : near + high]
    if across == 1:
        for x in range(count):
            out[x] = np.uint8((sums[LANES + x] + 1 + y % 2) >> 2)
        return
    if low == first:
        sums[LANES - 1] = sums[LANES]
    if high == first + count:
        sums[LANES + count] = sums[LANES + count - 1]
    for x in range(0, count, LANES):
        if down == 2:
            _spread_sums(sums, LANES + x, out, 2 * x)
        else:
            _spread(sums, LANES + x, out, 2 * x)


@intrinsic
def _blend(typing: Any, planes: Any, near: Any, far: Any, sums: Any, place: Any) -> Any:
    """Write three near samples and a far one, as int16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = Memory(context, builder, signature.args[0], arguments[0])
        near, far = (source.load(arguments[n], LANES).unsigned(16) for n in (1, 2))
        Memory(context, builder, signature.args[3], arguments[3]).store(arguments[4], near * 3 + far)
        return context.get_dummy_value()

    return types.void(planes, types.intp, types.intp, sums, types.intp), generate


def _spreading(left: int, right: int, shift: int) -> Callable[..., Any]:
    """Return what writes two samples for each: three of it and one of its neighbour, rounded."""

    @intrinsic
    def spread(typing: Any, sums: Any, place: Any, out: Any, start: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            source = Memory(context, builder, signature.args[0], arguments[0])
            one = arguments[1].type(1)
            thrice = source.load(arguments[1], LANES) * 3
            before = source.load(builder.sub(arguments[1], one), LANES)
            behind = source.load(builder.add(arguments[1], one), LANES)
            evens = ((thrice + before + left) >> shift).signed(8)
            odds = ((thrice + behind + right) >> shift).signed(8)
            target = Memory(context, builder, signature.args[2], arguments[2])
            target.store(arguments[3], evens.interleaved(odds))
            return context.get_dummy_value()

        return types.void(sums, types.intp, out, types.intp), generate

    return spread


_spread, _spread_sums = _spreading(1, 2, 2), _spreading(8, 7, 4)


@intrinsic
def _write_words(typing: Any, luma: Any, at: Any, blue: Any, red: Any, place: Any, out: Any, start: Any) -> Any:
    """Write LANES pixels from their samples, uint8."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        memory = [Memory(context, builder, signature.args[n], arguments[n]) for n in (0, 2, 3, 5)]
        luma = memory[0].load(arguments[1], LANES).unsigned(16)
        blue, red = (each.load(arguments[4], LANES).unsigned(16) + -128 for each in memory[1:3])
        memory[3].store(arguments[6], _words(luma, blue, red))
        return context.get_dummy_value()

    return types.void(luma, types.intp, blue, red, types.intp, out, types.intp), generate


def _words(luma: Lanes, blue: Lanes, red: Lanes) -> Lanes:
    """Return pixels from samples of 16 bits; 1.402, 0.34414, 0.71414 and 1.772 in 16 bits behind the point."""

    def share(chroma: Lanes, factor: int) -> Lanes:  # rounded, by the upper half of a product of 16 bits each
        return (((chroma << 1).signed(32) * factor >> 16).signed(16) + 1) >> 1

    reds = luma + red + share(red, 91881 - 65536)
    blues = luma + (blue << 1) + share(blue, 116130 - 2 * 65536)
    mixed = blue.signed(32) * -22554 + red.signed(32) * (65536 - 46802) + 32768
    greens = luma - red + (mixed >> 16).signed(16)
    bytes_of = [colour.clamped(0, 255).unsigned(32) for colour in (reds, greens, blues)]
    return bytes_of[0] | bytes_of[1] << 8 | bytes_of[2] << 16
