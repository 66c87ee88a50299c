"""Curves of several seeds brought together."""

import math

from poolformer.plots.spread import Band, spread, whole


def test_a_band_goes_from_the_lowest_to_the_highest_seed_and_counts_them():
    bands = spread([[(1, 0.25), (2, 0.5)], [(1, 0.75), (2, math.nan), (3, 1.0)]])
    assert bands == [Band(1, 0.25, 0.5, 0.75, 2), Band(2, 0.5, 0.5, 0.5, 1), Band(3, 1.0, 1.0, 1.0, 1)]
    assert whole(bands, 2) == bands[:1]
    assert spread([]) == spread([[]]) == []
