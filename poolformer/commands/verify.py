"""`poolformer verify`."""

import argparse
import inspect
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from .. import first_word
from ..counts import counted
from ..errors import printable
from .arguments import CommandParser, local_path, threads
from .progress import Progress

if TYPE_CHECKING:
    from ..data.beton import Beton


def main(argv: list[str]) -> int:
    """Check .beton files: their structure, their checksums, and every image by decoding it.

    Prints what is in a file and each damaged sample by number. Exit code 0: sound; 1: some samples are damaged; 2: one
    cannot be read at all. A file is compared with FILE.json where that is beside it. Files that ffcv wrote have no
    checksums: of their images, only damage that breaks a JPEG is found.
    """
    parser = CommandParser(
        "poolformer verify", description=inspect.getdoc(main), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=local_path, metavar="FILE", help=".beton files, or patterns of them")
    parser.add_argument("--num_workers", type=threads, help="threads; one a core by default")
    options = parser.parse_args(argv)
    first_word.say(f"verify {' '.join(options.files)}")
    from ..data.beton import Beton
    from ..data.beton_set import expand
    from ..data.threads import available_cores

    workers = options.num_workers or available_cores()
    return max([_verify(Beton(Path(file)), workers=workers) for file in expand(options.files)])


def _verify(beton: "Beton", *, workers: int) -> int:
    """Print what is in a file and what is wrong with it; return the exit code."""
    faults = _faults(beton, workers=workers)
    counts = Counter(beton.labels.tolist())
    sums = "with checksums" if beton.has_checksums else "without checksums"
    classes = counted(len(beton.class_names or counts), "class")
    print(f"{printable(str(beton.path))}: {counted(len(beton), 'image')} of {classes}, {sums}")
    print(f"images a class: {min(counts.values())} to {max(counts.values())}")
    print(*map(printable, faults), counted(len(faults), "fault") if faults else "sound", sep="\n")
    return 1 if faults else 0


def _faults(beton: "Beton", *, workers: int) -> list[str]:
    """Return what is wrong with the samples and, where its description is beside it, with the whole file."""
    from ..data.checking import Sha256Behind, damage
    from ..data.target import sidecar

    described = [file for file in {sidecar(beton.path), sidecar(beton.path.resolve())} if file.is_file()]
    faults = []
    with Sha256Behind(beton.path) as checksum, Progress("checked", len(beton)) as progress:
        for done, fault in enumerate(damage(beton, workers=workers), 1):
            faults += [fault] if fault else []
            progress(done)
            if described:
                checksum.follow(done / len(beton))
        found = checksum.hexdigest() if described else None
    for file in described:
        try:
            expected = json.loads(file.read_text(encoding="utf-8"))["sha256"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            faults.append(f"'{file}' is no description of a .beton file")
        else:
            faults += [] if found == expected else [f"'{beton.path}': its sha256 is not the one in '{file.name}'"]
    return faults
