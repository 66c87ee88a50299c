"""List the token mixers of all installed packages; with a NAME, its description and options."""

import inspect
import json
from typing import Any

from .. import registry
from .arguments import CommandParser


def main(argv: list[str]) -> int:
    """Print the names, or what one of them takes; the names alone import nothing."""
    parser = CommandParser(prog="poolformer mixers", description=__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="as for --model.mixer")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    names = registry.listing(registry.MIXERS)
    if options.name is not None:
        names = {options.name: registry.find(registry.MIXERS, options.name)}
    rows = [_row(name, entry) for name, entry in names.items()]
    if options.name is not None:
        rows[0].update(_details(rows[0], names[options.name]))
    print(json.dumps(rows, indent=2) if options.json else _table(rows, one=options.name is not None))
    return 0


def _row(name: str, entry: registry.Entry) -> dict[str, Any]:
    return {"name": name, "package": entry.distribution, "version": entry.version, "factory": entry.value}


def _details(row: dict[str, Any], entry: registry.Entry) -> dict[str, Any]:
    from ..network.mixer_spec import option_parameters  # torch, as the factory itself

    factory = entry.load()
    return {
        "summary": (inspect.getdoc(factory) or "no description").splitlines()[0],
        "options": {name: str(parameter) for name, parameter in option_parameters(factory).items()},
    }


def _table(rows: list[dict[str, Any]], *, one: bool) -> str:
    if one:
        (row,) = rows
        options = "\n".join(f"  {option}" for option in row["options"].values()) or "  none"
        origin = f"{row['package']} {row['version']}, {row['factory']}" if row["package"] else row["factory"]
        return f"{row['name']}  ({origin})\n{row['summary']}\n\noptions:\n{options}"
    lines = [(row["name"], f"{row['package']} {row['version']}", row["factory"]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    cells = [[f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)] for line in lines]
    table = "\n".join("  ".join(row).rstrip() for row in cells)
    return f"{table}\n\n'poolformer mixers NAME' shows what one takes; use it with --model.mixer NAME."
