"""List the configurations that --config finds by name, from any directory."""

import argparse

from ..configs import config_dir, config_names


def main(argv: list[str]) -> int:
    """Print each name with the first line of its file."""
    argparse.ArgumentParser(prog="poolformer configs", description=__doc__).parse_args(argv)
    names = config_names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {_headline(name)}")
    print(f"\nFiles: {config_dir()}")
    return 0


def _headline(name: str) -> str:
    with (config_dir() / f"{name}.yaml").open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()
