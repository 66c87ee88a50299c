"""JPEGs in tiles, for packing: each is checked, and those that stay as they are are counted."""

from collections.abc import Mapping

import numpy as np

from ..errors import DataError
from .pixels.jpeg import decode


class Tiling:
    """Makes tiles of JPEGs, and counts them.

    Attributes:
        images: JPEGs in tiles.
        as_they_were: Those of a kind that is left alone: progressive, arithmetic, of several scans.
        differing: Those whose tiles had other pixels, and which are kept as they were; a fault of ours.
    """

    def __init__(self) -> None:
        self.images = self.as_they_were = self.differing = 0

    def add(self, counts: Mapping[str, int]) -> None:
        """Count what another has made, as its `counts` say."""
        self.images += counts["images"]
        self.as_they_were += counts["as_they_were"]
        self.differing += counts["differing"]

    def tiles_of(self, jpeg: bytes, words: np.ndarray | None = None) -> bytes:
        """Return a JPEG in tiles, or as it is where that cannot be.

        Args:
            jpeg: The bytes of a sound file.
            words: Its pixels, if they are known.
        """
        from .pixels.jpeg_tiles import tiled  # numba: half a second

        tiles = tiled(jpeg)
        differs = tiles is not None and not _shows(tiles, decode(jpeg, "a JPEG") if words is None else words)
        self.as_they_were += tiles is None
        self.differing += differs
        self.images += tiles is not None and not differs
        return jpeg if tiles is None or differs else tiles

    @property
    def counts(self) -> dict[str, int]:
        """What a description says of it."""
        return {"images": self.images, "as_they_were": self.as_they_were, "differing": self.differing}

    @property
    def remark(self) -> str:
        """A line for who packed."""
        others = f", {self.as_they_were} JPEGs of another kind as they were" if self.as_they_were else ""
        faults = f", {self.differing} as they were because their tiles had other pixels" if self.differing else ""
        return f"{self.images} JPEGs in tiles{others}{faults}"


def _shows(jpeg: bytes, words: np.ndarray) -> bool:
    try:
        return _same_colours(decode(jpeg, "tiles"), words)
    except DataError:
        return False


def _same_colours(one: np.ndarray, other: np.ndarray) -> bool:
    """Of uint32 (H, W), whatever their padding."""
    if one.shape != other.shape:
        return False
    return np.array_equal(one, other) or not ((one ^ other) & np.uint32(0x00FFFFFF)).any()
