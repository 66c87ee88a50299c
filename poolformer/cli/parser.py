"""The option parser of the trainer's verbs: LightningCLI's, with mistakes answered in one line."""

import re
from argparse import HelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from ..errors import ConfigError, suggestion
from . import data_section, help_page, plain_options, user_classes, value_words
from .option_texts import VERBS
from .unknown_options import alone, sentence


class Parser(LightningArgumentParser):
    """Raises `ConfigError` where jsonargparse prints sixty lines of usage and leaves.

    Attributes:
        files: Configuration files with their contents, to say which of them a mistake stands in.
        flags: What the command line says beside them.
        data_class: Full path of the data module that is asked for, whose options are suggested.
        data_base: What every data module inherits, where these are not poolformer's.
        has_help_page: Whether its help is that of ``poolformer fit`` and the like, and not Lightning's.
    """

    files: Sequence[tuple[Path, dict[str, Any]]] = ()
    flags: Sequence[str] = ()
    data_class: str = "poolformer.data.DigitsData"
    data_base: type | None = None
    has_help_page: bool = True

    def set_section_defaults(self, options: dict[str, Any]) -> None:
        """Put options below everything that is said; names that are no options any more are left out.

        Args:
            options: Of the sections ``model``, ``data`` and ``trainer``, as in a configuration.
        """
        known = {action.dest for action in self._actions}
        for section, values in options.items():
            if section in ("model", "trainer"):
                named = {f"{section}.{name}": value for name, value in values.items()}
                self.set_defaults({name: value for name, value in named.items() if name in known})
            else:
                self.set_defaults({section: values})

    def dump(self, namespace: Namespace, *args: Any, **kwargs: Any) -> str:
        """Return options as text, without defaults of somebody's classes that no text can stand for."""
        return super().dump(plain_options.readable(namespace), *args, **kwargs)

    def describe(self, option: str, text: str) -> None:
        """Have an option that Lightning has added say in ``--help`` what it is here."""
        for action in self._actions:
            if action.dest == option:
                action.help = text

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what is wrong with the options in the words of the person at the terminal."""
        if not self.exit_on_error:
            super().error(message, ex)
        message = " ".join(message.split()).removeprefix('Parser key "config": ')
        parser = self._chosen_subparser()
        said = parser._wrong_class(message) or parser._unknown_option(message) or parser._wrong_value(message)
        raise ConfigError(said or message) from ex

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """Return the help, with the options of the data module that is asked for: they depend on its class."""
        if not self.has_help_page or not any(action.dest == "data" for action in self._actions):
            return super().format_help() if formatter is None else super().format_help(formatter)
        verb, name = self.prog.rpartition(" ")[2], self.data_class.removeprefix("poolformer.data.")
        about, of_data = user_classes.described(self.data_class)
        return help_page.page(
            verb,
            self._actions,
            of_data,
            description=f"{VERBS[verb]} {self.description}",
            about_data=f"Options of --data {name}; there is {', '.join(user_classes.data_modules())}. {about}",
        )

    def _chosen_subparser(self) -> "Parser":
        choices = getattr(self._subcommands_action, "choices", None) if self._subcommands_action else None
        return next(iter(choices.values())) if choices else self

    def _unknown_option(self, message: str) -> str | None:
        found = re.search(
            r"unrecognized arguments: (-*)([^\s=]+)(\S*)|[Oo]ption '([\w.+-]+)' is not accepted"
            r"|not accept option '([\w.+-]+)'|Linked \"([\w.]+)\" must be given",
            message,
        )
        if found is None:
            return None
        dashes, word, rest, *in_a_file = found.groups()
        name, known = word or next(filter(None, in_a_file)), [action.dest for action in self._actions]
        if word and not dashes and (meant := alone(f"{word}{rest}", known)):
            return f"'{word}{rest}' stands alone. Did you mean {meant}?"
        known = [option for option in known if option != name] + _data_options(self.data_class)
        if inside := re.search(r"class_path '([\w.]+)'.*Option", message):
            name, known = f"data.{name}", _data_options(inside[1])
        of_digits = self.data_class == "poolformer.data.DigitsData"
        of_folders = _data_options("poolformer.data.FolderData") if of_digits else None
        return sentence(name, known, place=self._place(name), flags=self.flags, of_folders=of_folders)

    def _wrong_class(self, message: str) -> str | None:
        """Explain what is said of a class that is none of our data modules."""
        found = re.search(r'Parser key "([\w.]+)"', message)
        if found is None or found[1] not in user_classes.SLOTS or "given class_path 'poolformer.data." in message:
            return None
        key = found[1]
        place = "" if any(re.match(rf"--{key}\b", flag) for flag in self.flags) else self._place(key)
        if key != "data" and (unknown := user_classes.unknown_name(key, message)):
            return f"--{key}{place}: {unknown}"
        if problem := user_classes.problem(message):
            nested = re.search(r'Parser key "([\w.]+)":(.*)(?:Given|Got) value: (.*)$', problem[1])
            said = nested and _refused(f"{key}.{nested[1]}", nested[3].strip("' "), nested[2], place=place)
            return said or user_classes.explain(key, *problem, place)
        return None

    def _wrong_value(self, message: str) -> str | None:
        found = re.search(r'Parser key "(?P<key>[\w.]+)":.*(?:Given|Got) value:\s*(?P<value>.*)$', message)
        if found is None:
            section = re.search(r"Parser key \"(model|trainer)\": Unable to load config '(.*?)'", message)
            meant = section and (alone(section[2], []) or "an option of it, such as --model.lr")
            return section and f"--{section[1]} got '{section[2]}', but expects a file. Did you mean {meant}?"
        key, value = found["key"], found["value"].strip("'")
        if dashed := re.search(r"NestedArg\(key='([\w.]*-[\w.-]*)',", value):
            return self._unknown_option(f"unrecognized arguments: --{key}.{dashed[1]}")
        if nested := re.search(r"NestedArg\(key='(\w+)', val=(.*)\)$", value):
            if key == "model.backbone":
                return f"--{key} is a name: a backbone takes the options of the model, and no {nested[1]} of its own"
            key, value = f"{key}.{nested[1]}", nested[2].strip("'")
        elif key == "data" and self.data_base is not None:
            base = f"{self.data_base.__module__}.{self.data_base.__qualname__}"
            return f"--data got '{value}'{self._place(key)}, which is no data module here: that inherits {base}"
        elif key == "data" and (unknown := data_section.unknown(value)):
            return unknown
        elif key == "data" and re.fullmatch(r"[\w.]+", value):
            known = user_classes.data_modules()
            return f"there is no data module '{value}'.{suggestion(value, known)} There is {', '.join(known)}."
        elif key in user_classes.SLOTS and value.startswith("{") and "class_path" not in value:
            kind = user_classes.SLOTS[key].kind
            return f"--{key} got options{self._place(key)} and not of which {kind}: write '{key}: NAME', too"
        elif key == "data" and ("/" in value or Path(value).exists()):
            return f"--data takes a data module, not '{value}'. Did you mean --data FolderData --data.train {value}?"
        return _refused(key, value, message, place=self._place(key), inside=nested is not None)

    def _place(self, key: str) -> str:
        """Say which file a key stands in; the last one counts."""
        for file, content in reversed(self.files):
            value: Any = content
            for part in key.split("."):
                value = _inside(value, part)
            if value is not None:
                return f" in '{file}'"
        return ""


def _inside(value: Any, part: str) -> Any:
    """Return an option of a section, of a class in it, or one that is added to a list."""
    if not isinstance(value, dict):
        return None
    return value.get(part, value.get("init_args", {}).get(part, value.get(f"{part}+")))


def _data_options(class_path: str) -> list[str]:
    return [f"data.{name}" for name in user_classes.options_of(class_path)]


def _refused(key: str, value: str, message: str, *, place: str, inside: bool = False) -> str | None:
    """Say what an option takes, where jsonargparse says so."""
    groups = re.findall(r"Literal\[(.*?)\]|Expected a member of <enum '\w+'>: \{?([\w,]+)", message)
    choices = list(dict.fromkeys(choice.strip(" '") for group in groups for choice in "".join(group).split(",")))
    types = _expected(message, inside=inside)
    return value_words.refused(key, value, types, choices, place=place) if choices or types else None


def _expected(message: str, *, inside: bool) -> list[str]:
    """Return the types and limits that jsonargparse names; ``inside`` a data module or the like."""
    if inside:  # what may stand in its place is no news
        message = message.partition("Problem with given class_path")[2].rpartition("- Expected a <class 'NoneType'>")[0]
    types = re.findall(r"Expected an? <class '(?:\w+\.)*(\w+)'>", message)
    sizes = re.findall(r"Expected a tuple with (\d+) elements", message)
    limits = ["an integer from 1 up"] if "PositiveInt" in message else []
    return list(dict.fromkeys([*(f"{n} numbers" for n in sizes), *limits, *types]))
