"""Measure this package beside others, on this machine."""

import argparse
import importlib

# What can be measured: the module that does it, and what help says.
_SUBJECTS = {"data": ("bench_data", "loading images: ours, timm's, torchvision's, plain decoding")}


def main(argv: list[str]) -> int:
    """Run one benchmark; each has its own options."""
    subjects = "\n".join(f"  {name}  {text}" for name, (_, text) in _SUBJECTS.items())
    parser = argparse.ArgumentParser(
        prog="poolformer bench",
        description=__doc__,
        epilog=f"subjects:\n{subjects}\n\n'poolformer bench SUBJECT --help' lists its options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("subject", metavar="SUBJECT", choices=_SUBJECTS)
    chosen = parser.parse_args(argv[:1]).subject
    return importlib.import_module(f".{_SUBJECTS[chosen][0]}", __package__).main(argv[1:])
