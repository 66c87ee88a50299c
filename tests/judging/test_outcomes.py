"""Outcomes of cells are brought together by seed, at the end and at a share of the training."""

import pytest

from poolformer.judging.outcomes import Outcome, Point, at_share, by_seed, by_seed_at

CURVE = (Point(0.25, 0.1), Point(0.5, 0.2), Point(1.0, 0.6))


def outcome(seed: int, measure: str, score: float, curve: tuple[Point, ...] = ()) -> Outcome:
    return Outcome("mine", measure, seed, score, curve, 1.0, 10, 100, 50.0)


def test_a_row_has_the_mean_of_its_measures_by_seed_and_no_seed_with_gaps():
    outcomes = [outcome(0, "a", 0.2), outcome(0, "b", 0.6), outcome(1, "a", 0.5)]
    assert by_seed(outcomes, "mine") == {0: pytest.approx(0.4)}
    assert by_seed(outcomes, "other") == {}


def test_a_share_of_the_training_is_looked_up_between_evaluations_and_not_before_the_first():
    assert at_share(CURVE, 0.75, last=0.6) == pytest.approx(0.4)
    assert at_share(CURVE, 0.2, last=0.6) is None
    assert at_share((), 1.0, last=0.6) == 0.6
    outcomes = [outcome(0, "a", 0.6, CURVE), outcome(0, "b", 0.6, CURVE)]
    assert by_seed_at(outcomes, "mine", {"a": 0.75, "b": 1.0}) == {0: pytest.approx(0.5)}
    assert by_seed_at(outcomes, "mine", {"a": 0.1, "b": 1.0}) == {}
