"""Values that an option takes under no circumstances, refused before PyTorch and Lightning are imported.

Only what is certain is refused: a word where the signature has numbers alone, a number out of its range, a name that no
installed package offers. All else is left to the parser, which says the same of these in the same words.
"""

import ast
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from .. import option_ranges, option_words
from ..errors import ConfigError, suggestion
from ..registry import BACKBONES, DATA, MIXERS, find, listing
from . import said, value_words

_RANGES = {"model": option_ranges.MODEL, "DigitsData": option_ranges.DIGITS}
_POSITIVE = ("num_threads", "save_every_n_steps", "top_k")
_CHOICES = {
    "if_saving_fails": get_args(option_words.WhenSavingFails),
    "log_without": ("all", *get_args(option_words.LogPart)),
}
_UNIONS = ("Union", "Optional")
_OF_A_NUMBER = (*"+-.0123456789",)
_LEFT_TO_THE_PARSER = ("true", "false", "yes", "no", "on", "off", "null", "none", "~", "")  # words that YAML may read

Options = Mapping[str, ast.expr | None]
"""Options of a class by name, each with its annotation."""


def refuse(
    sections: Mapping[str, tuple[str, Options]],
    contents: Sequence[tuple[Any, dict[str, Any]]],
    flags: Sequence[str],
    *,
    sure: bool,
    trains: bool = True,
) -> None:
    """Refuse what is wrong whatever is installed.

    Args:
        sections: ``model``, ``data`` and ``trainer``, as far as it is known of which class they are: its name, as
            `poolformer.cli.early` calls it, and its options.
        contents: Configurations, each with what it says; later ones win.
        flags: What the command line says beside them, which wins.
        sure: Whether these are all configurations, so that what is out of range here is not replaced by another.
        trains: Whether the verb trains.

    Raises:
        ConfigError: A value is of another type, or out of range.
        UnknownNameError: There is no backbone, token mixer or data module of a name.
        AmbiguousNameError: There are two of a name.
    """
    values: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for place, section, name, value in [*_in_files(contents), *_on_the_command_line(flags)]:
        if section not in sections or name not in sections[section][1]:
            continue
        read = _read(f"{section}.{name}", value, sections[section][1][name], place)
        values[section][name] = read if isinstance(read, int | float) else None
    for section, options in values.items():
        # A file or a mapping for a whole section wins over what stands before it, and is not looked into here.
        if not sure or any(value[:1] == "{" or "." in value for value in said.values(flags, f"--{section}")):
            continue
        owner = sections[section][0]
        if owner == "trainer":
            option_ranges.check_trainer(options)
            # What is not said here may have a default, and fast_dev_run is read by the parser.
            if trains and options.get("max_epochs") == -1 and "fast_dev_run" not in options:
                option_ranges.check_end(options)
        else:
            option_ranges.check(section, options, _RANGES.get(owner, option_ranges.IMAGES))
        if section == "model":
            _check_names(flags)


def refuse_of_verb(contents: Sequence[tuple[Any, dict[str, Any]]], flags: Sequence[str], *, sure: bool) -> None:
    """Refuse what options of the verb itself do not take.

    Args:
        contents: As of `refuse`.
        flags: As of `refuse`.
        sure: As of `refuse`.

    Raises:
        ConfigError: A value is of another type, no word that the option takes, or out of range.
    """
    in_files = [(f" in '{file}'", name, value) for file, content in contents for name, value in content.items()]
    on_line = [("", (one.option or "")[2:], one.value) for one in said.each(flags) if one.value is not None]
    seed = None
    for place, name, value in [*in_files, *on_line]:
        if name in _POSITIVE and _number(value) is not None:
            _check_positive(name, _number(value), place)
        elif name in _CHOICES:
            _check_choice(name, value, place)
        elif name == "seed_everything":
            seed = _number(value)
    if sure and type(seed) is int:
        option_ranges.check_seed(seed)


def _check_positive(name: str, number: Any, place: str) -> None:
    if not (isinstance(number, str) and _is_left(number)) and not (
        type(number) in (int, float) and number >= 1 and float(number).is_integer()  # 10.0 of a file is 10
    ):
        raise ConfigError(value_words.refused(name, str(number), [option_ranges.COUNT.words, "NoneType"], place=place))


def _check_choice(name: str, value: Any, place: str) -> None:
    choices = _CHOICES[name]
    takes_null = name == "log_without"
    words = value if isinstance(value, list) else _words_of(value) if isinstance(value, str) else None
    if words is not None and takes_null:
        if not all(word in choices and word != "all" for word in words):
            raise ConfigError(value_words.refused(name, str(words), ["NoneType"], choices, place=place))
    elif isinstance(value, str) and value not in choices and not _is_left(value):
        types = ["list", "NoneType"] if takes_null else []
        raise ConfigError(value_words.refused(name, value, types, choices, place=place))


def _words_of(text: str) -> list[str] | None:
    """Return the words of a list as YAML has it, None where it is none or holds more than words."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    words = [word.strip().strip("'\"") for word in text[1:-1].split(",")]
    return words if all(word.replace("_", "").isalpha() for word in words) else None


def _in_files(contents: Iterable[tuple[Any, dict[str, Any]]]) -> Iterable[tuple[str, str, str, Any]]:
    for file, content in contents:
        for section, options in content.items():
            if isinstance(options, dict):
                inner = options.get("init_args", options) if section == "data" else options
                for name, value in inner.items() if isinstance(inner, dict) else ():
                    yield f" in '{file}'", section, str(name), value


def _on_the_command_line(flags: Sequence[str]) -> Iterable[tuple[str, str, str, Any]]:
    for one in said.each(flags):
        if one.option == "--":
            return
        section, dot, name = (one.option or "").removeprefix("--").partition(".")
        if dot and one.value is not None:
            yield "", section, name.removeprefix("init_args."), one.value


def _read(option: str, value: Any, annotation: ast.expr | None, place: str) -> Any:
    """Return the number that a value is, as the parser reads it; a word is refused where numbers are."""
    kinds, choices = _taken(annotation)
    number = _number(value)
    if None in kinds or number in choices or number is None:
        return number
    if isinstance(number, str) and not _is_left(number):
        raise ConfigError(value_words.refused(option, number, [str(kind) for kind in kinds], choices, place=place))
    return float(number) if type(number) is int and "float" in kinds and "int" not in kinds else number


def _is_left(text: str) -> bool:
    return text.strip().lower() in _LEFT_TO_THE_PARSER or text.startswith(("{", "["))


def _taken(annotation: ast.expr | None) -> tuple[list[str | None], list[str]]:
    """Return the types that an annotation names, None for one that may take a text, and the words that it takes."""
    match annotation:
        case ast.Constant(value=None):
            return ["NoneType"], []
        case ast.Name(id="int" | "float" | "bool" as kind):
            return [kind], []
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _together([left, right])
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inside):
            words = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            texts = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
            return ([] if len(texts) == len(words) else [None]), texts
        case ast.Subscript(value=ast.Name(id=union), slice=inside) if union in _UNIONS:
            kinds, choices = _together(inside.elts if isinstance(inside, ast.Tuple) else [inside])
            return [*kinds, *(["NoneType"] if union == "Optional" else [])], choices
    return [None], []


def _together(parts: Iterable[ast.expr]) -> tuple[list[str | None], list[str]]:
    found = [_taken(part) for part in parts]
    return [kind for kinds, _ in found for kind in kinds], [word for _, words in found for word in words]


def _number(value: Any) -> Any:
    """Return the number that a word is; the word itself where it is none."""
    if not isinstance(value, str):
        return value
    for read in (int, float):
        try:
            return read(value)
        except ValueError:
            continue
    if value[:1] not in _OF_A_NUMBER:
        return value  # most values, which need no YAML
    try:
        import yaml  # 0.1 s

        read_as = yaml.safe_load(value)  # 0x10, .inf, and what is no number at all
    except Exception:  # PyYAML makes errors of all kinds
        return value
    return read_as if isinstance(read_as, int | float) and not isinstance(read_as, bool) else value


def _check_names(flags: Sequence[str]) -> None:
    for option, group in (("--model.backbone", BACKBONES), ("--model.mixer", MIXERS), ("--data", DATA)):
        for name in said.values(flags, option)[-1:]:
            # A mapping, a list, a file, or a model of timm's is looked into where it is built.
            is_name = name.replace("_", "").replace("-", "").isalnum() and not os.path.lexists(name)
            if not is_name or name.lower() in _LEFT_TO_THE_PARSER:
                continue
            # Whether a backbone that is like none of these is one of timm's only timm knows, which takes seconds.
            is_timms = group == BACKBONES and not suggestion(name, list(listing(group)))
            if not is_timms:
                find(group, name)
