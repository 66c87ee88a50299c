"""What a configuration says about data, turned over to the data module that is asked for."""

import re
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from .. import data, registry
from ..errors import BrokenPluginError, UnknownNameError
from . import said
from .user_classes import options_of, why_no_data_module

_NAME = re.compile(r"\w[\w-]*|[\w.-]+/[\w.-]+")
_OPTIONS = ("--data", "--data.class_path")


def class_path(name: str) -> str:
    """Return the full path of a data module of ours or of a plugin, which is imported; any other name as it is.

    Raises:
        AmbiguousNameError: Two plugins have the name.
        BrokenPluginError: It cannot be imported, or is no data module.
    """
    if name in data.__all__:
        return f"poolformer.data.{name}"
    try:
        entry = registry.find(registry.DATA, name) if _NAME.fullmatch(name) else None
    except UnknownNameError:  # a file, a folder, a class that is imported already, or a mistake
        return name
    if entry is None:
        return name
    if why := why_no_data_module(entry.import_path, entry.load()):
        raise BrokenPluginError(f"{entry} is none: {why}")
    return entry.import_path


def unknown(name: str) -> str | None:
    """Say that no data module has a name, None where it can be no name, such as a folder's."""
    packages = {entry.distribution for entry in registry.entries(registry.DATA)}
    if not _NAME.fullmatch(name) or ("/" in name and name.partition("/")[0] not in packages):
        return None
    try:
        registry.find(registry.DATA, name)
    except UnknownNameError as error:
        return str(error)
    return None


def with_class_paths(flags: list[str]) -> list[str]:
    """Return flags in which data modules that are asked for by name stand with their full path."""
    words = []
    for one in said.each(flags):
        *option, word = one.words  # --data NAME, or --data=NAME
        if one.option in _OPTIONS and one.value is not None:
            word = f"{word.removesuffix(one.value)}{class_path(one.value)}"
        words += [*option, word]
    return words


def chosen_class(contents: list[dict[str, Any]], flags: list[str]) -> str | None:
    """Return the full path of the data module that is asked for: by the flags, or by the last file that names one.

    None where none is, or a name alone that is none of ours.
    """
    chosen = named(contents, flags)
    return chosen if chosen and re.fullmatch(r"\w+(\.\w+)+", chosen) and not Path(chosen).is_file() else None


def named(contents: list[dict[str, Any]], flags: list[str]) -> str | None:
    """Return the data module that is asked for, as it is written; None where nobody says so."""
    named = []
    for content in contents:
        section = content.get("data")
        named.append(section.get("class_path") if isinstance(section, dict) else section)
    named += said.values(flags, *_OPTIONS)
    return next((class_path(name) for name in reversed(named) if isinstance(name, str)), None)


def of_class(content: dict[str, Any], data_class: str | None, *, known_options_only: bool = False) -> dict[str, Any]:
    """Turn a configuration's data section over to the data module that is asked for.

    jsonargparse would take the former module's defaults along, such as the digits' 8 pixels.
    """
    section = content.get("data")
    section = {"class_path": section} if isinstance(section, str) else section
    if not data_class or not isinstance(section, dict) or "class_path" not in section:
        return content
    init_args = dict(section.get("init_args") or {})
    if known_options_only or class_path(section["class_path"]) != data_class:
        known = options_of(data_class)
        init_args = {option: value for option, value in init_args.items() if option in known}
    return {**content, "data": {"class_path": data_class, "init_args": init_args}}


def has_image_size(data_class: str | None) -> bool:
    """Return whether a data module is told the size of its images; of another the model has to be told."""
    return data_class is None or "image_size" in options_of(data_class)


def image_size_of(options: Namespace | dict[str, Any] | None) -> int:
    """Return the side of the images in pixels that a data section asks for."""
    arguments = options.get("init_args", {}) if options else {}
    return arguments.get("image_size", 224)
