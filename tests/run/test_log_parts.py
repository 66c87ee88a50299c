"""Each part of the log has its switch."""

from typing import get_args

import pytest

from poolformer.option_words import LogPart
from poolformer.run.log_parts import log_callbacks
from poolformer.run.other_weights import WeightsBesideAverages
from poolformer.run.pictures import PICTURES, ValidationPictures
from poolformer.run.training_values import VALUES, TrainingValues


def logged(without) -> set[str]:
    found = set()
    for each in log_callbacks(without):
        if isinstance(each, ValidationPictures):
            found |= set(PICTURES) - each.without
        elif isinstance(each, TrainingValues):
            found |= set(VALUES) - each.without
        else:
            found.add("averages" if isinstance(each, WeightsBesideAverages) else "first_batch")
    return found


@pytest.mark.parametrize("part", get_args(LogPart))
def test_each_part_is_left_out_alone(part):
    assert logged(part) == logged([part]) == set(get_args(LogPart)) - {part}


def test_all_parts_are_there_until_they_are_left_out():
    assert logged(None) == set(get_args(LogPart))
    assert logged("all") == logged(list(get_args(LogPart))) == set()
