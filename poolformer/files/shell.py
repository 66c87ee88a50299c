"""How a command is written that is printed to be pasted: its program, and its values."""

import json
import os
import shlex
import shutil
import sys
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


def program(name: str) -> str:
    """Return what starts a script of this environment in the shell that has started us.

    Its name where the environment is active, otherwise its path: ``make fit`` is run without activating one.

    Example:
        >>> program("no-such-script")
        'no-such-script'
    """
    script = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if not script.is_file() or (found is not None and os.path.samefile(found, script)):
        return name
    inside = script.is_relative_to(Path.cwd())
    return quoted(script.relative_to(Path.cwd()) if inside else script)
