"""What is wrong with the arguments of a command is said in a line or two."""

import warnings

import pytest

from poolformer import __version__
from poolformer.cli.dispatch import COMMANDS
from poolformer.registry import DISTRIBUTION

OURS = f"{DISTRIBUTION} {__version__}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mixers", "poling"], "no token mixer is called 'poling'. Did you mean 'pooling'? "),
        (["models", "poolformer_s11"], "no backbone is called 'poolformer_s11'. Did you mean 'poolformer_s12'"),
        pytest.param(
            ["models", "timm/resnet81"],
            "no model 'resnet81'. Did you mean 'resnet18'",
            marks=[
                pytest.mark.slow,  # imports timm
            ],
        ),
    ],
)
def test_an_unknown_name_is_one_line_with_the_nearest(listing, arguments, message):
    code, out, err = listing(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_command_s_warnings_are_a_line(listing, monkeypatch):
    def warn(argv: list[str]) -> int:
        print(warnings.formatwarning("it differs", UserWarning, "some.py", 1, "rank_zero_warn(it)"))
        return 0

    before = warnings.formatwarning
    monkeypatch.setattr("poolformer.commands.configs.main", warn)
    assert listing("configs")[1] == "warning: it differs\n\n"
    assert warnings.formatwarning is before


@pytest.mark.parametrize("command", ["models", "mixers", "configs"])
def test_an_unknown_option_is_two_lines_and_code_2(listing, command):
    code, out, err = listing(command, "--no-such-option")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == f"poolformer {command}: error: unrecognized arguments: --no-such-option"
    assert len(err.splitlines()) <= 3


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_is_as_wide_as_the_terminal(listing, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "60")
    _, text, _ = listing(command, "--help")
    assert max(map(len, text.splitlines())) <= 60


def test_an_example_too_wide_is_continued_as_a_shell_has_it(listing, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    _, text, _ = listing("cam", "--help")
    assert "\n  poolformer cam runs/s12/checkpoints/best.ckpt dog.jpg \\\n    cat.jpg\n" in text
    assert "dog.jpg \\\n    --beside runs/deit/checkpoints/best.ckpt \\\n    --class terrier\n" in text
