"""Options as a file can hold them: defaults of somebody's classes may be any object."""

from collections.abc import Iterable
from enum import Enum
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace

_NOT_SERIALIZED = "Unable to serialize instance"  # what jsonargparse writes in its place


def as_mapping(options: Namespace, parser: ArgumentParser) -> dict[str, Any]:
    """Return options as a configuration holds them, those that are null included."""
    content: dict[str, Any] = yaml.safe_load(parser.dump(options, skip_none=False))
    return content


def make_plain(options: Namespace | list[Any]) -> None:
    """Replace, in place, defaults of other types than the text that their option takes: enums of texts, devices."""
    items: Iterable[tuple[Any, Any]] = vars(options).items() if isinstance(options, Namespace) else enumerate(options)
    for place, value in list(items):
        if isinstance(value, Namespace | list):
            make_plain(value)
        elif isinstance(value, Enum) and isinstance(value, str):
            options[place] = value.value
        elif isinstance(value, torch.device):
            options[place] = str(value)


def without_objects(dumped: str) -> str:
    """Leave out of dumped options what no text can stand for: it is a default, which holds where nothing is said."""
    if _NOT_SERIALIZED not in dumped:
        return dumped
    return yaml.safe_dump(_without(yaml.safe_load(dumped)), sort_keys=False, allow_unicode=True)


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(each) for name, each in value.items() if not _is_object(each)}
    return [_without(each) for each in value] if isinstance(value, list) else value


def _is_object(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(_NOT_SERIALIZED)
