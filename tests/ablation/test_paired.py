"""Paired differences, seeds and rank correlations, against closed forms and scipy."""

import numpy as np
import pytest
from scipy import stats

from poolformer.ablation.paired import like_the_paper, paired_difference, seeds_needed


def test_a_row_ahead_in_each_seed_is_ahead_though_seeds_move_both():
    found = paired_difference({0: 56.15, 1: 42.29}, {0: 52.05, 1: 39.06})
    # Two differences d and e: mean (d + e) / 2, standard error |d - e| / 2, and t(1 degree) at 97.5 % is 12.706.
    assert (found.mean, found.n) == (pytest.approx((4.10 + 3.23) / 2), 2)
    assert found.error == pytest.approx((4.10 - 3.23) / 2)
    assert found.high - found.mean == pytest.approx(12.706 * found.error, rel=1e-4)
    assert found.unpaired_error == pytest.approx(9.49, abs=0.01)


def test_the_interval_is_that_of_scipy_over_the_seeds_that_both_have():
    ours, base = {0: 3.0, 1: 5.5, 2: 4.0, 7: 9.0}, {2: 3.0, 1: 4.0, 0: 2.5, 9: 1.0}
    found = paired_difference(ours, base)
    test = stats.ttest_rel([3.0, 5.5, 4.0], [2.5, 4.0, 3.0])
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_seeds_that_differ_by_the_same_have_no_interval_of_no_width():
    # Of 360 images, in percent: a spread of 0 is one that so few images do not show.
    found = paired_difference({0: 100 * 355 / 360, 1: 100 * 351 / 360}, {0: 100 * 354 / 360, 1: 100 * 350 / 360})
    assert (found.mean, found.low, found.high, found.std, found.n) == (pytest.approx(100 / 360), None, None, 0, 2)


def test_of_one_seed_there_is_no_interval_and_of_none_in_common_no_difference():
    one = paired_difference({0: 3.0}, {0: 2.0, 1: 9.0})
    assert (one.mean, one.low, one.high, one.std, one.error, one.n) == (1.0, None, None, None, None, 1)
    assert paired_difference({0: 3.0}, {1: 2.0}) is None


@pytest.mark.slow
def test_the_interval_holds_the_difference_in_95_of_100_experiments():
    draws = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        seed = draws.normal(0, 10, 3)  # moves both rows
        base, ours = seed + draws.normal(0, 1, 3), seed + 0.5 + draws.normal(0, 1, 3)
        found = paired_difference(dict(enumerate(ours)), dict(enumerate(base)))
        held += found.low <= 0.5 <= found.high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)  # three standard errors


# G*Power 3.1 and statsmodels' TTestPower: effect 1 needs 10 pairs, .5 34, .8 15, .2 199.
@pytest.mark.parametrize(("std", "n"), [(0.5, 10), (1.0, 34), (0.625, 15), (2.5, 199), (0.0, 2), (1e-9, 2)])
def test_seeds_needed_are_those_of_the_tables(std, n):
    assert seeds_needed(std, difference=0.5) == n


def by_seed(*means: float) -> dict[str, dict[int, float]]:
    return {str(index): {0: mean - 1, 1: mean + 1} for index, mean in enumerate(means)}


def test_pairs_that_the_paper_ties_are_not_counted():
    found = like_the_paper({"0": 74.3, "1": 77.2, "2": 77.2, "3": 78.1, "lost": 1.0}, by_seed(1, 4, 3, 2))
    assert (found.rows, found.pairs_right, found.pairs) == (4, 3, 5)
    assert found.rho == pytest.approx(stats.spearmanr([1, 2.5, 2.5, 4], [1, 4, 3, 2]).statistic)


@pytest.mark.slow
def test_the_interval_of_a_rank_correlation_is_bonett_and_wright_s():
    paper = {str(index): float(index) for index in range(10)}
    found = like_the_paper(paper, by_seed(1, 0, 3, 2, 5, 4, 7, 6, 9, 8))
    # rho = 1 - 6 * 10 / 990; z = atanh(rho), half = 1.96 * sqrt((1 + rho ** 2 / 2) / 7)
    assert (found.rho, found.low, found.high) == pytest.approx((0.93939, 0.68768, 0.98950), abs=1e-5)


def test_full_agreement_of_few_rows_proves_little():
    found = like_the_paper({str(index): float(index) for index in range(4)}, by_seed(1, 2, 3, 4))
    assert found.rho == pytest.approx(1)
    assert found.low < 0
    assert found.high >= found.rho
    assert like_the_paper({"0": 1.0, "1": 2.0}, by_seed(1, 2)) is None
