"""How a value is written in a command that is printed to be pasted."""

import json
import shlex
from pathlib import Path
from typing import Any


def quoted(value: Any) -> str:
    """Return a path, a text or an option's value as one word of a shell.

    Example:
        >>> quoted("runs/my run")
        "'runs/my run'"
    """
    if isinstance(value, Path):
        value = str(value)
        value = f"./{value}" if value.startswith("-") else value  # which would be an option
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))
