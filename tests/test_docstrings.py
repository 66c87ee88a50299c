"""The examples in docstrings: each prints what it shows."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import poolformer

ROOT = Path(poolformer.__file__).parent
EXAMPLES = {
    ".".join(["poolformer", *file.relative_to(ROOT).with_suffix("").parts]): count
    for file in sorted(ROOT.rglob("*.py"))
    if (count := file.read_text(encoding="utf-8").count(">>> "))
}


def test_there_are_examples():
    assert "poolformer.recipe" in EXAMPLES


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_print_what_they_show(module):
    result = doctest.testmod(import_module(module))
    assert (result.failed, result.attempted) == (0, EXAMPLES[module])
