"""Options of somebody's classes as a file can hold them."""

from enum import Enum

import torch
import yaml
from jsonargparse import Namespace

from poolformer.cli.plain_options import make_plain, without_objects


class Mode(str, Enum):
    FAST = "fast"


def test_enums_of_texts_and_devices_become_their_texts():
    options = Namespace(mode=Mode.FAST, inner=Namespace(device=torch.device("cpu")), many=[Mode.FAST, 3], number=1)
    make_plain(options)
    assert options.mode == "fast"
    assert type(options.mode) is str
    assert (options.inner.device, options.many, options.number) == ("cpu", ["fast", 3], 1)


def test_what_no_text_can_stand_for_is_left_out():
    dumped = yaml.safe_dump({"a": 1, "b": {"c": "Unable to serialize instance <object>", "d": [2]}})
    assert yaml.safe_load(without_objects(dumped)) == {"a": 1, "b": {"d": [2]}}


def test_other_options_stay_as_they_were_written():
    assert without_objects("a:   1  # kept\n") == "a:   1  # kept\n"
