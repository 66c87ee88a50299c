"""`poolformer fit --help` and that of the other verbs: what matters first, everything in a group, nothing untrue."""

import contextlib
import io
import os
import re
from functools import cache

import pytest

from poolformer.cli import dispatch as cli
from poolformer.cli import help_page
from poolformer.cli.option_texts import TEXTS
from poolformer.completion import words

WIDTH = 70


@cache
def page(verb: str) -> str:
    shown = io.StringIO()
    os.environ["COLUMNS"] = str(WIDTH)
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        cli.main([verb, "--data", "FolderData", "--help"])
    return shown.getvalue()


@pytest.fixture(autouse=True)
def _width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "")


def options_in(text: str) -> list[str]:
    return re.findall(r"^  (?:-\w.*?, )?(--[\w.]+)", text, re.MULTILINE)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_option_is_listed_once(verb):
    listed = options_in(page(verb).partition("Of training alone")[0])
    named = re.findall(r"--[\w.]+", page(verb).partition("Of training alone")[2].partition("\n\n")[0])
    assert len({*listed, *named}) == len(listed) + len(named)
    # For completion the classes that the options are of are read, and not asked.
    assert {*words.of_a_verb(verb)} - {*listed, *named} == {"--data.shift", "--model.image_size"}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_what_matters_comes_first_and_is_little(verb):
    head, first, _ = re.split(r"^What matters first:\n|\n\nThe network:\n", page(verb), flags=re.MULTILINE)
    wanted = [f"--{name}" for name in help_page.FIRST[verb]]
    assert options_in(first) == wanted
    assert len(wanted) <= 11  # ten, and where the images are
    assert head.startswith(f"usage: poolformer {verb} [--config NAME ...]")


def test_options_that_only_train_are_a_paragraph_elsewhere():
    assert "Of training alone" not in page("fit")
    assert "--model.lr_batch_size" not in options_in(page("validate"))


def test_texts_of_lightning_s_are_without_markup_and_without_other_defaults():
    for verb in cli.VERBS:
        assert not re.search(r"``|:\w+:`|Default: |os\.getcwd|known subclasses", page(verb))
    text = help_page._plain("Runs :paramref:`~lightning.pytorch.Trainer.x` or ``y``. Default: ``None``.")
    assert text == "Runs x or y."


def test_every_text_is_of_an_option_that_there_is():
    listed = {option for verb in cli.VERBS for option in options_in(page(verb))}
    assert {f"--{name}" for name in TEXTS} - listed == set()
    told = " ".join(page("fit").split())
    assert "null for runs/NAME" in told  # default_root_dir: not the current directory
    assert "null for bf16-mixed on a GPU that has it" in told
    assert "auto resumes from last" in told


def test_lines_are_as_wide_as_the_terminal():
    long = [line for line in page("fit").splitlines() if len(line) > WIDTH]
    assert [line for line in long if not line.startswith("  --")] == []
    assert len(page("fit").splitlines()) > 250  # it wraps


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (int | None, "N|null"),
        (int | float, "NUMBER"),
        (bool | None, "true|false|null"),
        (str | list[str] | None, "TEXT|[...]|null"),
        (tuple[float, float], "[...]"),
        (dict[str, int], "{...}"),
        (None, "VALUE"),
    ],
    ids=str,
)
def test_what_an_option_takes_is_said_in_words(kind, shown):
    assert help_page._metavar("data.x", kind) == (shown, [])


def test_defaults_are_shown_as_a_configuration_has_them():
    values = [None, True, 1e-6, {"name": "pooling"}, (0.5, 1), "adamw"]
    assert [help_page._shown(value) for value in values] == [
        *("null", "true", "1e-06", "{name: pooling}", "[0.5, 1]", "adamw"),
    ]


def test_the_usage_is_no_wider_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = help_page.page("predict", [], [], description="", about_data="").partition("\n\n")[0].splitlines()
    assert max(map(len, lines)) <= 60
    assert " ".join(" ".join(lines).split()).endswith("[--config NAME ...] [--OPTION VALUE ...] [IMAGE ...]")
