"""A listing of the names of one entry-point group, and of what one of them takes: for `mixers` and `data`."""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .. import registry
from .arguments import CommandParser


class Listing(NamedTuple):
    """What a command lists.

    Attributes:
        group: Entry-point group.
        command: Name of the command.
        option: The option that takes one of the names.
        parameters: Function of what an entry has loaded, which returns its options by name.
    """

    group: str
    command: str
    option: str
    parameters: Callable[[Callable[..., Any]], Mapping[str, inspect.Parameter]]


def show(listing: Listing, description: str, argv: list[str]) -> int:
    """Print the names, or what one of them takes; the names alone import nothing."""
    parser = CommandParser(prog=f"poolformer {listing.command}", description=description)
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"as for {listing.option}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    names = registry.listing(listing.group)
    if options.name is not None:
        names = {options.name: registry.find(listing.group, options.name)}
    rows = [_row(name, entry) for name, entry in names.items()]
    if options.name is not None:
        rows[0].update(_details(names[options.name].load(), listing))
    text = _one(rows[0]) if options.name is not None else _table(rows, listing)
    print(json.dumps(rows, indent=2) if options.json else text)
    return 0


def _row(name: str, entry: registry.Entry) -> dict[str, Any]:
    return {"name": name, "package": entry.distribution, "version": entry.version, "factory": entry.value}


def _details(factory: Callable[..., Any], listing: Listing) -> dict[str, Any]:
    return {
        "summary": (inspect.getdoc(factory) or "no description").splitlines()[0],
        "options": {name: str(parameter) for name, parameter in listing.parameters(factory).items()},
    }


def _one(row: dict[str, Any]) -> str:
    options = "\n".join(f"  {option}" for option in row["options"].values()) or "  none"
    origin = f"{row['package']} {row['version']}, {row['factory']}" if row["package"] else row["factory"]
    return f"{row['name']}  ({origin})\n{row['summary']}\n\noptions:\n{options}"


def _table(rows: list[dict[str, Any]], listing: Listing) -> str:
    lines = [(row["name"], f"{row['package']} {row['version']}", row["factory"]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    cells = [[f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)] for line in lines]
    table = "\n".join("  ".join(row).rstrip() for row in cells)
    return f"{table}\n\n'poolformer {listing.command} NAME' shows what one takes; use it with {listing.option} NAME."
