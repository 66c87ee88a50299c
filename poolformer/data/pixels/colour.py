"""Pillow's colour operations, bit for bit, in place on one image.

Images are uint32 (H, W), each pixel the bytes red, green, blue and one of padding. Names are Pillow's (ImageOps,
ImageEnhance); factors are its enhancement factors: 1 changes nothing.
"""

import numpy as np

from .jit import kernel


@kernel
def autocontrast(image):
    """Stretch each channel so that its darkest pixel is 0 and its lightest 255."""
    counts, table = _histogram(image), np.empty((3, 256), np.uint32)
    for c in range(3):
        low, high = 0, 255
        while low < 255 and counts[c, low] == 0:
            low += 1
        while high > 0 and counts[c, high] == 0:
            high -= 1
        scale = 255.0 / (high - low) if high > low else 1.0
        offset = -low * scale if high > low else 0.0
        for i in range(256):
            table[c, i] = min(255, max(0, int(i * scale + offset)))
    _look_up(image, table)


@kernel
def equalize(image):
    """Make the levels of each channel equally frequent."""
    counts, table = _histogram(image), np.empty((3, 256), np.uint32)
    for c in range(3):
        used, last, total = 0, 0, 0
        for i in range(256):
            if counts[c, i] > 0:
                used += 1
                last = counts[c, i]
                total += last
        step = (total - last) // 255
        seen = step // 2
        for i in range(256):
            table[c, i] = min(255, seen // step) if used > 1 and step > 0 else i
            seen += counts[c, i]
    _look_up(image, table)


@kernel
def invert(image):
    """Replace each level by 255 minus it."""
    for y in range(image.shape[0]):
        row = image[y]
        for x in range(image.shape[1]):
            row[x] ^= np.uint32(0xFFFFFF)


@kernel
def posterize(image, bits):
    """Keep the highest `bits` bits of each level; 0 bits are black, where Pillow 13 raises."""
    keep = np.uint32((256 - 2 ** (8 - bits)) * 0x010101)
    for y in range(image.shape[0]):
        row = image[y]
        for x in range(image.shape[1]):
            row[x] &= keep


@kernel
def solarize(image, threshold):
    """Invert the levels from `threshold` on."""
    table = np.empty((3, 256), np.uint32)
    for i in range(256):
        table[:, i] = i if i < threshold else 255 - i
    _look_up(image, table)


@kernel
def solarize_add(image, amount):
    """Add `amount` to the levels below 128 (timm's own operation)."""
    table = np.empty((3, 256), np.uint32)
    for i in range(256):
        table[:, i] = min(255, i + amount) if i < 128 else i
    _look_up(image, table)


@kernel
def brightness(image, factor):
    """Blend with black."""
    _blend_with_grey(image, 0, factor)


@kernel
def contrast(image, factor):
    """Blend with the mean grey of the image."""
    total = 0
    for y in range(image.shape[0]):
        row = image[y].view(np.uint8)
        for x in range(image.shape[1]):
            total += _luma(row[4 * x], row[4 * x + 1], row[4 * x + 2])
    _blend_with_grey(image, int(total / image.size + 0.5), factor)


@kernel
def color(image, factor):
    """Blend each pixel with its own grey."""
    factor = np.float32(factor)
    for y in range(image.shape[0]):
        row = image[y].view(np.uint8)
        for x in range(image.shape[1]):
            grey = _luma(row[4 * x], row[4 * x + 1], row[4 * x + 2])
            for c in range(3):
                row[4 * x + c] = blend(grey, row[4 * x + c], factor)


@kernel
def sharpness(image, factor):
    """Blend with the image smoothed by [1 1 1; 1 5 1; 1 1 1] / 13; the edge stays as it is."""
    factor = np.float32(factor)
    height, width = image.shape
    old = image.copy().view(np.uint8)
    for y in range(1, height - 1):
        above, row, under, out = old[y - 1], old[y], old[y + 1], image[y].view(np.uint8)
        for i in range(4, 4 * (width - 1)):
            ring = (
                np.int32(above[i - 4])
                + np.int32(above[i])
                + np.int32(above[i + 4])
                + np.int32(row[i - 4])
                + np.int32(row[i + 4])
                + np.int32(under[i - 4])
                + np.int32(under[i])
                + np.int32(under[i + 4])
            )
            smooth = np.int32((2 * (ring + 5 * np.int32(row[i])) + 13) // 26)  # rounds half up
            out[i] = blend(smooth, row[i], factor)


@kernel
def blend(first, second, factor):
    """first + factor * (second - first) in single precision, clipped and cut to a byte, as Pillow's Image.blend."""
    value = np.float32(first) + factor * np.float32(np.int32(second) - np.int32(first))
    return np.uint8(np.int32(min(np.float32(255.0), max(np.float32(0.0), value))))


@kernel
def _luma(red, green, blue):
    """Pillow's conversion to grey (ITU-R 601-2 in 16-bit fixed point)."""
    return (np.int32(red) * 19595 + np.int32(green) * 38470 + np.int32(blue) * 7471 + 0x8000) >> 16


@kernel
def _blend_with_grey(image, grey, factor):
    table = np.empty((3, 256), np.uint32)
    for i in range(256):
        table[:, i] = blend(grey, i, np.float32(factor))
    _look_up(image, table)


@kernel
def _histogram(image):
    counts = np.zeros((3, 256), np.int64)
    for y in range(image.shape[0]):
        row = image[y]
        for x in range(image.shape[1]):
            counts[0, row[x] & 255] += 1
            counts[1, (row[x] >> 8) & 255] += 1
            counts[2, (row[x] >> 16) & 255] += 1
    return counts


@kernel
def _look_up(image, table):
    """Replace each level by its entry in table (3, 256)."""
    red, green, blue = table[0], table[1] << np.uint32(8), table[2] << np.uint32(16)
    for y in range(image.shape[0]):
        row = image[y]
        for x in range(image.shape[1]):
            p = row[x]
            row[x] = red[p & 255] | green[(p >> 8) & 255] | blue[(p >> 16) & 255]
