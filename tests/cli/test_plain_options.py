"""Options of somebody's classes as a file can hold them."""

import math
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import Callback

from poolformer.cli.parser import Parser
from poolformer.cli.plain_options import as_text, in_one_line, readable

CPU, ANY = torch.device("cpu"), object()
TEXTS = ["1e-3", "12e5", "1_0e5", "1.5e3", "1.e3", "+1e3", "1E+5", "._0", "yes", "null", "0x10", "2026-11-30", "a: b"]


class Mode(str, Enum):
    FAST = "quickly"


class Level(IntEnum):
    HIGH = 3


class Colour(Enum):
    RED = 1


class Odd(Callback):
    """Somebody's callback, whose defaults are of other types than its options, or in no text at all."""

    def __init__(
        self,
        text: str = Mode.FAST,
        number: int = Level.HIGH,
        rate: float = np.float64(0.5),
        ratio: Any = Colour.RED,
        colours: list = [Colour.RED],  # noqa: B006
        pattern: object = ANY,
        several: list = [ANY],  # noqa: B006
        layer: Any = torch.nn.ReLU,
    ):
        self.said = (text, number, rate, ratio, colours, pattern, several, layer)


class Sound(Callback):
    """Another's, whose defaults a file can hold."""

    def __init__(
        self,
        colour: Colour = Colour.RED,
        device: torch.device = CPU,
        commit: str = "12e5",
        limit: float = math.inf,
        sides: tuple[int, int] = (3, 4),
    ):
        self.said = (colour, device, commit, limit, sides)


def parser() -> Parser:
    made = Parser(exit_on_error=False)
    made.add_argument("--callbacks", type=list[Callback])
    return made


@pytest.mark.parametrize(("kind", "written"), [(Odd, 0), (Sound, 5)])
def test_a_class_is_built_with_the_same_defaults_when_it_was_written_and_read(kind, written):
    options = parser().parse_object({"callbacks": [{"class_path": f"{kind.__module__}.{kind.__qualname__}"}]})
    dumped = parser().dump(options)
    assert len(yaml.safe_load(dumped)["callbacks"][0].get("init_args") or {}) == written
    [again] = parser().instantiate_classes(parser().parse_string(dumped)).callbacks
    assert again.said == kind().said
    assert list(map(type, again.said)) == list(map(type, kind().said))


def test_what_is_given_is_written():
    given = {"class_path": f"{Odd.__module__}.Odd", "init_args": {"text": "1e-3", "number": 4}}
    options = parser().parse_object({"callbacks": [given]})
    assert yaml.safe_load(parser().dump(options))["callbacks"] == [given]
    assert len(vars(options.callbacks[0].init_args)) > 2  # it is left out of a copy


def test_of_what_is_no_class_here_nothing_is_left_out():
    options = Namespace(a=ANY, b=Namespace(class_path="no.such.Class", init_args=Namespace(c=ANY)))
    assert readable(options) == options


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("write", [as_text, in_one_line])
def test_a_text_stays_one(text, write):
    made = ArgumentParser(exit_on_error=False)
    made.add_argument("--words", type=dict[str, str])
    dumped = write({"words": {"a": text}})
    assert made.parse_string(dumped).words == {"a": text}
    assert yaml.safe_load(dumped) == {"words": {"a": text}}


@pytest.mark.parametrize("number", [math.inf, -math.inf, 1e-3, 1e300, 5e-324, 3, True])
@pytest.mark.parametrize("write", [as_text, in_one_line])
def test_a_number_stays_one(number, write):
    made = ArgumentParser(exit_on_error=False)
    made.add_argument("--number", type=float | bool)
    assert made.parse_string(write({"number": number})).number == number


@pytest.mark.parametrize("text", ["b" * 500, "e " * 300, "a\nb", "\u2028\x85\ufeff", 'quo"te\\', "ü"])
def test_one_line_is_one_and_says_the_same(text):
    line = in_one_line({"a": [text] * 2, "c": {text: 1}})
    assert len(line.splitlines()) == 1
    assert yaml.safe_load(line) == {"a": [text] * 2, "c": {text: 1}}


def test_what_stands_twice_is_written_twice():
    same = {"b": 1}
    assert as_text({"x": same, "y": same}) == "x:\n  b: 1\ny:\n  b: 1\n"
