"""Measure this package beside others, on this machine."""

import argparse
import importlib

from .. import first_word
from ..commands.arguments import CommandParser

# What can be measured: the module and the function that do it, and what help says.
_SUBJECTS = {
    "data": ("data", "main", "loading images: ours, timm's, torchvision's, plain decoding"),
    "model": ("networks", "model", "inference of networks: ours, timm's, compiled or not"),
    "train": ("networks", "train", "training steps of networks"),
    "host": ("host", "main", "processor time of a block's launches: separate, fused"),
    "report": ("report", "main", "all that matters on a GPU, as a page: kernels, networks, fit, a step's profile"),
}


def main(argv: list[str]) -> int:
    """Run one benchmark; each has its own options."""
    subjects = "\n".join(f"  {name:6}  {text}" for name, (_, _, text) in _SUBJECTS.items())
    parser = CommandParser(
        prog="poolformer bench",
        description=__doc__,
        epilog=f"subjects:\n{subjects}\n\n'poolformer bench SUBJECT --help' lists its options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("subject", metavar="SUBJECT", choices=_SUBJECTS)
    chosen = parser.parse_args(argv[:1]).subject
    module, function, _ = _SUBJECTS[chosen]
    if not {"-h", "--help"} & {*argv}:
        first_word.say(f"bench {chosen}")
    return getattr(importlib.import_module(f".{module}", __package__), function)(argv[1:])
