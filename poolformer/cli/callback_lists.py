"""Lists of callbacks in several configuration files: ``callbacks+`` adds to those before, ``callbacks`` replaces them.

The notation is jsonargparse's, and the parser adds and replaces; here a callback that is listed already is left out,
and what a list takes away is said.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from . import said
from .user_classes import read

ADDED = "callbacks+"
_FLAG = "--trainer.callbacks"
_SHORT = ("lightning.", "poolformer.")
"""Packages whose callbacks may be written without their module."""


def settled(files: Sequence[tuple[Path, dict[str, Any]]], flags: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the files say, without callbacks that are added twice; say which callbacks another list replaces.

    Args:
        files: Configuration files with their contents; later ones win.
        flags: What the command line says beside them.
    """
    listed: list[Any] = []
    contents = []
    for file, content in files:
        trainer = content.get("trainer")
        if isinstance(trainer, dict) and "callbacks" in trainer:
            given = _in_a_list(trainer["callbacks"])
            _say_replaced(listed, given, f"trainer.callbacks of '{file}'")
            listed = given
        if isinstance(trainer, dict) and ADDED in trainer:
            added = []
            for one in _in_a_list(trainer[ADDED]):
                there = next((other for other in listed if _is_within(one, other)), None)
                if there is None:
                    added.append(one)
                elif _options(one) != _options(there):
                    rank_zero_warn(
                        f"callbacks+ of '{file}': {_path(one)} is left out, as there is one with all that it says "
                        f"already ({dict(_options(there))}); give it an option that tells them apart"
                    )
            content = {**content, "trainer": {**trainer, ADDED: added}}
            listed = listed + added
        contents.append(content)
    for value in said.values(flags, _FLAG):
        given = [] if value == "null" else _in_a_list(read(value))
        _say_replaced(listed, given, f"{_FLAG} {value}")
        listed = []
    return contents


def _say_replaced(before: Sequence[Any], now: Sequence[Any], who: str) -> None:
    """Say which callbacks another list takes away; an empty one is there to do so."""
    gone = [_path(one).rpartition(".")[2] for one in before if not any(_is_within(one, other) for other in now)]
    if any(gone) and now:
        rank_zero_warn(f"{who} replaces {', '.join(gone)} of a file before it; callbacks+ adds to the list")


def _in_a_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _is_within(one: Any, other: Any) -> bool:
    """Return whether an entry is another one: of its class, with no option that differs from what that one says."""
    asked, there = _options(one), _options(other)
    return _same_class(_path(one), _path(other)) and all(name in there and there[name] == asked[name] for name in asked)


def _same_class(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    is_short = "." not in shorter and longer.startswith(_SHORT) and longer.rpartition(".")[2] == shorter
    return shorter != "" and (shorter == longer or is_short)


def _path(entry: Any) -> str:
    path = entry.get("class_path") if isinstance(entry, Mapping) else entry
    return path if isinstance(path, str) else ""


def _options(entry: Any) -> Mapping[str, Any]:
    options = entry.get("init_args") if isinstance(entry, Mapping) else None
    return options if isinstance(options, Mapping) else {}
