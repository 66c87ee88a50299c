"""Text in pictures: in a font that has its letters, or in letters that the font has."""

import os
import unicodedata
from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

_SIZE = 11
_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf"),
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "Arial Unicode.ttf", "msyh.ttc", "PingFang.ttc"),
)
"""Where Pillow's own, which has little beside ASCII, lacks a letter: those of the system, as Pillow finds them."""
_NONE = "\uffff"  # a letter that no font has: all show the same for it


def fitting(text: str, width: int) -> str:
    """Return a text as it can be drawn in one line of a width in pixels; what is cut out is its middle.

    Names that begin alike stay apart, and a number at the end stays.
    """
    text = _drawable(text)[1]
    kept, cut = len(text), text
    while kept and width_of(cut) > width:
        kept -= 1
        tail = kept // 3
        cut = f"{text[: kept - tail]}...{text[len(text) - tail :]}"
    return cut


def width_of(text: str) -> int:
    """Return the width of a text in pixels."""
    font, letters = _drawable(text)
    return round(font.getlength(letters))


def write(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, ink: tuple[int, ...]) -> None:
    """Draw a text.

    Args:
        draw: Draws on a picture.
        place: Left and upper edge, pixels.
        text: A line.
        ink: Its colour.
    """
    font, letters = _drawable(text)
    draw.text(place, letters, fill=ink, font=font)


def upright(text: str, ink: tuple[int, ...], paper: tuple[int, ...], *, height: int) -> Image.Image:
    """Return a picture of a text that is read from below, 15 pixels wide.

    Args:
        text: A line.
        ink: Its colour.
        paper: That of what is around it.
        height: Of the picture, pixels.
    """
    picture = Image.new("RGB", (height, 15), paper)
    write(ImageDraw.Draw(picture), (0, 0), fitting(text, height), ink)
    return picture.transpose(Image.Transpose.ROTATE_90)


@cache
def _own_font() -> Any:
    return ImageFont.load_default(_SIZE)


@cache
def _fonts() -> list[Any]:
    """Return Pillow's own font, and others in the order in which they are tried."""
    found: list[Any] = [_own_font()]
    for name in (*_FONTS, *_of_matplotlib()):
        try:
            found.append(ImageFont.truetype(name, _SIZE))
        except (OSError, ValueError, ImportError):  # it is not there, or Pillow cannot read fonts
            continue
    return found


def _of_matplotlib() -> list[str]:
    from importlib.util import find_spec

    found = find_spec("matplotlib")
    folders = found.submodule_search_locations if found else None
    return [os.path.join(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf") for folder in folders or ()]


@cache
def _has(number: int, letter: str) -> bool:
    font = _fonts()[number]
    return bytes(font.getmask(letter)) != bytes(font.getmask(_NONE)) or letter.isspace()


def _drawable(text: str) -> tuple[Any, str]:
    """Return a font, and a text in letters that it has: without accents, or as numbers, where no font has them."""
    text = " ".join(text.split())  # a line
    if text.isascii():
        return _own_font(), text
    counts = [sum(_has(number, letter) for letter in text) for number in range(len(_fonts()))]
    best = counts.index(max(counts))  # the first of the best
    return _fonts()[best], "".join(letter if _has(best, letter) else _instead(best, letter) for letter in text)


def _instead(number: int, letter: str) -> str:
    plain = "".join(each for each in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(each))
    has_all = plain and all(_has(number, each) for each in plain)
    return plain if has_all else letter.encode("ascii", "backslashreplace").decode()
