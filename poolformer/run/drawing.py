"""Pictures of what a network sees and says: sheets of images, bars, matrices, a reliability diagram; by Pillow."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from .lettering import fitting, upright, width_of, write

SIDE = 112
"""Pixels of an image's longer side on a sheet: small images are enlarged by whole numbers."""
_LINE, _GAP, _NAME = 15, 8, 150
_INK, _PAPER, _GRID = (30, 30, 30), (255, 255, 255), (225, 225, 225)
GOOD, BAD, NEUTRAL = (27, 120, 55), (178, 24, 43), (33, 102, 172)


def pixels_of(images: Tensor, *, mean: Tensor, std: Tensor, normalised: bool = False) -> np.ndarray:
    """Return normalised images (B, C, H, W) as pixels, uint8 (B, H, W, 3), to be looked at.

    Of one channel or two the first is shown in grey, of more than three the first three.

    Args:
        images: On any device, of any floating type.
        mean: Of the levels 0 to 255, (C, 1, 1).
        std: Of the levels, (C, 1, 1).
        normalised: Whether the data normalises by itself, in a way that nobody knows: each image is then stretched
            from its darkest to its brightest value.
    """
    shown = images.detach().float()
    if normalised or len(mean) not in (1, shown.shape[1]):
        low = shown.amin((1, 2, 3), keepdim=True)
        shown = (shown - low) / (shown.amax((1, 2, 3), keepdim=True) - low).clamp_min(1e-12) * 255
    else:
        shown = shown * std.float() + mean.float()
    shown = shown[:, :3] if shown.shape[1] >= 3 else shown[:, :1].expand(-1, 3, -1, -1)
    levels = shown.nan_to_num(0).round().clamp(0, 255).byte()
    array: np.ndarray = levels.permute(0, 2, 3, 1).cpu().numpy()
    return array


def sheet(
    pixels: Sequence[np.ndarray] | np.ndarray,
    captions: Sequence[Sequence[str]],
    colours: Sequence[tuple[int, int, int]] = (),
    columns: int = 8,
) -> Image.Image:
    """Draw images in rows, each with lines of text below it.

    Args:
        pixels: uint8 (N, H, W, 3), or N images of any sizes.
        captions: Lines of each image.
        colours: Of the frame and the first line of each; none for black.
        columns: Images a row.
    """
    thumbs = [_thumb(each) for each in pixels]
    width, height = (max((thumb.size[axis] for thumb in thumbs), default=SIDE) for axis in (0, 1))
    lines, columns = max(map(len, captions), default=0), max(1, min(columns, len(thumbs)))
    cell = (max(width, SIDE) + _GAP, height + _GAP + lines * _LINE)
    picture = Image.new("RGB", (cell[0] * columns + _GAP, cell[1] * -(-len(thumbs) // columns) + _GAP), _PAPER)
    draw = ImageDraw.Draw(picture)
    for index, (thumb, caption) in enumerate(zip(thumbs, captions, strict=True)):
        left, top = _GAP + index % columns * cell[0], _GAP + index // columns * cell[1]
        colour = colours[index] if colours else _INK
        picture.paste(thumb, (left, top))
        draw.rectangle((left - 2, top - 2, left + thumb.width + 1, top + thumb.height + 1), outline=colour, width=2)
        for line, text in enumerate(caption):
            place = (left, top + height + 2 + line * _LINE)
            write(draw, place, fitting(text, cell[0] - _GAP), colour if line == 0 else _INK)
    return picture


def stacked(parts: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Put pictures below each other, each with a line above it."""
    heights = [picture.height + 2 * _LINE for _, picture in parts]
    found = Image.new("RGB", (max(picture.width for _, picture in parts), sum(heights)), _PAPER)
    draw, top = ImageDraw.Draw(found), 0
    for (title, picture), height in zip(parts, heights, strict=True):
        write(draw, (_GAP, top + _LINE // 2), title, _INK)
        found.paste(picture, (0, top + 2 * _LINE))
        top += height
    return found


def _thumb(pixels: np.ndarray) -> Image.Image:
    image = Image.fromarray(pixels)
    if (times := SIDE // max(image.size)) > 1:
        return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    image.thumbnail((SIDE, SIDE))
    return image


def bars(title: str, rows: Sequence[tuple[str, float, str]], *, colour: tuple[int, int, int] = NEUTRAL) -> Image.Image:
    """Draw horizontal bars.

    Args:
        title: Line above them.
        rows: Name, length as a share of the whole width, and what stands behind the bar.
        colour: Of the bars.
    """
    left = min(3 * _NAME, max((width_of(name) for name, _, _ in rows), default=0) + 3 * _GAP)
    picture = Image.new("RGB", (left + 420, (len(rows) + 2) * (_LINE + 2) + _GAP), _PAPER)
    draw = ImageDraw.Draw(picture)
    write(draw, (_GAP, 4), title, _INK)
    for number, (name, share, text) in enumerate(rows, 1):
        top = number * (_LINE + 2) + _GAP
        write(draw, (_GAP, top), fitting(name, left - 2 * _GAP), _INK)
        length = round(300 * min(max(share, 0.0), 1.0))
        draw.rectangle((left, top + 1, left + 300, top + _LINE - 2), fill=_GRID)
        if length:
            draw.rectangle((left, top + 1, left + length, top + _LINE - 2), fill=colour)
        write(draw, (left + 306, top), text, _INK)
    return picture


def pair(name: str, between: str, other: str) -> str:
    """Return two names and what stands between them, each cut by itself to fit before a bar."""
    room = 3 * _NAME - 3 * _GAP
    for left in range(room - width_of(between), 0, -_GAP):  # a letter of one may give all of them another font
        first = fitting(name, max(left // 2, left - width_of(other)))
        text = f"{first}{between}{fitting(other, left - width_of(first))}"
        if width_of(text) <= room:
            return text
    return between


def matrix(counts: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Draw a confusion matrix: rows are classes, columns what was said of their images; a cell's shade is its share.

    Args:
        counts: Images (K, K).
        names: Of the K classes.
    """
    side, left = 34, _NAME
    longest = max(map(width_of, names), default=0)
    is_upright = longest > side - 2  # headings
    top = 24 + (min(longest, _NAME) + 4 if is_upright else _LINE + 1)
    size = len(names) * side
    title = "rows: class of the images; columns: what the network says"
    picture = Image.new("RGB", (max(left + size, _GAP + width_of(title)) + _GAP, top + size + _GAP), _PAPER)
    draw = ImageDraw.Draw(picture)
    write(draw, (_GAP, 4), title, _INK)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for row, name in enumerate(names):
        write(draw, (_GAP, top + row * side + 10), fitting(name, _NAME - 2 * _GAP), _INK)
        if is_upright:
            picture.paste(upright(name, _INK, _PAPER, height=top - 28), (left + row * side + 8, 24))
        else:
            write(draw, (left + row * side + 2, 24), name, _INK)
        for column in range(len(names)):
            share, target = float(shares[row, column]), NEUTRAL if row == column else BAD
            shade = tuple(round(255 + share**0.5 * (part - 255)) for part in target)
            box = (left + column * side, top + row * side, left + (column + 1) * side - 2, top + (row + 1) * side - 2)
            draw.rectangle(box, fill=shade)
            if counts[row, column]:
                ink = _PAPER if share > 0.4 else _INK
                write(draw, (box[0] + 3, box[1] + 10), _short(int(counts[row, column])), ink)
    return picture


def _short(count: int) -> str:
    return str(count) if count < 10_000 else f"{count // 1000}k"


def reliability(shares: Sequence[tuple[float, float, int]], *, ece: float) -> Image.Image:
    """Draw how often a network is right where it is how sure (a reliability diagram).

    Args:
        shares: Of each of the equal bins of confidence: mean confidence, accuracy, images.
        ece: Expected calibration error.
    """
    size, left, top = 300, 40, 40
    picture = Image.new("RGB", (left + size + 20, top + size + 40), _PAPER)
    draw = ImageDraw.Draw(picture)
    write(draw, (_GAP, 4), f"accuracy by confidence, ECE {ece:.3f}", _INK)
    write(draw, (_GAP, 20), "shade of a bar: its share of the images", _INK)
    draw.rectangle((left, top, left + size, top + size), outline=_GRID)
    total, width = max(sum(count for _, _, count in shares), 1), size / max(len(shares), 1)
    for number, (_, accuracy, count) in enumerate(shares):
        if not count:
            continue
        weight = 0.25 + 0.75 * (count / total) ** 0.5
        shade = tuple(round(255 + weight * (part - 255)) for part in NEUTRAL)
        box = (left + number * width + 1, top + size * (1 - accuracy), left + (number + 1) * width - 1, top + size)
        draw.rectangle(box, fill=shade)
    draw.line((left, top + size, left + size, top), fill=BAD, width=2)
    for share in (0, 0.5, 1):
        write(draw, (left + share * size - 6, top + size + 4), f"{share:g}", _INK)
        write(draw, (_GAP, top + size * (1 - share) - 6), f"{share:g}", _INK)
    return picture
