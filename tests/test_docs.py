"""The documents say what is there: commands and options that exist, links and paths that lead somewhere."""

import contextlib
import io
import itertools
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from test_imports import LAYERS

from poolformer.cli.dispatch import COMMANDS, VERBS, main

ROOT = Path(__file__).parent.parent
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [
        *ROOT.glob("*.md"),
        *(p for f in ("docs", "configs", "data", "plugins") for p in ROOT.glob(f"{f}/**/*.md")),
    ]
}
# Where a path in the text that begins with one of these has to be in the repository.
FOLDERS = ("poolformer", "tests", "plugins", "configs", "docs")


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each ``poolformer ...`` in blocks, indented or fenced, and in running text."""
    blocks = re.sub(r"\\\n\s*", "", text)
    spans = re.findall(r"`(poolformer [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in [*re.findall(r"^(?: {4})?(?:\.venv/bin/)?(poolformer .+)$", blocks, re.MULTILINE), *spans]:
        yield shlex.split(line)[1:]


def asked(words: list[str]) -> str:
    return " ".join(words[:2]) if words[0] == "bench" and len(words) > 1 else words[0]


DOCUMENTED = [(name, words) for name, text in DOCUMENTS.items() for words in commands(text)]


@cache
def options_of(command: str) -> set[str]:
    """Read from a command's help which options it has."""
    data = ["--data", "FolderData"] if command in VERBS else []
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([*command.split(), *data, "--help"])
    return set(re.findall(r"(?<![\w-])--?[a-z][\w.]*\+?", shown.getvalue()))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_documented_command_exists(name):
    unknown = [words for document, words in DOCUMENTED if document == name and words[0] not in {*VERBS, *COMMANDS}]
    assert unknown == []


@pytest.mark.parametrize("command", sorted({asked(words) for _, words in DOCUMENTED} - {"bench"}))
def test_every_documented_option_exists(command):
    wrong = []
    for name, words in DOCUMENTED:
        own, _, of_fits = " ".join(words).partition(" -- ")
        if "my_data.MyData" in words:  # run by tests/cli/test_user_classes.py, where that class is
            continue
        checked = [(command, own)] * (asked(words) == command) + [("fit", of_fits)] * (command == "ablate")
        for of, text in checked:
            flags = re.findall(r"(?<!\S)--[a-z][\w.+]*", text)
            wrong += [f"{name}: {of} {flag}" for flag in flags if not is_one_of(options_of(of), flag)]
    assert wrong == []


def is_one_of(options: set[str], flag: str) -> bool:
    # What a mixer or a callback takes is not in the help: --model.mixer.pool_size.
    return flag in options or any(flag.startswith(f"{option}.") for option in options if option.count(".") == 1)


def test_an_option_that_does_not_exist_is_found():
    assert not is_one_of({"--model.mixer", "--config"}, "--model.mixers")
    assert not is_one_of({"--model.mixer", "--config"}, "--config.file")
    assert is_one_of({"--model.mixer", "--config"}, "--model.mixer.pool_size")


def test_contributing_lists_the_layers_in_their_order():
    rows = re.findall(r"^\| (`.+?) \|", DOCUMENTS["CONTRIBUTING.md"], re.MULTILINE)
    places = {
        name.removesuffix("/").removesuffix(".py").replace("/", "."): place
        for place, row in enumerate(rows)
        for name in re.findall(r"`([\w./]+)`", row)
    }
    listed = {name for layer in LAYERS for name in layer} - {"__main__"}
    assert set(places) == listed, "the table in CONTRIBUTING.md has the names of LAYERS"
    order = [[places[name] for name in layer if name != "__main__"] for layer in reversed(LAYERS)]
    assert all(max(below) <= min(above) for below, above in itertools.pairwise(order))


LINKS = [
    (name, target) for name, text in DOCUMENTS.items() for target in re.findall(r"\]\((?!http|mailto)([^)\s]+)\)", text)
]


@pytest.mark.parametrize(("document", "target"), LINKS)
def test_every_link_leads_to_a_file_and_a_heading(document, target):
    path, _, anchor = target.partition("#")
    file = (ROOT / document).parent / path if path else ROOT / document
    assert file.exists()
    if anchor:
        headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if not name.startswith("plugins/")])
def test_every_path_of_the_repository_exists(document):
    text = re.sub(r"```.*?```", "", DOCUMENTS[document], flags=re.DOTALL)
    paths = re.findall(rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./-]*[\w/])", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
