"""Differences paired by seed, held against hand calculation and published tables of sample sizes."""

import pytest

from poolformer.ablation.paired import paired_difference, seeds_needed


def test_a_difference_is_of_common_seeds_and_its_interval_students():
    # Differences 1, 2, 3: standard error 1 / sqrt(3), t(0.975, 2) = 4.3027.
    found = paired_difference({0: 11.0, 1: 22.0, 2: 33.0, 7: 5.0}, {0: 10.0, 1: 20.0, 2: 30.0, 8: 1.0})
    assert (found.mean, found.std, found.n) == (2.0, 1.0, 3)
    assert (found.low, found.high) == (pytest.approx(2 - 2.4841, abs=1e-3), pytest.approx(2 + 2.4841, abs=1e-3))
    assert found.error == pytest.approx(0.5774, abs=1e-4)
    assert found.unpaired_error > 10 * found.error


def test_one_pair_has_no_interval_and_none_no_difference():
    one = paired_difference({0: 2.0}, {0: 1.0})
    assert (one.mean, one.low, one.high, one.std, one.error, one.n) == (1.0, None, None, None, None, 1)
    assert paired_difference({0: 2.0}, {1: 1.0}) is None


@pytest.mark.parametrize(("std", "pairs"), [(0.0, 2), (0.5, 10), (1.0, 34), (2.5, 199)])
def test_the_seeds_needed_are_those_of_cohens_tables(std, pairs):
    # G*Power, two-sided paired t test, power .8, alpha .05: d = 1 takes 10, .5 takes 34, .2 takes 199.
    assert seeds_needed(std, difference=0.5) == pairs
