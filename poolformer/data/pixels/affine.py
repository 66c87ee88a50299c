"""Pillow's Image.transform(AFFINE), bit for bit, in place on one image.

Images are uint32 (H, W), each pixel the bytes red, green, blue and one of padding. An output pixel at (x, y) reads
the image at u = a (x + 1/2) + b (y + 1/2) + c, v = d (x + 1/2) + e (y + 1/2) + f, in double precision; neighbours
beyond the edge are clamped, points beyond it get the fill colour. Shears and translations read along one axis only:
the other axis' interpolation has weight exactly 0, so leaving it out changes no bit.

A line is done in three sweeps (where to read, gather the neighbours, interpolate), because only the gathering cannot
be vectorised.
"""

import math

import numpy as np

from .jit import kernel


@kernel
def along_x(image, slope, offset, cubic, fill):
    """Read pixel (x, y) at u = (x + 1/2) + slope (y + 1/2) + offset."""
    height, width = image.shape
    u, t, left, near, old = _line_scratch(width)
    for y in range(height):
        old[:] = image[y]
        for x in range(width):
            u[x] = (x + 0.5) + slope * (y + 0.5) + offset
        _split(u, left, t)
        for k in range(-1 if cubic else 0, 3 if cubic else 2):
            for x in range(width):
                near[k + 1, x] = old[_clamp(left[x] + k, width)]
        _interpolate(near, t, cubic, image[y])
        _fill_outside(u, width, fill, image[y])


@kernel
def along_y(image, slope, offset, cubic, fill):
    """Read pixel (x, y) at v = slope (x + 1/2) + (y + 1/2) + offset."""
    height, width = image.shape
    v, t, top, near, _ = _line_scratch(width)
    old = image.copy()
    for y in range(height):
        for x in range(width):
            v[x] = slope * (x + 0.5) + (y + 0.5) + offset
        _split(v, top, t)
        for k in range(-1 if cubic else 0, 3 if cubic else 2):
            for x in range(width):
                near[k + 1, x] = old[_clamp(top[x] + k, height), x]
        _interpolate(near, t, cubic, image[y])
        _fill_outside(v, height, fill, image[y])


@kernel
def rotate(image, degrees, cubic, fill):
    """Turn the image counter-clockwise about its centre, as Image.rotate."""
    height, width = image.shape
    cos, sin, c, _, _, f = rotation(degrees, height, width)
    u, s, left, near, _ = _line_scratch(width)
    v, t, top, _, _ = _line_scratch(width)
    lines = np.empty((4, 3, width), np.float64)
    old = image.copy()
    for y in range(height):
        for x in range(width):
            u[x] = cos * (x + 0.5) + sin * (y + 0.5) + c
            v[x] = -sin * (x + 0.5) + cos * (y + 0.5) + f
        _split(u, left, s)
        _split(v, top, t)
        for j in range(-1 if cubic else 0, 3 if cubic else 2):
            for k in range(-1 if cubic else 0, 3 if cubic else 2):
                for x in range(width):
                    near[k + 1, x] = old[_clamp(top[x] + j, height), _clamp(left[x] + k, width)]
            _interpolate_exactly(near, s, cubic, lines[j + 1])
        _combine(lines, t, cubic, image[y])
        _fill_outside(u, width, fill, image[y])
        _fill_outside(v, height, fill, image[y])


@kernel
def rotation(degrees, height, width):
    """Return (a, b, c, d, e, f) of `rotate`."""
    angle = -(degrees % 360.0) * math.pi / 180.0
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)  # Pillow rounds them, too
    mid_x, mid_y = width / 2.0, height / 2.0
    return cos, sin, cos * -mid_x + sin * -mid_y + mid_x, -sin, cos, -sin * -mid_x + cos * -mid_y + mid_y


@kernel
def _line_scratch(width):
    """Return (coordinates, their fractions, their whole parts, four neighbours a pixel, a line of pixels)"""
    near, line = np.empty((4, width), np.uint32), np.empty(width, np.uint32)
    return np.empty(width, np.float64), np.empty(width, np.float64), np.empty(width, np.int32), near, line


@kernel
def _split(u, whole, fraction):
    for x in range(u.size):
        whole[x] = math.floor(u[x] - 0.5)
        fraction[x] = u[x] - 0.5 - whole[x]


@kernel
def _interpolate(near, t, cubic, out):
    """Interpolate between near[1] and near[2], words (4, W), into out, words (W)."""
    a, b, c, d = near[0], near[1], near[2], near[3]
    for x in range(out.size):
        if cubic:
            red = _byte(_cubic(_level(a[x], 0), _level(b[x], 0), _level(c[x], 0), _level(d[x], 0), t[x]))
            green = _byte(_cubic(_level(a[x], 8), _level(b[x], 8), _level(c[x], 8), _level(d[x], 8), t[x]))
            blue = _byte(_cubic(_level(a[x], 16), _level(b[x], 16), _level(c[x], 16), _level(d[x], 16), t[x]))
        else:
            red = _cut(_linear(_level(b[x], 0), _level(c[x], 0), t[x]))
            green = _cut(_linear(_level(b[x], 8), _level(c[x], 8), t[x]))
            blue = _cut(_linear(_level(b[x], 16), _level(c[x], 16), t[x]))
        out[x] = red | (green << np.uint32(8)) | (blue << np.uint32(16))


@kernel
def _interpolate_exactly(near, t, cubic, out):
    """As _interpolate, into unrounded levels, float64 (3, W)."""
    a, b, c, d = near[0], near[1], near[2], near[3]
    for i in range(3):
        line, shift = out[i], np.uint32(8 * i)
        for x in range(t.size):
            if cubic:
                line[x] = _cubic(
                    _level(a[x], shift), _level(b[x], shift), _level(c[x], shift), _level(d[x], shift), t[x]
                )
            else:
                line[x] = _linear(_level(b[x], shift), _level(c[x], shift), t[x])


@kernel
def _combine(lines, t, cubic, out):
    """Interpolate between lines[1] and lines[2], float64 (4, 3, W), into out, words (W)."""
    out[:] = 0
    for i in range(3):
        a, b, c, d, shift = lines[0, i], lines[1, i], lines[2, i], lines[3, i], np.uint32(8 * i)
        for x in range(out.size):
            if cubic:
                out[x] |= _byte(_cubic(a[x], b[x], c[x], d[x], t[x])) << shift
            else:
                out[x] |= _cut(_linear(b[x], c[x], t[x])) << shift


@kernel
def _fill_outside(u, size, fill, out):
    for x in range(u.size):
        out[x] = out[x] if 0.0 <= u[x] < size else fill


@kernel
def _level(word, shift):
    return np.float64(np.int32((word >> np.uint32(shift)) & np.uint32(255)))


@kernel
def _linear(a, b, t):
    return a + (b - a) * t


@kernel
def _cubic(a, b, c, d, t):
    """Keys' cubic with a = -1 through four samples, at t between b and c (Pillow's resize uses -1/2)."""
    return b + t * ((c - a) + t * ((2 * (a - b) + c - d) + t * (b - a - c + d)))


@kernel
def _cut(value):
    return np.uint32(np.int32(value))


@kernel
def _byte(value):
    return np.uint32(np.int32(min(255.0, max(0.0, value))))


@kernel
def _clamp(i, size):
    return min(max(i, 0), size - 1)
