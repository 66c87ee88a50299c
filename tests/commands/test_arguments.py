"""What is wrong with the arguments of a command is said in a line or two."""

import warnings

import pytest

from poolformer import __version__
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


def test_help_wraps_prose_at_the_terminal_s_width_and_leaves_examples(listing, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    _, text, _ = listing("cam", "--help")
    assert max(len(line) for line in text.splitlines() if not line.startswith("  poolformer ")) <= 60
    assert "\n  poolformer cam runs/s12/checkpoints/best.ckpt dog.jpg cat.jpg\n" in text
