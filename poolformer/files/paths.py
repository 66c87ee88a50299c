"""Options that are paths: what a person writes, as the path of this machine that it means."""

import os
import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

from ..errors import ConfigError

_URL = re.compile(r"([\w+.-]+::)*[A-Za-z][\w+.-]+://")  # of two letters at least: C:// is a drive
_FILE = re.compile(r"file:///")
_NO_HOME = re.compile(r"~([/\\]|$)")


def is_url(text: str | os.PathLike[str]) -> bool:
    """Return whether an option is a URL that no file of this machine is meant by; ``file:///tmp/x`` is one of those."""
    return bool(_URL.match(os.fspath(text))) and not _FILE.match(os.fspath(text))


def without_scheme(text: str) -> str:
    """Return a path of this machine that is written as a URL as the path; others as they are."""
    return text.removeprefix("file://") if _FILE.match(text) else text


def local(given: str | os.PathLike[str], option: str) -> str:
    """Return the path that an option gives, with ``~`` written out.

    Args:
        given: What stands behind the option.
        option: Its name, for the message.

    Raises:
        ConfigError: It is empty, a URL, or begins with ``~`` where there is no home directory.
    """
    text = os.fspath(given)
    if not text.strip():
        raise ConfigError(f"{option} is empty: give a path, or leave the option out")
    if _URL.match(text):
        raise ConfigError(
            f"{option} {text}: this is a URL; give a path of this machine, as only runs, their checkpoints, the "
            ".beton files of --data FFCVData and what `poolformer pack` reads may be elsewhere"
        )
    expanded = os.path.expanduser(text)
    if _NO_HOME.match(expanded):
        raise ConfigError(f"{option} {text}: there is no home directory here; write the path in full")
    return expanded


def check_new(path: str, option: str, suffixes: Sequence[str]) -> None:
    """Refuse what no new file can be called.

    Args:
        path: As `local` returns it.
        option: That gives it, for the message.
        suffixes: Endings of the formats that there are.

    Raises:
        ConfigError: Its ending is of no format, it is there already, or its folder is not.
    """
    if os.path.splitext(path)[1] not in suffixes:
        raise ConfigError(f"{option} '{path}': the name ends in one of {', '.join(suffixes)}")
    if os.path.lexists(path):
        raise ConfigError(f"{option} '{path}' is already there: choose another name, or remove it")
    folder = os.path.dirname(path)
    if not os.path.isdir(folder or "."):
        raise ConfigError(f"{option} '{path}': there is no folder '{folder}'")


def each_text(value: Any, change: Callable[[str], str]) -> Any:
    """Return nested mappings, lists and namespaces with every text and path in them changed, in place."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, PurePath):
        return type(value)(change(str(value)))
    if isinstance(value, list):
        value[:] = [each_text(one, change) for one in value]
    elif isinstance(value, dict | Namespace):
        options = value if isinstance(value, dict) else vars(value)
        for name, one in options.items():
            options[name] = each_text(one, change)
    return value


def with_home(text: str) -> str:
    """Return a text that begins as a path below the home directory does with ``~`` written out; others as they are."""
    return os.path.expanduser(text) if _NO_HOME.match(text) else text
