"""A value in a printed command comes back from a shell as it was."""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

from poolformer.files.shell import program, quoted


@pytest.mark.parametrize("text", ["runs/digits", "my run", "it's", "$HOME;rm", "", "é\n"])
def test_a_text_is_one_word(text):
    assert shlex.split(quoted(text)) == [text]


@pytest.mark.parametrize("value", [3, 0.5, None, True, ["a b", 1], {"name": "pooling", "pool_size": 5}])
def test_a_value_is_one_word_of_json(value):
    (word,) = shlex.split(quoted(value))
    assert json.loads(word) == value


def test_a_path_does_not_become_an_option():
    assert quoted(Path("-x/run")) == "./-x/run"


@pytest.fixture
def environment(tmp_path, monkeypatch) -> Path:
    """The folder of scripts of an environment in the current directory, which is not active."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "tool").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    return folder


def test_a_program_is_its_path_where_the_shell_does_not_find_it(environment, tmp_path, monkeypatch):
    assert program("tool") == ".venv/bin/tool"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert program("tool") == str(environment / "tool")
    monkeypatch.setenv("PATH", os.pathsep.join([str(environment), os.environ["PATH"]]))
    assert program("tool") == "tool"


def test_another_environments_program_of_the_name_is_not_taken_for_it(environment, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "tool").touch(mode=0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(other), os.environ["PATH"]]))
    assert program("tool") == ".venv/bin/tool"


def test_a_program_that_is_nowhere_keeps_its_name(environment):
    assert program("none-of-it") == "none-of-it"
