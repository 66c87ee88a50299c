"""List the configurations that --config finds by name, from any directory."""

from itertools import groupby

from ..configs import config_dir, config_names
from .arguments import CommandParser


def main(argv: list[str]) -> int:
    """Print each name with the first line of its file, folder by folder."""
    CommandParser(prog="poolformer configs", description=__doc__).parse_args(argv)
    names = config_names()
    width = max(map(len, names))
    for name in [name for name in names if "/" not in name]:
        print(f"{name:{width}}  {_headline(name)}")
    for folder, overlays in groupby([name for name in names if "/" in name], lambda name: name.partition("/")[0]):
        print(f"\nOver another, such as --config s12 --config {folder}/...:")
        for name in overlays:
            print(f"{name:{width}}  {_headline(name)}")
    print(f"\nFiles: {config_dir()}")
    return 0


def _headline(name: str) -> str:
    with (config_dir() / f"{name}.yaml").open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()
