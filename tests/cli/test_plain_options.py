"""Options of somebody's classes as a file can hold them."""

import math
from enum import Enum, IntEnum

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from poolformer.cli.parser import Parser
from poolformer.cli.plain_options import as_text, without_objects

CPU = torch.device("cpu")
TEXTS = ["1e-3", "12e5", "1_0e5", "1.5e3", "1.e3", "+1e3", "1E+5", "yes", "null", "0x10", "2026-11-30", "a: b"]


class Mode(str, Enum):
    FAST = "quickly"


class Level(IntEnum):
    HIGH = 3


class Colour(Enum):
    RED = 1


class Owner:
    """Somebody's class, whose defaults are of other types than its options."""

    def __init__(
        self,
        text: str = Mode.FAST,
        number: int = Level.HIGH,  # type: ignore[assignment]
        rate: float = np.float64(0.5),
        mode: Mode = Mode.FAST,
        colour: Colour = Colour.RED,
        device: torch.device = CPU,
        commit: str = "12e5",
        limit: float = math.inf,
        pattern: object = object(),
    ):
        self.said = (text, number, rate, mode, colour, device, commit, limit)


def parser() -> Parser:
    made = Parser(exit_on_error=False)
    made.add_class_arguments(Owner, "owner")
    return made


def test_defaults_of_any_type_are_written_and_read_as_they_are():
    dumped = parser().dump(parser().get_defaults())
    again = parser().instantiate_classes(parser().parse_string(dumped)).owner
    assert again.said == Owner().said
    assert "pattern" not in dumped


@pytest.mark.parametrize(
    "text", ["1e-3", "12e5", "1_0e5", "1.5e3", "1.e3", "+1e3", "1E+5", "yes", "null", "0x10", "a: b"]
)
@pytest.mark.parametrize("in_one_line", [True, False])
def test_a_text_stays_one(text, in_one_line):
    made = ArgumentParser(exit_on_error=False)
    made.add_argument("--words", type=dict[str, str])
    dumped = as_text({"words": {"a": text}}, in_one_line=in_one_line)
    assert made.parse_string(dumped).words == {"a": text}
    assert yaml.safe_load(dumped) == {"words": {"a": text}}


@pytest.mark.parametrize("number", [math.inf, -math.inf, 1e-3, 1e300, 5e-324, 3, True])
def test_a_number_stays_one(number):
    made = ArgumentParser(exit_on_error=False)
    made.add_argument("--number", type=float | bool)
    assert made.parse_string(as_text({"number": number}, in_one_line=True)).number == number


def test_one_line_is_one():
    assert as_text({"a": ["b" * 200] * 9, "c": {"d": "e " * 200}}, in_one_line=True).count("\n") == 1


def test_what_no_text_can_stand_for_is_left_out():
    dumped = yaml.safe_dump({"a": 1, "b": {"c": "Unable to serialize instance <object>", "d": [2]}})
    assert yaml.safe_load(without_objects(dumped)) == {"a": 1, "b": {"d": [2]}}


def test_other_options_stay_as_they_were_written():
    assert without_objects("a:   1  # kept\n") == "a:   1  # kept\n"
