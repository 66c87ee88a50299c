"""`poolformer verify`."""

import argparse
import inspect
import json
from collections import Counter
from pathlib import Path

from ..errors import printable
from .arguments import CommandParser, local_path, threads


def main(argv: list[str]) -> int:
    """Check a .beton file: its structure, its checksums, and every image by decoding it.

    Prints what is in the file and each damaged sample by number. Exit code 0: sound; 1: some samples are damaged; 2: it
    cannot be read at all. The file is compared with FILE.json where that is beside it. Files that ffcv wrote have no
    checksums: of their images, only damage that breaks a JPEG is found.
    """
    parser = CommandParser(
        "poolformer verify", description=inspect.getdoc(main), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=local_path, help="the .beton file")
    parser.add_argument("--num_workers", type=threads, help="threads; one a core by default")
    options = parser.parse_args(argv)
    from ..data.beton import Beton
    from ..data.pack import damage
    from ..data.threads import available_cores

    beton = Beton(Path(options.file).expanduser())
    faults = [fault for fault in damage(beton, workers=options.num_workers or available_cores()) if fault]
    faults += _against_sidecar(beton.path)
    counts = Counter(beton.labels.tolist())
    sums = "with checksums" if beton.has_checksums else "without checksums"
    print(f"{printable(str(beton.path))}: {len(beton)} images of {len(beton.class_names or counts)} classes, {sums}")
    print(f"images a class: {min(counts.values())} to {max(counts.values())}")
    print(*map(printable, faults), f"{len(faults)} faults" if faults else "sound", sep="\n")
    return 1 if faults else 0


def _against_sidecar(path: Path) -> list[str]:
    from ..data.pack import sha256
    from ..data.target import sidecar

    described = [file for file in {sidecar(path), sidecar(path.resolve())} if file.is_file()]
    faults = []
    for file in described:
        try:
            expected = json.loads(file.read_text(encoding="utf-8"))["sha256"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            faults.append(f"'{file}' is no description of a .beton file")
        else:
            faults += [] if sha256(path) == expected else [f"'{path}': its sha256 is not the one in '{file.name}'"]
    return faults
