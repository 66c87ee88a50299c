"""Options as a file can hold them: defaults of somebody's classes may be any object.

Importing this changes how jsonargparse, in the whole process, writes texts that look like numbers to it, in quotes, and
has it read a `torch.device`.
"""

import pydoc
import re
import warnings
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace, set_dumper
from jsonargparse.typing import register_type

from ..factory_options import parameters, parser_of

_PLAIN = (type(None), bool, int, float, str)


class _Dumper(yaml.SafeDumper):
    """Writes what jsonargparse reads again as it was: to PyYAML the text 1e-3 needs no quotes, a commit may be 12e5."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write what stands in several places in each of them."""
        return True


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"(?:[-+]?\d[\d_]*(?:\.[\d_]*)?[eE][-+]?\d+|\.[\d_]+)\Z"),
    list("-+.0123456789"),
)


class _OneLine(_Dumper):
    """Writes texts as JSON does, so that none of them goes on in a second line."""


_OneLine.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def as_text(options: Any) -> str:
    """Return options as YAML that jsonargparse reads as they are."""
    return yaml.dump(options, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)


def in_one_line(options: Any) -> str:
    """Return options as YAML in one line: JSON with numbers that are not finite."""
    return yaml.dump(options, Dumper=_OneLine, default_flow_style=True, sort_keys=False, width=float("inf")).strip()


set_dumper("yaml", as_text)
# As somebody's callback or logger may take one; jsonargparse would look for an object of the name "cpu".
register_type(torch.device, str, torch.device, fail_already_registered=False)


def as_mapping(options: Namespace, parser: ArgumentParser) -> dict[str, Any]:
    """Return options as a configuration holds them, those that are null included."""
    content: dict[str, Any] = yaml.safe_load(parser.dump(options, skip_none=False))
    return content


def readable(options: Namespace) -> Namespace:
    """Return options without those of somebody's classes that a file would say in another way, or not at all.

    Such a value is the default, an enum for a text or an array's number, which holds where nothing is said.
    """
    kept = options.clone()
    _leave_out(kept)
    return kept


def _leave_out(options: Any) -> None:
    each = vars(options).values() if isinstance(options, Namespace) else options if isinstance(options, list) else ()
    for inner in list(each):
        _leave_out(inner)
    if isinstance(options, Namespace) and isinstance(arguments := options.get("init_args"), Namespace):
        odd = {name: value for name, value in vars(arguments).items() if not _is_plain(value)}
        made = pydoc.locate(options.class_path) if odd else None
        for name, value in odd.items():
            if callable(made) and not _reads_back(made, name, value):
                del arguments[name]


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(type(key) is str and _is_plain(inner) for key, inner in value.items())
    return type(value) in _PLAIN or isinstance(value, Namespace)


def _reads_back(made: Any, name: str, value: Any) -> bool:
    """Return whether an option of a class or function is the same when it was written and read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parser = parser_of(made, skip=parameters(made).keys() - {name})
            again = parser.parse_object(yaml.safe_load(parser.dump(Namespace(**{name: value}))), defaults=False)[name]
            return type(again) is type(value) and bool(again == value)
    except Exception:  # of whatever their types raise: it is no option that a file can say
        return False
