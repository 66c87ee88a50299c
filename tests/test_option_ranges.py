"""A number out of its range is answered with what the option expects."""

import math

import pytest

from poolformer.errors import ConfigError
from poolformer.option_ranges import (
    ABOVE_0,
    COUNT,
    IMAGES,
    MAX_IMAGE_SIZE,
    MODEL,
    SHARE,
    SIDE,
    TRAINER,
    check,
    check_images,
    check_seed,
    check_trainer,
)

IMAGE_OPTIONS = {"batch_size": 2, "image_size": 8, "scale": (0.1, 1.0), "ratio": [0.75, 1.33]}


@pytest.mark.parametrize(
    ("limits", "inside", "outside"),
    [
        (SHARE, [0, 0.5, 1], [-0.1, 1.1, math.nan, math.inf]),
        (ABOVE_0, [1e-9, 5], [0, -1, math.inf]),
        (COUNT, [1, 2], [0]),
        (SIDE, [1, MAX_IMAGE_SIZE], [0, MAX_IMAGE_SIZE + 1]),
    ],
)
def test_a_range_holds_its_numbers_and_no_others(limits, inside, outside):
    assert all(number in limits for number in inside)
    assert not any(number in limits for number in outside)


@pytest.mark.parametrize(("name", "value"), [("lr", -1), ("drop_path_rate", 1), ("std", (0.2, 0.0, 0.1))])
def test_the_option_its_value_and_its_range_are_said(name, value):
    written = list(value) if isinstance(value, tuple) else value
    with pytest.raises(ConfigError) as caught:
        check("model", {name: value}, MODEL)
    assert str(caught.value) == f"--model.{name} got '{written}', but expects {MODEL[name].words}"


def test_what_is_null_or_no_number_is_not_looked_at():
    check("model", {"lr": None, "mixup": "text"}, MODEL)


def test_no_limit_is_a_number_of_the_trainer_s():
    check_trainer({"max_epochs": -1, "max_steps": -1})
    with pytest.raises(ConfigError, match=r"--trainer\.max_epochs got '0'"):
        check_trainer({"max_epochs": 0})


@pytest.mark.parametrize("value", [0.5, 1.0, 3])
def test_a_share_or_a_number_of_batches_is_taken(value):
    check_trainer({"limit_val_batches": value})


def test_a_share_above_one_is_refused():
    with pytest.raises(ConfigError, match="expects a share from 0 to 1 or a number of batches"):
        check_trainer({"limit_val_batches": 1.5})


@pytest.mark.parametrize("seed", [-1, 2**32, True])
def test_a_seed_has_32_bits(seed):
    with pytest.raises(ConfigError, match="--seed_everything got"):
        check_seed(seed)
    check_seed(2**32 - 1)
    check_seed(None)


def test_two_numbers_come_with_the_smaller_first():
    check_images(IMAGE_OPTIONS)
    with pytest.raises(ConfigError, match=r"--data\.scale got '\[1\.0, 0\.1\]', but expects two numbers above 0"):
        check_images({**IMAGE_OPTIONS, "scale": (1.0, 0.1)})


def test_the_tables_are_of_numbers():
    assert all(limits.words for table in (MODEL, IMAGES, TRAINER) for limits in table.values())
