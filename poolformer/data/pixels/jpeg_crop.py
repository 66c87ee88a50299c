"""A rectangle of a JPEG, decoded without the rest of it; the pixels are libjpeg-turbo's, and so Pillow's.

All of it runs without the interpreter lock. Of the coded bits, those above the rectangle still have to be walked
through, unless the file has restart markers; transforming, interpolating and colours are done inside of it alone.
"""

import numpy as np

from .jit import kernel
from .jpeg_colour import LANES, write_pixels
from .jpeg_frame import HEIGHT, WIDTH, read_frame
from .jpeg_scan import decode_scan, layout_of, tables, window_of


@kernel
def decode_crop(data, tables, top, left, out, whole):
    """Write a rectangle of a JPEG whose header was read into `tables.frame`; return whether nothing was wrong.

    Args:
        data: uint8, the file.
        tables: See `jpeg_scan.tables`.
        top, left: Of the rectangle, which has to lie in the image.
        out: uint32 (H, W), written.
        whole: Whether damage outside of it is to be found as well.
    """
    numbers = tables.frame.numbers
    window = window_of(numbers, top, top + out.shape[0], left, left + out.shape[1])
    layout, size = layout_of(numbers, window)
    planes = np.empty(size + LANES, np.uint8)
    if not decode_scan(data, tables, window, layout, planes, whole):
        return False
    write_pixels(planes, layout, numbers, window, top, left, out)
    return True


def decoded(data: bytes, top: int, left: int, height: int, width: int, *, whole: bool = False) -> np.ndarray | None:
    """Return a rectangle of a JPEG, uint32 (height, width), or None of a file that libjpeg has to decode.

    Args:
        data: The file.
        top: First row of the rectangle.
        left: First column.
        height: Rows.
        width: Columns.
        whole: Whether damage outside of the rectangle is to be found as well.

    Raises:
        ValueError: The rectangle is not in the image.
    """
    # Writable, as what a loader reads: numba compiles a kernel anew for what is not.
    array, room = np.frombuffer(bytearray(data), np.uint8), tables()
    if not read_frame(array, room.frame):
        return None
    numbers = room.frame.numbers
    if not (0 <= top < top + height <= numbers[HEIGHT] and 0 <= left < left + width <= numbers[WIDTH]):
        raise ValueError(f"no part of an image of {numbers[WIDTH]} x {numbers[HEIGHT]} pixels")
    out = np.empty((height, width), np.uint32)
    return out if decode_crop(array, room, top, left, out, whole) else None
