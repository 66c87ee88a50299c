"""The first word of a command: what it is about to do, before the imports that take seconds."""

import os
import sys

from .errors import printable

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")


def say(command: str, package: str = "PyTorch", module: str = "torch") -> None:
    """Say on stderr what is loaded for a command, where it is not there yet; the first of several processes does.

    Args:
        command: What was asked for, in a few words.
        package: What takes the time, by its name.
        module: The same as it is imported.
    """
    is_first = all(os.environ.get(rank, "0") == "0" for rank in _RANKS)
    if module not in sys.modules and is_first and sys.stderr is not None:
        print(f"{printable(command)}: loading {package}", file=sys.stderr, flush=True)
