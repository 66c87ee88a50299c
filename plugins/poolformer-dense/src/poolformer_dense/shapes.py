"""Discs, squares and crosses before noise, with their masks and boxes, made by a seed: no download."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

CLASSES = ("disc", "square", "cross")
_SEEN = 0.5  # of a shape's pixels, from which on it counts as an object: later shapes lie over earlier ones


class Drawn(NamedTuple):
    """An image of shapes.

    Attributes:
        image: uint8 (3, S, S).
        mask: int64 (S, S): 0 for the background, 1 and on for the classes.
        boxes: float (N, 4), from left and top to right and bottom in pixels, of whole shapes that are seen by half.
        labels: int64 (N,): their classes, from 0.
    """

    image: Tensor
    mask: Tensor
    boxes: Tensor
    labels: Tensor


def draw(number: int, side: int, seed: int) -> Drawn:
    """Draw one to three shapes; the image is a function of the seed and its number."""
    draws = np.random.default_rng((seed, number))
    image, mask = draws.integers(0, 256, (side, side, 3)), np.zeros((side, side), np.int64)
    rows, columns = np.mgrid[:side, :side]
    topmost, shapes = np.full((side, side), -1), []
    for place in range(draws.integers(1, 4)):
        shape, radius = int(draws.integers(1, 4)), draws.integers(side // 8, side // 4)
        row, column = draws.integers(radius, side - radius, 2)
        down, right = abs(rows - row), abs(columns - column)
        inside = np.maximum(down, right) <= radius
        if shape == 1:
            inside = down**2 + right**2 <= radius**2
        elif shape == 3:
            inside &= np.minimum(down, right) <= radius // 3
        mask[inside], topmost[inside] = shape, place
        image[inside] = image[inside] // 2 + draws.integers(0, 128, 3)
        box = (column - radius, row - radius, column + radius + 1, row + radius + 1)
        shapes.append((box, shape - 1, inside.sum()))
    seen = [each for place, each in enumerate(shapes) if (topmost == place).sum() >= _SEEN * each[2]]
    return Drawn(
        torch.from_numpy(image.astype(np.uint8)).permute(2, 0, 1).contiguous(),
        torch.from_numpy(mask),
        torch.tensor([box for box, _, _ in seen], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([label for _, label, _ in seen]),
    )


class Shapes(Dataset[tuple[Tensor, Tensor]]):
    """Images uint8 (3, S, S) and masks int64 (S, S) of some numbers."""

    def __init__(self, numbers: range, side: int, seed: int):
        self.numbers, self.side, self.seed = numbers, side, seed

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        drawn = draw(self.numbers[index], self.side, self.seed)
        return drawn.image, drawn.mask
