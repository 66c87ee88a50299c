"""The tasks of the probes: labels are balanced, answers are right, and counts of symbols do not tell them."""

import numpy as np
import pytest

from poolformer.judging.tasks import EMPTY, MARKER, NO_ANSWER, SYMBOLS, TASKS, WALL

MAPS = 2000
CELLS = [(name, side) for name, task in TASKS.items() for side in task.sides]


def drawn(name: str, side: int, maps: int = MAPS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return TASKS[name].draw(np.random.default_rng(seed), maps, side)


def counts(symbols: np.ndarray) -> np.ndarray:
    return np.stack([(symbols == symbol).sum((1, 2)) for symbol in range(SYMBOLS)], axis=1)


@pytest.mark.parametrize(("name", "side"), CELLS)
def test_labels_are_balanced_and_symbols_within_the_alphabet(name, side):
    symbols, labels = drawn(name, side)
    assert (symbols.shape, symbols.dtype, labels.dtype) == ((MAPS, side, side), np.uint8, np.int64)
    assert labels.shape == (symbols.shape if TASKS[name].dense else (MAPS,))
    assert symbols.max() < SYMBOLS
    answers = labels[labels != NO_ANSWER]
    share = np.bincount(answers, minlength=TASKS[name].classes) / len(answers)
    assert np.abs(share - TASKS[name].chance).max() < 5 * np.sqrt(0.25 / MAPS)


@pytest.mark.parametrize(("name", "side"), CELLS)
def test_the_same_generator_draws_the_same_maps(name, side):
    for one, other in zip(drawn(name, side, 50), drawn(name, side, 50), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(("name", "side"), [cell for cell in CELLS if cell[0] != "count"])
def test_counts_of_symbols_do_not_tell_the_label_to_a_linear_head(name, side):
    symbols, labels = drawn(name, side)
    inputs = np.concatenate([counts(symbols), np.ones((MAPS, 1))], axis=1)
    if TASKS[name].dense:  # beside the counts, the symbol of the place that is asked
        which, row, column = np.nonzero(labels != NO_ANSWER)
        inputs = np.concatenate([inputs[which], np.eye(SYMBOLS)[symbols[which, row, column]]], axis=1)
        labels = labels[which, row, column]
    half = len(labels) // 2
    weights = np.linalg.lstsq(inputs[:half], np.eye(TASKS[name].classes)[labels[:half]], rcond=None)[0]
    right = ((inputs[half:] @ weights).argmax(1) == labels[half:]).mean()
    chance = TASKS[name].chance
    assert right < chance + 4 * np.sqrt(chance * (1 - chance) / half)


def test_the_marker_counts():
    symbols, labels = drawn("count", 6)
    assert np.array_equal((symbols == MARKER).sum((1, 2)), 3 * labels)


@pytest.mark.parametrize(("name", "side", "distance"), [("copy near", 6, 1), ("copy near", 8, 1), ("copy far", 8, 4)])
def test_a_copied_letter_stands_at_its_distance_from_the_marker(name, side, distance):
    symbols, labels = drawn(name, side)
    which, row, column = np.nonzero(symbols == MARKER)
    assert np.array_equal(which, np.arange(MAPS))
    assert np.array_equal(symbols[which, row, column + distance], labels + 1)
    assert np.ptp(counts(symbols), axis=0).max() == 0  # every map has the same symbols


def test_letter_1_stands_left_of_letter_2_in_its_row():
    symbols, labels = drawn("order", 8)
    _, row1, column1 = np.nonzero(symbols == 1)
    _, row2, column2 = np.nonzero(symbols == 2)
    assert np.array_equal(row1, row2)
    assert np.array_equal(column1 < column2, labels == 1)


def test_two_letters_are_the_same():
    symbols, labels = drawn("same", 8)
    letters = np.sort(symbols.reshape(MAPS, -1), axis=1)[:, -2:]
    assert ((symbols != EMPTY).sum((1, 2)) == 2).all()
    assert np.array_equal(letters[:, 0] == letters[:, 1], labels == 1)


def test_a_letter_is_asked_for_by_the_one_key_of_its_map():
    symbols, labels = drawn("find", 6)
    assert (((symbols == 3) | (symbols == 4)).sum((1, 2)) == 1).all()
    asked = np.where((symbols == 3).any((1, 2)), 1, 2)[:, None, None]
    for letter in (1, 2):
        assert ((symbols == letter).sum((1, 2)) == 17).all()
        assert np.array_equal(
            labels[symbols == letter], np.broadcast_to(asked == letter, symbols.shape)[symbols == letter]
        )
    assert (labels[(symbols == EMPTY) | (symbols > 2)] == NO_ANSWER).all()


def test_a_path_joins_the_markers():
    from scipy.ndimage import label

    symbols, labels = drawn("path", 8, 200)
    for one, answer in zip(symbols, labels, strict=True):
        regions, _ = label(one != WALL)
        first, second = regions[one == MARKER]
        assert (first == second) == bool(answer)
