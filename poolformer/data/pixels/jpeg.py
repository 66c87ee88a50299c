"""From the bytes of an image file to pixels equal to Pillow's.

JPEG goes through libjpeg-turbo with the accurate DCT (simplejpeg; its pixels are Pillow's, bit for bit, at about
three quarters of the cost), everything else through Pillow: its first image where it has several, without
transparency, and grey of 16 bits by its upper 8. Orientation tags are ignored, as by torchvision, but for
`decode_upright`.
"""

import functools
import io
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from ...errors import DataError
from .jpeg_segments import tidied, unsampled
from .orientation import orientation, upright

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "AVIF")
"""What Pillow may take a file for, whatever its name: of its other formats, EPS starts Ghostscript on the file."""

_OTHERS = {
    b"ftypavif": "AVIF",
    b"ftypheic": "HEIC",
    b"ftypheix": "HEIC",
    b"ftypmif1": "HEIC",
    b"jP  \r\n\x87\n": "JPEG 2000",
    b"JXL \r\n\x87\n": "JPEG XL",
}
"""What else lies under an image's name, by its first bytes."""

MAX_PIXELS = 178_956_970
"""More is taken for a decompression bomb (Pillow's own limit for an error)."""

_AS_RGB = ("YCbCr", "RGB", "Gray")
_441 = 6
"""libjpeg-turbo's number of the sampling for which simplejpeg 1.9 has no name; size and colours do not depend on it."""


class Header(NamedTuple):
    """What a JPEG says of itself before its pixels."""

    height: int
    width: int
    color: str
    """simplejpeg's name of the stored colour space: YCbCr, RGB, Gray, CMYK or YCCK."""


def read_header(data: bytes | np.ndarray) -> Header | None:
    """Return the header of a JPEG that libjpeg-turbo can turn into RGB, None for everything else."""
    header = _read_header(data)
    return header if header is not None and header.color in _AS_RGB else None


def decode_upright(data: bytes, name: str) -> tuple[np.ndarray, bool]:
    """Decode a whole image file as its EXIF orientation says it is to be seen.

    Returns:
        (words, whether they had to be turned), as `decode`.

    Raises:
        DataError: As `decode`.
    """
    words, turned = decode(data, name), orientation(data, _readable())
    return upright(words, turned), turned != 1


def decode(data: bytes | np.ndarray, name: str) -> np.ndarray:
    """Decode a whole image file.

    Args:
        data: The bytes of the file.
        name: What to call it in an error.

    Returns:
        uint32 (H, W), each pixel the bytes red, green, blue and one of padding.

    Raises:
        DataError: No image, a damaged one, or one of more than MAX_PIXELS.
    """
    header = _read_header(data)
    if header is None:
        return to_words(_decode_with_pillow(data, name))
    _check_size(header.height, header.width, name)
    try:
        pixels = _decode(data)
    except ValueError as error:
        raise DataError(f"{name}: damaged JPEG ({error}); replace the file or leave it out") from error
    if header.color not in _AS_RGB:  # CMYK: sound, but Pillow turns it into other RGB than libjpeg does
        return to_words(_decode_with_pillow(data, name))
    return _as_words(pixels)


def decode_sound_jpeg(data: np.ndarray, name: str, *, height: int, width: int) -> np.ndarray:
    """Decode a JPEG that is known to be undamaged, such as one with a checksum, whatever libjpeg warns of.

    Args:
        data: The bytes of the file.
        name: What to call it in an error.
        height: Its rows, as the file it is packed in says.
        width: Its columns.

    Returns:
        uint32 (height, width).

    Raises:
        DataError: It is no JPEG of that size: kernels would read memory that is not the image's.
    """
    header = read_header(data)
    if header is None or (header.height, header.width) != (height, width):
        raise DataError(f"{name}: it is no JPEG of {width} x {height} pixels, as the index says; pack the file again")
    _check_size(height, width, name)
    try:
        words = _as_words(_decode_trusted(data))
    except ValueError as error:
        raise DataError(f"{name}: damaged JPEG ({error}); pack the file again") from error
    if words.shape != (height, width):
        raise DataError(f"{name}: its frame is not where its header says; pack the file again")
    return words


def encode(words: np.ndarray, quality: int) -> bytes:
    """Return a JPEG of uint32 (H, W), with halved chroma as is usual; quality 1 to 100."""
    pixels = words.view(np.uint8).reshape(*words.shape, 4)
    return simplejpeg.encode_jpeg(pixels, quality=quality, colorspace="RGBX", colorsubsampling="420", fastdct=False)


def to_words(pixels: np.ndarray) -> np.ndarray:
    """Turn uint8 (H, W, 3) into uint32 (H, W)."""
    padded = np.empty((*pixels.shape[:2], 4), np.uint8)
    padded[..., :3] = pixels
    return _as_words(padded)


def to_pixels(words: np.ndarray) -> np.ndarray:
    """Turn uint32 (H, W) into uint8 (H, W, 3)."""
    return np.ascontiguousarray(words.view(np.uint8).reshape(*words.shape, 4)[..., :3])


def _read_header(data: bytes | np.ndarray) -> Header | None:
    try:
        try:
            return Header(*simplejpeg.decode_jpeg_header(data, strict=False)[:3])
        except KeyError as sampling:
            if sampling.args != (_441,):  # of no name, as libjpeg-turbo knows none, either
                return None
            return Header(*simplejpeg.decode_jpeg_header(unsampled(bytes(data)), strict=False)[:3])
    except (KeyError, ValueError):
        return None


def _decode(data: bytes | np.ndarray) -> np.ndarray:
    try:
        return simplejpeg.decode_jpeg(data, "RGBX")
    except ValueError:
        from .jpeg_warnings import decode_despite_warnings  # numba: half a second

        return decode_despite_warnings(bytes(data))


def _decode_trusted(data: np.ndarray) -> np.ndarray:
    try:
        return simplejpeg.decode_jpeg(data, "RGBX", strict=False)
    except ValueError:  # an odd header is an error all the same
        return simplejpeg.decode_jpeg(tidied(data.tobytes()), "RGBX", strict=False)


def _as_words(pixels: np.ndarray) -> np.ndarray:
    return pixels.view(np.uint32).reshape(pixels.shape[:2])


def _decode_with_pillow(data: bytes | np.ndarray, name: str) -> np.ndarray:
    if len(data) == 0:
        raise DataError(f"{name}: the file is empty; replace it or leave it out")
    try:
        with Image.open(io.BytesIO(bytes(data)), formats=_readable()) as image:
            _check_size(image.height, image.width, name)
            return np.asarray(_of_8_bits(image, name).convert("RGB"))
    except DataError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever their parser stumbles over
        reason = _kind(bytes(data[:64])) if isinstance(error, Image.UnidentifiedImageError) else str(error)
        reason = " ".join(reason.split()) or type(error).__name__
        raise DataError(f"{name}: cannot be read as an image ({reason}); replace the file or leave it out") from error


@functools.cache
def _readable() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _kind(head: bytes) -> str:
    """Return what a file is that is none of FORMATS."""
    found = (kind for magic, kind in _OTHERS.items() if magic in head)
    return next((f"{kind}, which is not read here" for kind in found), "not an image")


def _of_8_bits(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 bits loses its lower 8, as colours of 16 bits do in Pillow and both in OpenCV; `convert` would clip.

    Raises:
        DataError: Of 32 bits it is not known which number is white.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floats"
        raise DataError(
            f"{name}: its pixels are {kind} of 32 bits, and none of them is white; save it with 8 or 16 bits"
        )
    return image


def _check_size(height: int, width: int, name: str) -> None:
    pixels = height * width
    if not 0 < pixels <= MAX_PIXELS:
        raise DataError(
            f"{name}: {width} x {height} = {pixels} pixels, more than {MAX_PIXELS}; scale it down or leave it out"
        )
