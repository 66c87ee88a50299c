"""The texts of `--help` fit their width, and what they hold is still true when pasted."""

import shlex

import pytest

from poolformer.commands.help_text import narrowed, wrapped

COMMAND = """  poolformer plot runs/pooling --metric val/loss --title "Pooling and mine" -- --trainer.max_epochs 3"""


@pytest.mark.parametrize("width", [30, 40, 60, 200])
def test_a_command_says_the_same_in_any_width(width):
    lines = wrapped(COMMAND, width=width).splitlines()
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert all(line.startswith("    ") for line in lines[1:])
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(COMMAND)
    assert any('--title "Pooling and mine"' in line for line in lines)


def test_columns_are_wrapped_under_the_last_with_the_lines_that_went_on():
    text = "  .onnx  for many\n  .pt2   for torch.export.load; or\n         a library"
    assert wrapped(text, width=80) == text
    assert wrapped(text, width=24).splitlines() == [
        "  .onnx  for many",
        "  .pt2   for",
        "         torch.export.load;",
        "         or a library",
    ]


def test_a_usage_beyond_the_terminal_moves_to_the_left():
    usage = "usage: poolformer x [-h]\n                  [--data.train PATH]"
    assert narrowed(usage, width=80) == usage
    assert narrowed(usage, width=30) == "usage: poolformer x [-h]\n    [--data.train PATH]"
