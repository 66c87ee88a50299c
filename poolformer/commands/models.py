"""List the backbones: trainable parameters, MACs at 224 pixels, and the paper's ImageNet top-1."""

import json
from collections.abc import Iterable
from typing import Any

from .. import first_word, registry
from ..errors import PoolformerError
from ..sizes import SIZES
from .arguments import CommandParser

IMAGE_SIZE = 224


def main(argv: list[str]) -> int:
    """Print a row for each backbone of the installed packages; a broken one is named, not fatal."""
    parser = CommandParser(prog="poolformer models", description=__doc__)
    parser.add_argument("name", nargs="*", metavar="NAME", help="these alone; also timm/<model>")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    names = options.name or list(registry.listing(registry.BACKBONES))
    rows = (_row(name, listed=not options.name) for name in names)
    if options.json:
        print(json.dumps(list(rows), indent=2))
    else:
        _print_table(rows, width=max(map(len, names), default=0))
    return 0


def _row(name: str, *, listed: bool) -> dict[str, Any]:
    entry = None if name.startswith("timm/") else registry.find(registry.BACKBONES, name)
    known = SIZES.get(entry.name) if entry is not None and entry.builtin else None
    row: dict[str, Any] = {
        "name": name,
        "origin": entry.origin if entry else "timm",
        "paper_top1": known.top1 if known else None,
    }
    if known is not None:
        return {**row, "parameters": known.parameters, "macs": known.macs, "frozen": known.frozen}
    try:
        return {**row, **_counted(name)}
    except PoolformerError as error:
        if not listed:
            raise
        return {**row, "error": str(error)}


def _counted(name: str) -> dict[str, int]:
    """Return the size and the cost of a network that is not ours, for which it is built and run on shapes alone."""
    first_word.say(f"models {name}")
    import torch  # 2 s

    from ..backbones import create_backbone
    from ..network.complexity import count

    with torch.device("meta"):
        return count(create_backbone(name, image_size=IMAGE_SIZE), image_size=IMAGE_SIZE)._asdict()


def _print_table(rows: Iterable[dict[str, Any]], *, width: int) -> None:
    """Print each row when it is known: to count those of other packages takes seconds."""
    errors = []
    for number, row in enumerate(rows):
        if number == 0:
            _print_line(width, ("backbone", "parameters", "MACs", "paper's top-1", "package"))
        broken = "error" in row
        cost = ("cannot be built", "") if broken else (_parameters(row), f"{row['macs'] / 1e9:.3f} G")
        top1 = f"{row['paper_top1']} %" if row["paper_top1"] else ""
        _print_line(width, (row["name"], *cost, top1, row["origin"]))
        errors += [f"\n{row['error']}"] if broken else []
    note = f"\nMACs at {IMAGE_SIZE} x {IMAGE_SIZE}. Also --model.backbone timm/<model> for any model of timm."
    print(*errors, note, sep="\n")


def _parameters(row: dict[str, Any]) -> str:
    frozen = f" + {row['frozen']:,} frozen" if row["frozen"] else ""
    return f"{row['parameters']:,}{frozen}"


def _print_line(width: int, cells: tuple[str, ...]) -> None:
    name, parameters, macs, top1, origin = cells
    print(f"{name:<{width}}  {parameters:>15}  {macs:>9}  {top1:>13}  {origin}", flush=True)
