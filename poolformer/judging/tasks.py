"""Procedural tasks that tell what a token mixer can mix: small maps of symbols, made by a seed.

After the synthetic tasks that foretell how mixers scale (MAD, arXiv 2403.17844) and Long Range Arena's ListOps and
Pathfinder (arXiv 2011.04006), on maps in place of sequences. In all of them but `count` a linear head over the counts
of symbols stays at chance, so that what is learned is learned by mixing; in `find`, the dense one, so does a linear
head over the counts and the symbol of the place. Borders do tell places: a convolution pads with zeros, and average
pooling leaves the padding out of its mean, so that both know where a map ends and attention does not.
Shapes: N maps, S symbols a side.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SYMBOLS = 10
EMPTY, MARKER, WALL = 0, 8, 9
LETTERS = 7
"""Symbols 1 to 7."""
NO_ANSWER = -100
"""Label of a place that no loss and no score is of, as `torch.nn.functional.cross_entropy` has it."""
LEAST_SIDE = 3
"""So that every letter, and 9 markers, have a place."""

Draw = Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        name: Its name.
        question: What is asked of a map, in a line.
        classes: Number of answers, of which each is as frequent.
        sides: Of the maps, in symbols.
        solved: Share of right answers from which on the task counts as solved.
        solved_by: Reference rows that reach it.
        unsolved_by: Reference rows that stay near chance: half-way to `solved` at most.
        draw: (generator, maps N, side S) -> symbols uint8 (N, S, S), labels int64 (N,); of a dense task (N, S, S), with
            `NO_ANSWER` where a place has none.
        asked_of: Symbols at whose places the answer is read; none for the mean over all places.
        dense: Whether every place has an answer of its own.
    """

    name: str
    question: str
    classes: int
    sides: tuple[int, ...]
    solved: float
    solved_by: tuple[str, ...]
    unsolved_by: tuple[str, ...]
    draw: Draw
    asked_of: tuple[int, ...] = ()
    dense: bool = False

    @property
    def chance(self) -> float:
        """Share of right answers of a guess."""
        return 1 / self.classes


def _letters(generator: np.random.Generator, maps: int, side: int) -> np.ndarray:
    """Return maps of letters, each as often as every other in each map, the rest of the places and one more empty."""
    places = side * side
    each = (places - 1) // LETTERS
    symbols = np.zeros(places, np.uint8)
    symbols[: each * LETTERS] = np.repeat(np.arange(1, LETTERS + 1), each)
    return generator.permuted(np.tile(symbols, (maps, 1)), axis=1)


def _count(generator: np.random.Generator, maps: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    labels = generator.integers(0, 4, maps)
    symbols = generator.integers(1, LETTERS + 1, (maps, side * side)).astype(np.uint8)
    symbols[np.arange(side * side) < 3 * labels[:, None]] = MARKER
    return generator.permuted(symbols, axis=1).reshape(maps, side, side), labels


def _texture(generator: np.random.Generator, maps: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    symbols = generator.integers(1, LETTERS + 1, (maps, side, side)).astype(np.uint8)
    repeats = generator.random((maps, side, side)) < 0.5
    for column in range(1, side):
        symbols[:, :, column] = np.where(repeats[:, :, column], symbols[:, :, column - 1], symbols[:, :, column])
    labels = generator.integers(0, 2, maps)
    flat = symbols.reshape(maps, -1)
    flat[labels == 0] = generator.permuted(flat[labels == 0], axis=1)  # the same symbols in other places
    return symbols, labels


def _copied_from(distance: Callable[[int], int]) -> Draw:
    def draw(generator: np.random.Generator, maps: int, side: int) -> tuple[np.ndarray, np.ndarray]:
        symbols, rows = _letters(generator, maps, side), np.arange(maps)
        row, column = generator.integers(0, side, maps), generator.integers(0, side - distance(side), maps)
        marker, asked = row * side + column, row * side + column + distance(side)
        # The marker takes an empty place, whose symbol goes to where the marker stands.
        empty = (symbols == EMPTY).argmax(1)
        symbols[rows, empty], symbols[rows, marker] = symbols[rows, marker], MARKER
        hole = symbols[rows, asked] == EMPTY  # of maps with more than one empty place
        other = (symbols == 1 + generator.integers(0, LETTERS, (maps, 1))).argmax(1)
        moved = rows[hole]
        symbols[moved, asked[hole]], symbols[moved, other[hole]] = symbols[moved, other[hole]], EMPTY
        return symbols.reshape(maps, side, side), symbols[rows, asked].astype(np.int64) - 1

    return draw


def _same(generator: np.random.Generator, maps: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    labels = generator.integers(0, 2, maps)
    one = generator.integers(1, LETTERS + 1, maps)
    other = np.where(labels == 1, one, (one - 1 + generator.integers(1, LETTERS, maps)) % LETTERS + 1)
    symbols = np.zeros((maps, side * side), np.uint8)
    symbols[:, 0], symbols[:, 1] = one, other
    return generator.permuted(symbols, axis=1).reshape(maps, side, side), labels


def _order(generator: np.random.Generator, maps: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    symbols = generator.integers(3, LETTERS + 1, (maps, side, side)).astype(np.uint8)
    rows, row = np.arange(maps), generator.integers(0, side, maps)
    columns = generator.permuted(np.tile(np.arange(side), (maps, 1)), axis=1)[:, :2]
    symbols[rows, row, columns[:, 0]], symbols[rows, row, columns[:, 1]] = 1, 2
    return symbols, (columns[:, 0] < columns[:, 1]).astype(np.int64)


def _path(generator: np.random.Generator, maps: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    walls = round(0.42 * side * side)
    flat = np.zeros((4 * maps, side * side), np.uint8)
    flat[:, :walls], flat[:, walls : walls + 2] = WALL, MARKER
    flat = generator.permuted(flat, axis=1)
    connected = _connected(flat.reshape(-1, side, side))
    half = maps // 2
    chosen = np.concatenate([np.flatnonzero(connected)[: maps - half], np.flatnonzero(~connected)[:half]])
    if len(chosen) < maps:  # more of one kind than of the other, by far
        more_symbols, more_labels = _path(generator, maps - len(chosen), side)
        symbols = np.concatenate([flat[chosen].reshape(-1, side, side), more_symbols])
        labels = np.concatenate([connected[chosen].astype(np.int64), more_labels])
    else:
        symbols, labels = flat[chosen].reshape(-1, side, side), connected[chosen].astype(np.int64)
    mixed = generator.permutation(maps)
    return symbols[mixed], labels[mixed]


def _connected(symbols: np.ndarray) -> np.ndarray:
    """Return whether the second marker is reached from the first through places without walls, side by side."""
    maps, side, _ = symbols.shape
    is_marker = (symbols == MARKER).reshape(maps, -1)
    reached = np.zeros((maps, side + 2, side + 2), bool)
    inside = reached[:, 1:-1, 1:-1]
    first = is_marker.argmax(1)
    inside[np.arange(maps), first // side, first % side] = True
    free = symbols != WALL
    while True:
        near = reached[:, :-2, 1:-1] | reached[:, 2:, 1:-1] | reached[:, 1:-1, :-2] | reached[:, 1:-1, 2:]
        new = near & free & ~inside
        if not new.any():
            return (inside.reshape(maps, -1) & is_marker).sum(1) == 2
        inside |= new


def _find(generator: np.random.Generator, maps: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    # Letters 1 and 2 are as frequent in every map, so that counts tell nothing, and no letter alone its answer.
    each, asked = (side * side - 1) // 2, generator.integers(1, 3, maps)
    places = np.zeros((maps, side * side), np.uint8)
    places[:, :each], places[:, each : 2 * each], places[:, -1] = 1, 2, 2 + asked
    symbols = generator.permuted(places, axis=1).reshape(maps, side, side)
    answers = (symbols == asked[:, None, None]).astype(np.int64)
    return symbols, np.where((symbols == 1) | (symbols == 2), answers, NO_ANSWER)


_MOST = ("identity", "pooling", "depthwise", "random_matrix")  # attention reaches it with most seeds
# Without position attention answers by the counts of symbols, as identity does: see tests/judging/test_probe.py.
_OF_COUNTS = ("identity", "attention")
_SIDES = (6, 8)
TASKS = {
    task.name: task
    for task in (
        Task("count", "How many markers are there: 0, 3, 6 or 9?", 4, _SIDES, 0.9, _MOST, (), _count),
        Task("texture", "Do neighbours in a row repeat?", 2, _SIDES, 0.9, ("depthwise",), _OF_COUNTS, _texture),
        Task(
            name="copy near",
            question="Which letter stands right of the marker?",
            classes=LETTERS,
            sides=_SIDES,
            solved=0.9,
            solved_by=("depthwise",),
            unsolved_by=(*_OF_COUNTS, "pooling"),
            draw=_copied_from(lambda side: 1),
            asked_of=(MARKER,),
        ),
        Task(
            name="copy far",
            question="Which letter stands half a row right of the marker?",
            classes=LETTERS,
            sides=_SIDES,
            solved=0.9,
            solved_by=(),
            unsolved_by=(*_OF_COUNTS, "pooling", "depthwise"),
            draw=_copied_from(lambda side: side // 2),
            asked_of=(MARKER,),
        ),
        Task(
            name="same",
            question="Are the two letters the same?",
            classes=2,
            sides=_SIDES,
            solved=0.9,
            solved_by=("attention",),
            unsolved_by=("identity", "pooling", "depthwise"),
            draw=_same,
            asked_of=tuple(range(1, LETTERS + 1)),
        ),
        Task(
            name="order",
            question="Is letter 1 left of letter 2?",
            classes=2,
            sides=_SIDES,
            solved=0.9,
            solved_by=("depthwise",),
            unsolved_by=(*_OF_COUNTS, "pooling"),
            draw=_order,
            asked_of=(1, 2),
        ),
        Task("path", "Does a path join the two markers?", 2, _SIDES, 0.9, (), _OF_COUNTS, _path, (MARKER,)),
        Task(
            name="find",
            question="At every letter 1 and 2: does the one letter 3 or 4 of the map ask for it?",
            classes=2,
            sides=_SIDES,
            solved=0.9,
            solved_by=("attention",),
            # Two blocks see two places far: at most 72 % of the right answers at 6 x 6, and 64 % at 8 x 8.
            unsolved_by=("identity", "pooling", "depthwise"),
            draw=_find,
            dense=True,
        ),
    )
}
