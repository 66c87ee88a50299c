"""Look at all that a run needs, and say what is wrong and how to mend it; it works without PyTorch, too."""

import argparse
import json
import tempfile
from pathlib import Path

from .. import first_word
from ..commands.arguments import CommandParser, threads
from . import machine, packages
from .check import Check
from .imports import imported
from .job import Job


def main(argv: list[str]) -> int:
    """Print what was found, and return 1 where something is wrong."""
    options = _parsed(argv)
    flags = {name: value for name, value in vars(options).items() if "." in name}
    job = Job(options.config, {**flags, "data": options.data})
    first_word.say("doctor", "each package that a run needs, and each plugin")
    checks = examine(job)
    wrong = [check for check in checks if check.state == "wrong"]
    if options.json:
        print(json.dumps({"ok": not wrong, "checks": [vars(check) for check in checks]}, indent=2))
    else:
        print("\n".join(check.lines for check in checks))
        print(f"\n{len(wrong)} of {len(checks)} wrong" if wrong else "\nNothing is wrong.")
    return 1 if wrong else 0


def examine(job: Job) -> list[Check]:
    """Look at everything: the packages, the machine, and what a run is told to use."""
    needed = packages.requirements()
    targets = packages.targets(needed)
    own = job.data_module
    found = imported([*targets, own] if own and own not in targets else targets)
    return [
        packages.python(),
        *packages.pytorch(needed, found),
        *packages.required(needed, found),
        *packages.plugins(found),
        *job.own_class(found),
        machine.compiler(),
        machine.ffcv(found),
        machine.cores(job.workers),
        machine.shared_memory(),
        machine.disk("temporary", Path(tempfile.gettempdir()), "set TMPDIR to a folder on another disk"),
        *machine.cache(),
        *job.checks,
        *job.names(),
        *job.data(),
        job.place(),
    ]


def _parsed(argv: list[str]) -> argparse.Namespace:
    parser = CommandParser(prog="poolformer doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--config", metavar="NAME", action="append", default=[], help="look at what a run by it needs; as for fit"
    )
    parser.add_argument("--data", metavar="NAME", help="data module, as for fit")
    parser.add_argument("--data.train", metavar="PATH", help="data of a run, as for fit")
    parser.add_argument("--data.val", metavar="PATH", help="data of a run, as for fit")
    parser.add_argument("--data.test", metavar="PATH", help="data of a run, as for fit")
    parser.add_argument("--data.predict", metavar="PATH", help="data of a run, as for fit")
    parser.add_argument("--data.num_workers", metavar="N", type=threads, help="workers of a run, as for fit")
    parser.add_argument("--trainer.default_root_dir", metavar="DIR", help="folder or URL of a run, as for fit")
    return parser.parse_args(argv)
