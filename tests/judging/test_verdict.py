"""A verdict never says more than its interval."""

import pytest

from poolformer.ablation.paired import Difference
from poolformer.judging.comparison import Comparison
from poolformer.judging.verdict import Cell, further_seeds, profile, verdict

FEW = "; 2 seeds are few: an interval from one degree of freedom is wide, and rests on a normal distribution"
SENTENCES = [
    (2.0, 0.5, 3.5, 5, "In x over 5 seeds, mine is better than pooling by 2.00 points (95 % interval 0.50 to 3.50)."),
    (
        -2.0,
        -3.5,
        -0.5,
        5,
        "In x over 5 seeds, mine is worse than pooling by 2.00 points (95 % interval -3.50 to -0.50).",
    ),
    (
        *(2.0, 0.0, 4.0, 3),
        "In x over 3 seeds, mine is not to be told from pooling (no difference can be told: +2.00 points, 95 % "
        "interval 0.00 to 4.00).",
    ),
    (
        2.0,
        1.0,
        3.0,
        2,
        f"In x over 2 seeds, mine is better than pooling by 2.00 points (95 % interval 1.00 to 3.00){FEW}.",
    ),
    (
        2.0,
        None,
        None,
        1,
        "In x over 1 seed, mine is 2.00 points above pooling, which one seed cannot tell from chance.",
    ),
    (0.0, None, None, 1, "In x over 1 seed, mine is as pooling is, which one seed cannot tell from chance."),
    (
        *(1.0, None, None, 2),
        "In x over 2 seeds, mine is 1.00 points above pooling, which 2 seeds that all say the same cannot tell from "
        "chance.",
    ),
    (
        *(-1.0, None, None, 3),
        "In x over 3 seeds, mine is 1.00 points below pooling, which 3 seeds that all say the same cannot tell from "
        "chance.",
    ),
]


def comparison(mean: float, low: float | None, high: float | None, n: int, needed: int | None = None) -> Comparison:
    return Comparison("mine", "pooling", Difference(mean, low, high, 1.0, n, 2.0), None, None, None, needed)


@pytest.mark.parametrize(("mean", "low", "high", "n", "sentence"), SENTENCES)
def test_the_sentence_says_what_the_interval_does(mean, low, high, n, sentence):
    assert verdict("mine", [comparison(mean, low, high, n)], of="x") == sentence
    if low is None or low <= 0 <= high:
        assert "better" not in sentence
        assert "worse" not in sentence


def test_without_a_common_seed_nothing_is_said_of_the_row():
    assert verdict("mine", [], of="x").startswith("Nothing can be said of mine yet")


def test_further_seeds_are_those_beyond_the_ones_there_are():
    assert "would need 30 seeds more, 34 in all" in further_seeds(comparison(1.0, 0.0, 2.0, 4, 34))
    assert "roughly" in further_seeds(comparison(1.0, 0.0, 2.0, 4, 34))
    assert "would need more than 1,048,576 seeds" in further_seeds(comparison(1.0, -9e5, 9e5, 4, 2**20))
    assert "these are enough" in further_seeds(comparison(1.0, 0.0, 2.0, 9, 6))
    assert "1 seed cannot tell" in further_seeds(comparison(1.0, None, None, 1))


def test_of_few_maps_a_guess_is_not_told_from_an_answer():
    # A guess of 64 maps has a standard error of 6.25 points.
    assert [Cell("a", 8, (0.6,), 0.5, 0.9, maps).level for maps in (64, 1024)] == ["chance", "in part"]


def test_a_profile_is_by_the_worst_seed():
    levels = {(0.9, 0.8): "solved", (0.9, 0.7): "in part", (0.9, 0.29): "chance"}
    assert {scores: Cell("a", 8, scores, 0.25, 0.8, 1024).level for scores in levels} == levels
    cells = [Cell("a", side, (0.9,), 0.25, 0.8, 1024) for side in (8, 16)] + [Cell("b", 8, (0.2,), 0.25, 0.8, 1024)]
    assert profile("mine", cells) == ["mine solves a (8x8, 16x16).", "mine is not told from chance in b (8x8)."]
