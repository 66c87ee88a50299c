"""What a configuration says about data, turned over to the data module that is asked for."""

import re
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from .. import data
from .user_classes import options_of


def class_path(name: str) -> str:
    """Return the full path of one of our data modules; any other name as it is."""
    return f"poolformer.data.{name}" if name in data.__all__ else name


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
    for index, word in enumerate(flags):
        option, equals, value = word.partition("=")
        if option in ("--data", "--data.class_path"):
            named.append(value if equals else "".join(flags[index + 1 : index + 2]))
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
