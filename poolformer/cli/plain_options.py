"""Options as a file can hold them: defaults of somebody's classes may be any object."""

import re
from enum import Enum
from typing import Any

import numpy as np
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace, set_dumper
from jsonargparse.typing import register_type

_NOT_SERIALIZED = "Unable to serialize instance"  # what jsonargparse writes in its place


class _Dumper(yaml.SafeDumper):
    """Writes what jsonargparse reads again as it was."""


def _represent_enum(dumper: _Dumper, member: Enum) -> yaml.Node:
    """Write an enum of texts or numbers as that: jsonargparse has made the name of one that is to be an enum already.

    `interval` of Lightning's Timer is to be a text, and has an enum of texts as its default.
    """
    is_plain = issubclass(type(member), str | int | float)
    return dumper.represent_data(member.value if is_plain else member.name)


_Dumper.add_multi_representer(Enum, _represent_enum)
_Dumper.add_multi_representer(np.generic, lambda dumper, number: dumper.represent_data(number.item()))
# To PyYAML the text 1e-3 is none that needs quotes, and jsonargparse takes it for a number: a commit may be 12e5.
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d[\d_]*(\.[\d_]*)?[eE][-+]?\d+"), list("-+0123456789")
)


def as_text(options: Any, *, in_one_line: bool = False) -> str:
    """Return options as YAML that jsonargparse reads as they are."""
    width = float("inf") if in_one_line else None
    return yaml.dump(
        options, Dumper=_Dumper, default_flow_style=in_one_line, allow_unicode=True, sort_keys=False, width=width
    )


set_dumper("yaml", as_text)
# As somebody's callback or logger may take one; jsonargparse would look for an object of the name "cpu".
register_type(torch.device, str, torch.device, fail_already_registered=False)


def as_mapping(options: Namespace, parser: ArgumentParser) -> dict[str, Any]:
    """Return options as a configuration holds them, those that are null included."""
    content: dict[str, Any] = yaml.safe_load(parser.dump(options, skip_none=False))
    return content


def without_objects(dumped: str) -> str:
    """Leave out of dumped options what no text can stand for: it is a default, which holds where nothing is said."""
    return as_text(_without(yaml.safe_load(dumped))) if _NOT_SERIALIZED in dumped else dumped


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(each) for name, each in value.items() if not _is_object(each)}
    return [_without(each) for each in value] if isinstance(value, list) else value


def _is_object(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(_NOT_SERIALIZED)
