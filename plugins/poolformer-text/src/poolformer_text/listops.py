"""ListOps: nested lists whose value is a digit (arXiv 1804.06028; in Long Range Arena, arXiv 2011.04006)."""

import statistics
from collections.abc import Callable, Sequence

import numpy as np

from poolformer.errors import DataError

from .texts import TextModule

OPERATIONS: dict[str, Callable[[Sequence[int]], int]] = {
    "MIN": min,
    "MAX": max,
    "MED": lambda values: int(statistics.median(values)),
    "SM": lambda values: sum(values) % 10,
}
_NESTED = 0.25  # of the arguments, as in the authors' generator


class ListOpsData(TextModule):
    """Expressions such as ``[MAX 4 [MIN 2 3 ] 0 ]``, which is 4, made by the seed: ten classes, no download.

    No expression comes twice, so none of the validation is trained on.

    Args:
        train: Expressions to train on.
        val: Expressions to validate on.
        depth: Lists within lists, at most.
        arguments: Of a list, at most; at least two.
        data_seed: Seed of the expressions, apart from that of a run: all runs have the same.
        batch_size: Expressions a device and step.
        image_size: Bytes of an expression, at most; the network is built for as many.
        seed: Seed of the order; null for that of --seed_everything.

    Raises:
        DataError: An option is outside its range, or so many expressions cannot be found.
    """

    def __init__(
        self,
        train: int = 20000,
        val: int = 2000,
        depth: int = 4,
        arguments: int = 5,
        data_seed: int = 0,
        batch_size: int = 64,
        image_size: int = 128,
        seed: int | None = None,
    ):
        super().__init__(batch_size, image_size, seed)
        self.save_hyperparameters()
        if train < 1 or val < 1 or depth < 1 or arguments < 2 or image_size < 16:
            raise DataError(
                f"--data.train {train}, val {val} and depth {depth} are at least 1, arguments {arguments} at least 2, "
                f"image_size {image_size} at least 16"
            )
        self.class_names = [str(digit) for digit in range(10)]

    def splits(self) -> dict[str, list[tuple[str, int]]]:
        """Draw expressions; none comes twice."""
        options = self.hparams
        generator = np.random.default_rng(options.data_seed)
        found: dict[str, int] = {}
        wanted, tries = options.train + options.val, 0
        while len(found) < wanted:
            tries += 1
            if tries > 50 * wanted:
                raise DataError(
                    f"after {tries:,} tries there are {len(found):,} different expressions of {options.image_size} "
                    f"bytes, not {wanted:,}: allow a greater --data.depth, arguments or image_size"
                )
            text, value = expression(generator, options.depth, options.arguments)
            if len(text) <= options.image_size:
                found.setdefault(text, value)
        rows = list(found.items())
        return {"train": rows[: options.train], "val": rows[options.train :]}


def expression(generator: np.random.Generator, depth: int, arguments: int) -> tuple[str, int]:
    """Draw a list and its value.

    Args:
        generator: Of the draws.
        depth: Lists within lists, this one counted.
        arguments: Of each list, at most.
    """
    name = str(generator.choice(list(OPERATIONS)))
    parts = []
    for _ in range(int(generator.integers(2, arguments + 1))):
        if depth > 1 and generator.random() < _NESTED:
            parts.append(expression(generator, depth - 1, arguments))
        else:
            digit = int(generator.integers(10))
            parts.append((str(digit), digit))
    return f"[{name} {' '.join(text for text, _ in parts)} ]", OPERATIONS[name]([value for _, value in parts])
