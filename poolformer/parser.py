"""The option parser of the trainer's verbs: LightningCLI's, with mistakes answered in one line."""

import inspect
import re
from typing import NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from . import data
from .errors import ConfigError
from .registry import suggestion


class Parser(LightningArgumentParser):
    """Raises `ConfigError` where jsonargparse prints sixty lines of usage and leaves."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong with the options in the words of the person at the terminal."""
        if not self.exit_on_error:
            super().error(message, ex)
        message = " ".join(message.split())
        raise ConfigError(self._unknown_option(message) or _wrong_value(message) or message) from ex

    def _unknown_option(self, message: str) -> str | None:
        found = re.search(r"unrecognized arguments: -*([\w.]+)|Option '([\w.]+)' is not accepted", message)
        if found is None:
            return None
        name, known = found[1] or found[2], [action.dest for action in self._actions]
        if inside := re.search(r"class_path '[\w.]+\.(\w+)'.*Option", message):
            name, known = f"data.{name}", _data_options(inside[1])
        return f"there is no option '{name}'.{suggestion(name, known)} '--help' lists them."


def _data_options(class_name: str) -> list[str]:
    data_class = getattr(data, class_name, None)
    return [f"data.{name}" for name in inspect.signature(data_class).parameters] if data_class else []


def _wrong_value(message: str) -> str | None:
    found = re.search(r'Parser key "(?P<key>[\w.]+)":.*(?:Given|Got) value: (?P<value>.*)$', message)
    if found is None:
        return None
    key, value = found["key"], found["value"].strip("'")
    if key == "data":
        known = ", ".join(data.__all__)
        return f"there is no data module '{value}'.{suggestion(value, data.__all__)} There is {known}."
    choices = [choice.strip(" '") for group in re.findall(r"Literal\[(.*?)\]", message) for choice in group.split(",")]
    expected = choices + _expected(message)
    near = suggestion(value, choices)
    return f"--{key} got '{value}', but takes {' or '.join(expected)}.{near}" if expected else None


def _expected(message: str) -> list[str]:
    """Return the types and limits that jsonargparse names, in words."""
    words = {"NoneType": "null", "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false"}
    types = re.findall(r"Expected an? <class '(?:\w+\.)*(\w+)'>", message)
    limits = re.findall(r"does not conform to restriction v([<>=]+\d+)", message)
    return list(dict.fromkeys([*(f"a number {limit}" for limit in limits), *(words.get(kind, kind) for kind in types)]))
