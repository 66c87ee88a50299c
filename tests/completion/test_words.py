"""What can be completed is what there is: options as the help of each command has them."""

import re

import pytest

from poolformer.cli import dispatch as cli
from poolformer.completion import words


@pytest.mark.parametrize("command", [name for name in cli.COMMANDS if name != "bench"])
def test_the_options_of_a_command_are_those_of_its_help(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    text = capsys.readouterr().out.partition("\noptions:")[2]
    of_its_help = set(re.findall(r"^  (?:-\w, |-\w \w+, )?(--[\w.-]+)", text, re.MULTILINE))
    assert set(words.of_a_command(cli.COMMANDS[command][0])) == of_its_help


def test_the_options_of_bench_are_those_of_its_subjects():
    assert {"--others", "--precision", "--rounds", "--parts"} <= set(words.of_a_command("bench.command"))


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_options_of_a_verb_are_those_that_the_command_line_takes(verb):
    found = set(words.of_a_verb(verb))
    some = {"--config", "--model.lr", "--model.mixer", "--data.train", "--trainer.max_epochs", "--data.shift", "--help"}
    assert some <= found
    assert ("--verbose" in found) == (verb in ("validate", "test"))
    assert ("--return_predictions" in found) == (verb == "predict")


def test_names_are_those_of_the_packages_that_are_installed(fake_plugin):
    fake_plugin(entry_points={"poolformer.mixers": {"mine": "mine:Net"}})
    values = words.values()
    assert {"mine", "pooling"} <= set(values["--model.mixer"])
    assert "poolformer_s12" in values["--model.backbone"]
    assert {"s12", "ablation/identity"} <= set(values["--config"])
    assert words.behind_a_command(values)["mixers"] == values["--model.mixer"]
    assert {*words.behind_a_command(values)} <= {*cli.COMMANDS}
