"""One reading of the command line's words, for all that looks at them before the parser."""

import pytest

from poolformer.cli import said
from poolformer.errors import ConfigError

LINES = {
    "": [],
    "best.ckpt": [(None, "best.ckpt")],
    "--lr 1 a": [("--lr", "1"), (None, "a")],
    "--lr=1 a": [("--lr", "1"), (None, "a")],
    "--lr= a": [("--lr", ""), (None, "a")],
    "--lr -1e-3 -2": [("--lr", "-1e-3"), (None, "-2")],
    "--lr --mixer pooling": [("--lr", None), ("--mixer", "pooling")],
    "--config - fit": [("--config", "-"), (None, "fit")],
    "-c s12 -h a": [("-c", "s12"), ("-h", None), (None, "a")],
    "--print_config=skip_null a": [("--print_config", "skip_null"), (None, "a")],
    "--print_config a": [("--print_config", None), (None, "a")],
    "--data.help FolderData": [("--data.help", None), (None, "FolderData")],
    "--lr": [("--lr", None)],
}


@pytest.mark.parametrize("line", LINES)
def test_each_option_has_its_value_and_each_other_word_stands_alone(line):
    found = list(said.each(line.split()))
    assert [(one.option, one.value) for one in found] == LINES[line]
    assert [word for one in found for word in one.words] == line.split()  # nothing is lost


def test_values_are_those_of_any_spelling_in_their_order():
    line = "-c a --config=b --model.lr 1 --config c --config"
    assert said.values(line.split(), *said.CONFIG) == ["a", "b", "c"]


def test_configurations_are_taken_out_of_the_other_words():
    words = ["dog.jpg", "--config", "a", "--lr", "1", "-c=b", "--x"]
    assert said.without_configs(words) == (["dog.jpg", "--lr", "1", "--x"], ["a", "b"])


@pytest.mark.parametrize("words", [["--config"], ["-c", "--lr"]])
def test_a_configuration_without_a_name_is_refused(words):
    with pytest.raises(ConfigError, match=rf"^{words[0]} needs a file or a name"):
        said.without_configs(words)
