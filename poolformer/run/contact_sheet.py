"""A picture of the images that a network is most and least certain of, with what it says of them."""

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ..counts import counted
from ..files.atomic_write import replacing
from . import drawing

SUFFIXES = (".png", ".jpg", ".jpeg")
MOST = 24
"""Images of each kind."""


class Said(NamedTuple):
    """What is said of an image.

    Attributes:
        name: Of the image, a file's or its number.
        guess: Its likeliest class.
        confidence: The probability of that class.
        truth: Its true class; None where it is unknown.
        is_right: Whether these are the same, however they are called; None where the class is unknown.
    """

    name: str
    guess: str
    confidence: float
    truth: str | None
    is_right: bool | None


class ContactSheet:
    """Collects the images of which a network is most and least certain, by the probability of their likeliest class.

    Args:
        most: Images of each kind.

    Attributes:
        images: How many have come.
    """

    def __init__(self, most: int = MOST):
        self.most, self.images = most, 0
        # By confidence, negated for the least certain: the first of a heap is the one that goes first.
        self._certain: list[tuple[float, int, Said, np.ndarray]] = []
        self._uncertain: list[tuple[float, int, Said, np.ndarray]] = []

    def update(self, images: Tensor, said: Sequence[Said], **of_pixels: Any) -> None:
        """Take a batch.

        Args:
            images: Normalised (B, C, H, W).
            said: Of each.
            of_pixels: Of `drawing.pixels_of`, which is asked only for the images that are kept.
        """
        found = []
        for index, each in enumerate(said):
            for heap, value in ((self._certain, each.confidence), (self._uncertain, -each.confidence)):
                if len(heap) < self.most or value > heap[0][0]:
                    found.append((heap, value, index))
        wanted = sorted({index for _, _, index in found})
        pixels = dict(zip(wanted, drawing.pixels_of(images[wanted], **of_pixels), strict=True)) if wanted else {}
        for heap, value, index in found:
            # The negated number has the earlier of two that are equally certain stay.
            item = (value, -self.images - index, said[index], pixels[index])
            if len(heap) < self.most:
                heapq.heappush(heap, item)
            else:
                heapq.heappushpop(heap, item)
        self.images += len(said)

    def write(self, path: Path) -> None:
        """Draw what there is into a file, which appears when it is complete; of no images nothing is written."""
        least = sorted(self._uncertain, key=lambda item: (-item[0], -item[1]))
        kept = {item[1] for item in least}
        most = sorted((item for item in self._certain if item[1] not in kept), reverse=True)
        parts = [(f"least certain, of {counted(self.images, 'image')}", least), ("most certain", most)]
        if sheets := [(title, _drawn(items)) for title, items in parts if items]:
            with replacing(path) as unfinished:
                drawing.stacked(sheets).save(unfinished, "PNG" if path.suffix.lower() == ".png" else "JPEG")


def _drawn(items: Sequence[tuple[float, int, Said, np.ndarray]]) -> Any:
    captions, colours = [], []
    has_truth = any(said.truth for _, _, said, _ in items)
    for _, _, said, _ in items:
        of_truth = [f"is {said.truth}" if said.truth else ""] if has_truth else []
        captions.append([f"{said.guess} {said.confidence:.1%}", *of_truth, said.name])
        colours.append({None: drawing.NEUTRAL, True: drawing.GOOD, False: drawing.BAD}[said.is_right])
    return drawing.sheet([pixels for *_, pixels in items], captions, colours)
