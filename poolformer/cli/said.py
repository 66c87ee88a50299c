"""The words of a command line before a parser reads them: options with their values, and words that stand alone."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..errors import ConfigError

_ALONE = ("-h", "--help", "--print_config", "--print_shtab")
_NUMBER = re.compile(r"-\.?\d")

CONFIG = ("-c", "--config")


class Said(NamedTuple):
    """An option, or a word that stands alone.

    Attributes:
        words: As they stand on the command line: one, or an option and its value.
        option: With its dashes; None for a word that stands alone.
        value: Of the option, behind it or after ``=``; None where there is none. Of a word alone the word.
    """

    words: list[str]
    option: str | None
    value: str | None


def each(arguments: Sequence[str]) -> Iterator[Said]:
    """Yield what a command line says, in its order.

    A word behind an option is that option's value unless it begins as an option does; a negative number does not.

    Example:
        >>> [said.value for said in each(["--lr", "-1", "best.ckpt", "--mixer=pooling", "--help", "dog.jpg"])]
        ['-1', 'best.ckpt', 'pooling', None, 'dog.jpg']
    """
    index = 0
    while index < len(arguments):
        word = arguments[index]
        index += 1
        if not _is_option(word):
            yield Said([word], None, word)
            continue
        option, equals, value = word.partition("=")
        if equals:
            yield Said([word], option, value)
        elif option.startswith(_ALONE) or option.endswith(".help") or not _has_value(arguments[index : index + 1]):
            yield Said([word], option, None)
        else:
            yield Said([word, arguments[index]], option, arguments[index])
            index += 1


def values(arguments: Sequence[str], *options: str) -> list[str]:
    """Return the values of options, in the order in which they stand.

    Args:
        arguments: Of the command line.
        options: With their dashes, spellings of one.
    """
    return [said.value for said in each(arguments) if said.option in options and said.value is not None]


def without_configs(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words of a command line without ``--config``, and what is given there.

    Raises:
        ConfigError: Nothing is given to one.

    Example:
        >>> without_configs(["--config", "s12", "--model.lr", "1"])
        (['--model.lr', '1'], ['s12'])
    """
    flags: list[str] = []
    configs: list[str] = []
    for words, option, value in each(arguments):
        if option not in CONFIG:
            flags += words
        elif value is not None:
            configs.append(value)
        else:
            raise ConfigError(f"{option} needs a file or a name; 'poolformer configs' lists the packaged ones")
    return flags, configs


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-" and not _NUMBER.match(word)


def _has_value(following: Sequence[str]) -> bool:
    return bool(following) and not _is_option(following[0])
