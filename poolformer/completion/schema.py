"""Print the JSON schema of configuration files, from which editors complete options and underline what is misspelt.

For a file of yours: poolformer schema > schema.json, and as a line of it
# yaml-language-server: $schema=schema.json

Names and options are those of what is installed, plugins' too. A class or a mixer that is not known is not refused.
"""

import json
from argparse import RawDescriptionHelpFormatter

from ..commands.arguments import CommandParser


def main(argv: list[str]) -> int:
    """Print it."""
    parser = CommandParser(prog="poolformer schema", description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument(
        "--without_plugins", action="store_true", help="of this package alone, as the file beside its configurations"
    )
    plugins = not parser.parse_args(argv).without_plugins
    from ..cli import schema  # jsonargparse and Lightning: seconds

    print(json.dumps(schema.of_configurations(plugins=plugins), indent=1))
    return 0
