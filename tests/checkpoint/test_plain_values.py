"""What a checkpoint may hold: everything of data survives, the rest is named, and nothing stands for billions."""

import collections
import datetime
import enum
import io
import time
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from poolformer.checkpoint.plain_values import NotPlainError, extent, is_bounded, made_plain, said_of, without_weights


class Colour(enum.Enum):
    RED = 1


class Word(str, enum.Enum):
    A = "a"


class Number(enum.IntEnum):
    ONE = 1


class Share(float):
    def __str__(self) -> str:
        return "a share"


class Marked(torch.Tensor): ...


Pair = collections.namedtuple("Pair", "a b")

REPLACED = {
    "float64": (np.float64(0.5), 0.5),
    "float32": (np.float32(0.5), 0.5),
    "integer": (np.int64(3), 3),
    "flag": (np.bool_(True), True),
    "text of NumPy": (np.str_("x"), "x"),
    "array": (np.array([[1, 2]], np.int16), torch.tensor([[1, 2]], dtype=torch.int16)),
    "array of another byte order": (np.array([1.5], ">f4"), torch.tensor([1.5])),
    "array of no axes": (np.array(2.0), torch.tensor(2.0, dtype=torch.float64)),
    "strided array": (np.arange(6)[::-2], torch.tensor([5, 3, 1])),
    "array of texts": (np.array(["a", "b"]), ["a", "b"]),
    "path": (Path("a/b"), "a/b"),
    "path of Windows": (PureWindowsPath("a\\b"), "a\\b"),
    "Enum of texts": (Word.A, "a"),
    "Enum of numbers": (Number.ONE, 1),
    "number of a class": (Share(-0.0), -0.0),
    "defaultdict": (collections.defaultdict(list, a=[1]), {"a": [1]}),
    "deque": (collections.deque([1, Path("x")], 5), [1, "x"]),
    "named tuple": (Pair(1, np.int64(2)), (1, 2)),
    "frozenset": (frozenset([1]), {1}),
    "keys": ({np.int64(3): {Path("x"): 1}, (Path("y"),): 2}, {3: {"x": 1}, ("y",): 2}),
    "tensor of a class": (torch.ones(2).as_subclass(Marked), torch.ones(2)),
}


def read_back(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(("value", "plain"), REPLACED.values(), ids=REPLACED)
def test_what_only_code_could_restore_becomes_its_data(value, plain):
    replaced: dict[tuple[Any, ...], str] = {}
    made = read_back(made_plain({"x": [value]}, replaced=replaced))["x"][0]
    assert type(made) is type(plain)
    assert torch.equal(made, plain) if isinstance(plain, torch.Tensor) else repr(made) == repr(plain)
    assert replaced


KEPT = {
    "texts": ["12:30", "a::b", "\udcff", "", b"x", bytearray(b"y")],
    "numbers": [True, 1, -(2**70), 0.5, float("inf"), 1 + 2j, None],
    "containers": [(), [1], {1: 2}, {1, 2}, collections.OrderedDict(a=1), collections.Counter("aab")],
    "of PyTorch": [torch.Size([1]), torch.float32, torch.device("cpu")],
}


@pytest.mark.parametrize("value", KEPT.values(), ids=KEPT)
def test_plain_data_is_neither_copied_nor_changed(value):
    assert made_plain(value) is value
    assert repr(read_back(value)) == repr(value)


def test_a_state_dict_keeps_its_versions():
    weights = nn.BatchNorm2d(2).state_dict()
    assert made_plain({"state_dict": weights})["state_dict"] is weights
    with_a_path = collections.OrderedDict(weights, extra=Path("x"))
    assert list(made_plain(with_a_path)) == [*weights, "extra"]


def test_an_object_in_two_places_stays_one():
    shared = [Path("x")]
    made = made_plain({"a": shared, "b": [shared]})
    assert made["a"] is made["b"][0]


ENDLESS: list = []
ENDLESS.append(ENDLESS)
DEEP: list = []
for _ in range(200):
    DEEP = [DEEP]
NOT_PLAIN = {
    "a datetime.timedelta": datetime.timedelta(1),
    "a datetime.date": np.datetime64("2026-01-01"),
    f"a {Colour.__module__}.Colour": Colour.RED,
    "an object": object(),
    "a generator": (number for number in []),
    "a range": range(3),
    "the class Colour": Colour,
    "the function test_": lambda: 0,
    "a module": io,
    "an integer of more than 600 digits": 10**700,
    "a numpy.longdouble": np.longdouble(1),
    "an array of float128": np.array([1], np.longdouble),
    "a list that holds itself": ENDLESS,
    "a list that holds itself, or too many within each other": DEEP,
    "a mapping with keys that become one": {Path("x"): 1, "x": 2},
}


@pytest.mark.parametrize(("what", "value"), NOT_PLAIN.items(), ids=NOT_PLAIN)
def test_what_is_no_data_is_named(what, value):
    if what.startswith("the function"):
        what = "the function <lambda>"
    with pytest.raises(NotPlainError) as caught:
        made_plain({"callbacks": {"Mine{'a': 1}": {"key": value}}})
    assert said_of(caught.value).startswith(f"callback Mine keeps {what}")
    assert "could not be read back from a checkpoint" in said_of(caught.value)


PLACES = {
    ("hyper_parameters", "day"): "the model's hyper-parameters hold a X as 'day',",
    ("datamodule_hyper_parameters", "day", 0): "the data module's hyper-parameters hold a X as 'day'[0],",
    ("loops", "fit_loop", "x"): "the state of the loops and loaders holds a X as 'fit_loop'['x'],",
    ("mine",): "the checkpoint's entry 'mine', of callback C, holds a X,",
    ("callbacks", "Mine"): "callback Mine keeps a X,",
}


@pytest.mark.parametrize(("place", "said"), PLACES.items(), ids=map(str, PLACES))
def test_it_is_said_who_holds_it(place, said):
    assert said_of(NotPlainError(place, "a X"), "callback C").startswith(said)


def test_weights_take_no_time_to_write():
    light = without_weights({"a": torch.ones(1000), "b": [nn.Parameter(torch.ones(3)), "x"]})
    assert (light["a"].numel(), light["b"][0].numel(), light["b"][1]) == (0, 0, "x")


def test_values_are_counted_as_often_as_they_are_met():
    shared = [1, 2, 3]
    assert extent([shared, shared])[0] == 1 + 2 * (1 + 3)
    doubled: list = []
    for _ in range(60):
        doubled = [doubled, doubled]
    assert extent(doubled)[0] > 10**18


BOMB: list = []
for _ in range(40):
    BOMB = [BOMB, {"a": BOMB}]


@pytest.mark.parametrize("value", [BOMB, ENDLESS, DEEP, {"a": (1, BOMB)}, {1: ENDLESS}], ids=range(5))
def test_what_stands_for_billions_or_has_no_end_is_not_bounded(value):
    began_s = time.monotonic()
    assert not is_bounded(value)
    assert time.monotonic() - began_s < 1


def test_long_lists_and_ordinary_repetition_are_bounded():
    assert is_bounded([float(number) for number in range(500_000)])
    assert is_bounded([[0.5] * 1000] * 1000)
