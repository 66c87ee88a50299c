"""Look at all that a run needs, and say what is wrong and how to mend it; it works without PyTorch, too."""

import argparse
import json
from collections.abc import Iterator

from .. import first_word
from ..commands.arguments import CommandParser, threads
from ..requirements import requirements
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
    checks = []
    for check in examine(job):
        checks.append(check)
        if not options.json:
            print(check.lines, flush=True)
    wrong = [check for check in checks if check.state == "wrong"]
    if options.json:
        print(json.dumps({"ok": not wrong, "checks": [vars(check) for check in checks]}, indent=2))
    else:
        print(f"\n{len(wrong)} of {len(checks)} wrong" if wrong else "\nNothing is wrong.")
    return 1 if wrong else 0


def examine(job: Job) -> Iterator[Check]:
    """Look at everything: what answers at once, then what has to be imported for it, which takes seconds."""
    yield packages.python()
    yield from job.checks
    yield from job.names()
    yield from job.data()
    yield job.place()
    yield machine.compiler()
    yield machine.cores(job.workers)
    yield machine.shared_memory()
    yield machine.temporary()
    yield from machine.cache()
    needed = requirements()
    targets = packages.targets(needed)
    own = job.data_module
    found = imported([*targets, own] if own and own not in targets else targets)
    yield from packages.pytorch(needed, found)
    yield from packages.required(needed, found)
    yield from packages.plugins(found)
    yield machine.ffcv(found)
    yield from job.own_class(found)


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
