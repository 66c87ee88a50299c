"""What a page was made by and on: the command, versions, the machine, the date."""

import sys
from collections.abc import Sequence
from datetime import datetime, timezone

from ..data.threads import available_cores
from ..files.shell import quoted
from ..run.versions import versions


def surroundings(argv: Sequence[str], *, train_s: float, jobs: int) -> dict[str, str]:
    """Return what a page was made by and on, by names.

    Args:
        argv: Arguments of `poolformer judge`.
        train_s: Seconds that all trainings of the page took, one after another.
        jobs: At once.
    """
    from ..commands.progress import duration

    return {
        "command": " ".join(["poolformer", "judge", *map(quoted, argv)]),
        "versions": versions(),
        "machine": _machine(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "training in all": f"{duration(train_s)}, added up over all trainings of the page; {jobs} at once in the end",
    }


def _machine() -> str:
    import torch

    from ..bench.host import processor

    parts = [f"{available_cores()} cores of {processor()} ({torch.backends.cpu.get_cpu_capability()})", sys.platform]
    if torch.cuda.is_available():
        parts.append(f"GPU {torch.cuda.get_device_name()}")
    return ", ".join(parts)
