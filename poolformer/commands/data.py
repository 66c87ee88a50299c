"""List the data modules of all installed packages; with a NAME, its description and options."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..registry import DATA
from .names import Listing, show


def main(argv: list[str]) -> int:
    """Print the names, or what one of them takes; the names alone import nothing."""
    return show(Listing(DATA, "data", "--data", _options), __doc__, argv)


def _options(module: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: each for name, each in inspect.signature(module).parameters.items() if each.kind not in variadic}
