"""The small figures of a page: levels that are what they say, and curves that are all there."""

import math
import re

import pytest

from poolformer.judging.svg import _ticks, bars, curves


@pytest.mark.parametrize(
    ("scores", "ticks"),
    [
        ([0.476, 0.97], [0.4, 0.6, 0.8, 1.0]),
        ([0.13, 0.2], [0.12, 0.14, 0.16, 0.18, 0.2]),
        ([0.1, 1.0], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([0.5], [0.5, 0.505]),
        ([], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_an_axis_has_a_few_round_levels_around_all_scores(scores, ticks):
    assert _ticks(scores) == pytest.approx(ticks)


def test_curves_have_a_line_for_each_row_and_a_band_where_there_are_seeds():
    rows = [[[(0.5, 0.2), (1.0, 0.4)], [(0.5, 0.3), (1.0, 0.5)]], [[(0.5, 0.1), (1.0, math.nan)]], []]
    drawn = curves("<copy>", rows).inline()
    assert re.findall(r"<poly\w+ class=\"([^\"]+)", drawn) == ["spread c0", "c0 curve", "c1 curve"]
    assert "&lt;copy&gt;" in drawn
    assert [text for text in re.findall(r">([\d.]+)</text>", drawn) if text not in ("0", "50")] == [
        "10",
        "20",
        "30",
        "40",
    ]


def test_bars_have_a_whisker_where_there_are_seeds():
    drawn = bars("order", {"6x6": [(0.5, 0.7), (0.9,), ()]}, chance=0.5, solved=0.9).drawing
    assert drawn.count("<rect") == 2
    assert drawn.count("whisker") == 1
