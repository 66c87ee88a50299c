"""List the token mixers of all installed packages; with a NAME, its description and options."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..registry import MIXERS
from .names import Listing, show


def main(argv: list[str]) -> int:
    """Print the names, or what one of them takes; the names alone import nothing."""
    return show(Listing(MIXERS, "mixers", "--model.mixer", _options), __doc__, argv)


def _options(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    from ..network.mixer_spec import option_parameters  # torch, as the factory itself

    return option_parameters(factory)
