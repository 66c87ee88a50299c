"""A value in a printed command comes back from a shell as it was."""

import json
import shlex
from pathlib import Path

import pytest

from poolformer.files.shell import quoted


@pytest.mark.parametrize("text", ["runs/digits", "my run", "it's", "$HOME;rm", "", "é\n"])
def test_a_text_is_one_word(text):
    assert shlex.split(quoted(text)) == [text]


@pytest.mark.parametrize("value", [3, 0.5, None, True, ["a b", 1], {"name": "pooling", "pool_size": 5}])
def test_a_value_is_one_word_of_json(value):
    (word,) = shlex.split(quoted(value))
    assert json.loads(word) == value


def test_a_path_does_not_become_an_option():
    assert quoted(Path("-x/run")) == "./-x/run"
