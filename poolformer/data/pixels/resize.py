"""Pillow 13's antialiased resize, bit for bit, on a crop of a decoded image.

Pillow resizes in two passes of fixed-point weights and rounds to 8 bits between them, so the order of the passes is
part of the result. Images are uint32 (H, W), each pixel the bytes red, green, blue and one of padding, because words
are cheap to move. Only crop-then-resize is here, which is what torchvision's transforms do: filters stop at the
crop's edges.
"""

import math

import numpy as np

from .jit import kernel

ONE = 1 << 22
"""Weights are whole numbers; this is 1.0 (Pillow's PRECISION_BITS)."""

ROWS = 16
"""Rows a horizontal pass takes at once: it turns them into columns, along which the arithmetic is vectorised."""

BILINEAR, BICUBIC = 0, 1


@kernel
def resize(source, top, left, height, width, full, window, flip, kind, out):
    """Resize a crop of `source` and write a window of the result.

    Args:
        source: uint32 (H, W).
        top, left, height, width: the crop, pixels of the source.
        full: (height, width) to which the crop is resized.
        window: (top, left) of the part of that which is wanted; its size is out's.
        flip: Mirror the window left to right.
        kind: BILINEAR or BICUBIC.
        out: uint32 (h, w), written.
    """
    out_h, out_w = out.shape
    across = _taps(width, full[1], window[1], out_w, kind)
    down = _taps(height, full[0], window[0], out_h, kind)
    if runs_down_first(height, width, full):
        lines = np.empty((out_h, width), np.uint32)
        _vertical(source, top, left, down, lines)
        _horizontal(lines, 0, 0, across, flip, out)
    else:
        y0, y1 = down[1][0], down[1][out_h - 1] + down[2][out_h - 1]
        lines = np.empty((y1 - y0, out_w), np.uint32)
        _horizontal(source, top + y0, left, across, flip, lines)
        _vertical(lines, -y0, 0, down, out)


@kernel
def runs_down_first(height, width, full):
    """Return whether the vertical pass comes first.

    Pillow 13.0.0 runs it first for crops that shrink more in height (found by experiment: sizes of the whole result,
    not of the window); older ones always run the horizontal pass first.
    """
    return height > full[0] and 2 * (width - full[1]) < height - full[0]


@kernel
def _weight(t, kind):
    """Return the triangle, or Keys' cubic with a = -1/2 (Pillow's Image.transform uses a = -1: another kernel)."""
    t = abs(t)
    if kind == BILINEAR:
        return max(0.0, 1.0 - t)
    if t < 1.0:
        return 1.0 + t * t * (1.5 * t - 2.5)
    if t < 2.0:
        return 2.0 + t * (-4.0 + t * (2.5 - 0.5 * t))
    return 0.0


@kernel
def _taps(size, full, first, count, kind):
    """Return how outputs first .. first+count-1 of `full` read a line of `size` pixels: (weights, start, length)."""
    step = size / full
    stretch = max(1.0, step)
    reach = stretch * (1.0 + kind)
    weights = np.zeros((count, 2 * math.ceil(reach) + 2), np.int32)
    start, length = np.empty(count, np.int64), np.empty(count, np.int64)
    for n in range(count):
        centre = (first + n + 0.5) * step
        a = max(0, int(centre - reach + 0.5))
        b = min(size, int(centre + reach + 0.5))
        total = 0.0
        for p in range(a, b):
            total += _weight((p + 0.5 - centre) / stretch, kind)
        for p in range(a, b):
            w = _weight((p + 0.5 - centre) / stretch, kind) / total * ONE
            weights[n, p - a] = int(w + 0.5) if w >= 0 else int(w - 0.5)  # half away from zero
        start[n], length[n] = a, b - a
    return weights, start, length


@kernel
def _to_byte(total):
    return np.uint8(min(255, max(0, total >> 22)))


@kernel
def _horizontal(source, top, left, taps, flip, out):
    """Fill the lines of out from those of source below `top`; pixels are words, taps count from `left`."""
    weights, start, length = taps
    height, out_w = out.shape
    first = start[0]
    span = start[out_w - 1] + length[out_w - 1] - first
    # A block of rows is turned into columns, so that the inner loop runs over 4 * ROWS neighbouring bytes.
    columns, results = np.zeros((span, ROWS), np.uint32), np.empty((out_w, ROWS), np.uint32)
    column_bytes, result_bytes = columns.view(np.uint8), results.view(np.uint8)
    total = np.empty(4 * ROWS, np.int32)
    for y in range(0, height, ROWS):
        rows = min(ROWS, height - y)
        for r in range(rows):
            row = source[top + y + r]
            for x in range(span):
                columns[x, r] = row[left + first + x]
        for x in range(out_w):
            total[:] = ONE >> 1
            for k in range(length[x]):
                w, column = weights[x, k], column_bytes[start[x] - first + k]
                for i in range(4 * ROWS):
                    total[i] += w * np.int32(column[i])
            result = result_bytes[out_w - 1 - x if flip else x]
            for i in range(4 * ROWS):
                result[i] = _to_byte(total[i])
        for r in range(rows):
            row = out[y + r]
            for x in range(out_w):
                row[x] = results[x, r]


@kernel
def _vertical(source, top, left, taps, out):
    """Fill out from the columns of source right of `left`; pixels are words, taps count from `top`."""
    weights, start, length = taps
    count = out.shape[1] * 4
    total = np.empty(count, np.int32)
    for y in range(out.shape[0]):
        total[:] = ONE >> 1
        for k in range(length[y]):
            w, row = weights[y, k], source[top + start[y] + k].view(np.uint8)[4 * left : 4 * left + count]
            for i in range(count):
                total[i] += w * np.int32(row[i])
        line = out[y].view(np.uint8)
        for i in range(count):
            line[i] = _to_byte(total[i])
