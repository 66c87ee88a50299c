"""Curves of several seeds brought together."""

import math

from poolformer.plots.spread import Band, spread, thinned, whole


def test_a_band_goes_from_the_lowest_to_the_highest_seed_and_counts_them():
    bands = spread([[(1, 0.25), (2, 0.5)], [(1, 0.75), (2, math.nan), (3, 1.0)]])
    assert bands == [Band(1, 0.25, 0.5, 0.75, 2), Band(2, 0.5, 0.5, 0.5, 1), Band(3, 1.0, 1.0, 1.0, 1)]
    assert whole(bands, 2) == bands[:1]
    assert spread([]) == spread([[]]) == []


def test_long_curves_become_means_over_the_same_parts_of_the_axis():
    long = [(step, float(step % 2)) for step in range(1, 1001)]
    (first, second), are_means = thinned([[long], [long[500:]]], most=10)
    assert are_means
    assert [value for _, value in first[0]] == [0.5] * 10
    assert [x for x, _ in second[0]] == [x for x, _ in first[0]][5:]
    assert thinned([[long[:10]], []], most=10) == ([[long[:10]], []], False)
