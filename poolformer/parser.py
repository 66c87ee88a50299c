"""The option parser of the trainer's verbs: LightningCLI's, with mistakes answered in one line."""

import inspect
import re
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from . import data
from .checkpoint import RENAMED
from .errors import ConfigError
from .registry import suggestion


class Parser(LightningArgumentParser):
    """Raises `ConfigError` where jsonargparse prints sixty lines of usage and leaves.

    Attributes:
        files: Configuration files with their contents, to say which of them a mistake stands in.
        data_class: Name of the data module that is asked for, whose options are suggested.
    """

    files: Sequence[tuple[Path, dict[str, Any]]] = ()
    data_class: str = "DigitsData"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong with the options in the words of the person at the terminal."""
        if not self.exit_on_error:
            super().error(message, ex)
        message = " ".join(message.split()).removeprefix('Parser key "config": ')
        parser = self._chosen_subparser()
        raise ConfigError(parser._unknown_option(message) or parser._wrong_value(message) or message) from ex

    def format_help(self) -> str:
        """Return the help, with the options of the data module that is asked for: they depend on its class."""
        text = super().format_help()
        data_class = getattr(data, self.data_class, None)
        if not data_class or not any(action.dest == "data" for action in self._actions):
            return text
        options = ArgumentParser(add_help=False, usage=SUPPRESS)
        options.add_class_arguments(data_class, "data")
        return (
            f"{text}\nOptions of --data {self.data_class}; there is {', '.join(data.__all__)}.\n{options.format_help()}"
        )

    def _chosen_subparser(self) -> "Parser":
        choices = getattr(self._subcommands_action, "choices", None) if self._subcommands_action else None
        return next(iter(choices.values())) if choices else self

    def _unknown_option(self, message: str) -> str | None:
        found = re.search(
            r"unrecognized arguments: -*([\w.]+)|[Oo]ption '([\w.]+)' is not accepted|not accept option '([\w.]+)'"
            r"|Linked \"([\w.]+)\" must be given",
            message,
        )
        if found is None:
            return None
        alone = re.search(r"unrecognized arguments: (\S+(\.ckpt|\.yaml))", message)
        if alone and not alone[1].startswith("-"):
            option = {".ckpt": "--ckpt_path", ".yaml": "--config"}[alone[2]]
            return f"'{alone[1]}' stands alone. Did you mean {option} {alone[1]}?"
        name, known = next(filter(None, found.groups())), [action.dest for action in self._actions]
        known = [option for option in known if option != name] + _data_options(self.data_class)
        if inside := re.search(r"class_path '([\w.]+)\.(\w+)'.*Option", message):
            if inside[1] != "poolformer.data":
                return f"{inside[2]} has no option '{name}'"
            name, known = f"data.{name}", _data_options(inside[2])
        if self.data_class == "DigitsData" and name in _data_options("FolderData"):
            return (
                f"there is no option '{name}'{self._place(name)} for the digits, which take no files: add --config s12 "
                "or --data FolderData"
            )
        if present := RENAMED.get(name.removeprefix("model.")):
            return f"the option '{name}'{self._place(name)} is called 'model.{present}' now."
        return f"there is no option '{name}'{self._place(name)}.{suggestion(name, known)} '--help' lists them."

    def _wrong_value(self, message: str) -> str | None:
        found = re.search(r'Parser key "(?P<key>[\w.]+)":.*(?:Given|Got) value: (?P<value>.*)$', message)
        if found is None:
            return None
        key, value = found["key"], found["value"].strip("'")
        if nested := re.search(r"NestedArg\(key='(\w+)', val=(.*)\)$", value):
            key, value = f"{key}.{nested[1]}", nested[2].strip("'")
        elif key == "data" and re.fullmatch(r"[\w.]+", value):
            known = ", ".join(data.__all__)
            return f"there is no data module '{value}'.{suggestion(value, data.__all__)} There is {known}."
        groups = re.findall(r"Literal\[(.*?)\]", message)
        choices = list(dict.fromkeys(choice.strip(" '") for group in groups for choice in group.split(",")))
        expected = choices + [kind for kind in _expected(message, inside=nested is not None) if kind not in choices]
        if not expected:
            return None
        near = suggestion(value, choices)
        return f"--{key} got '{value}'{self._place(key)}, but takes {' or '.join(expected)}.{near}"

    def _place(self, key: str) -> str:
        """Say which file a key stands in; the last one counts."""
        for file, content in reversed(self.files):
            value: Any = content
            for part in key.split("."):
                value = value.get(part, value.get("init_args", {}).get(part)) if isinstance(value, dict) else None
            if value is not None:
                return f" in '{file}'"
        return ""


def _data_options(class_name: str) -> list[str]:
    data_class = getattr(data, class_name, None)
    return [f"data.{name}" for name in inspect.signature(data_class).parameters] if data_class else []


def _expected(message: str, *, inside: bool) -> list[str]:
    """Return the types and limits that jsonargparse names, in words; ``inside`` a data module or the like."""
    if inside:  # what may stand in its place is no news
        message = message.partition("Problem with given class_path")[2].rpartition("- Expected a <class 'NoneType'>")[0]
    words = {"NoneType": "null", "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false"}
    types = re.findall(r"Expected an? <class '(?:\w+\.)*(\w+)'>", message)
    sizes = re.findall(r"Expected a tuple with (\d+) elements", message)
    limits = ["a number >0"] if "PositiveInt" in message else []
    return list(dict.fromkeys([*(f"{n} numbers" for n in sizes), *limits, *(words.get(kind, kind) for kind in types)]))
