"""The arguments of `poolformer ablate`, and those that `poolformer judge` shares with it."""

import argparse

from ..commands.arguments import CommandParser, local_folder, number
from ..commands.arguments import split_flags as split_flags
from ..errors import ConfigError
from . import rows as rows_of

SHARE = 0.1
"""Of the training images: what a try holds out to choose by."""
# What a flag for every run may not say, and what does instead.
_OURS = {
    "-c": "--config before '--', or a row of your own",
    "--config": "--config before '--', or a row of your own",
    "--ckpt_path": "nothing: an interrupted run is resumed by itself",
    "--seed_everything": "--seeds",
    "--trainer.default_root_dir": "--out",
    "--trainer.fast_dev_run": "--trainer.max_epochs 1 --trainer.limit_train_batches 2",
    "--print_config": "poolformer fit --config BASE --config ablation/ROW --print_config",
    "--help": "poolformer fit --help",
    "-h": "poolformer fit --help",
}


def parser(description: str | None) -> CommandParser:
    """Return the parser of the command's own arguments."""
    own = CommandParser(
        "poolformer ablate",
        usage="poolformer ablate [options] [-- FLAGS FOR EVERY FIT]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    rows = ", ".join(rows_of.row_names())
    own.add_argument("--config", action="append", metavar="BASE", help="base; repeat to lay one over another (digits)")
    own.add_argument("--rows", nargs="+", metavar="ROW", help=f"all that fit by default: {rows}; YAML files; mixers")
    own.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="seeds of each row (0)")
    own.add_argument("--base", metavar="ROW", help="row that the others' differences are to (the first)")
    add_tries(own)
    own.add_argument("--format", choices=["md", "latex"], default="md", help="latex: table.tex too, and shown (md)")
    own.add_argument("--out", type=local_folder, help="directory of all runs and the table (runs/ablation/BASE)")
    own.add_argument("--jobs", type=int, metavar="N", help="runs at once (1; on SLURM as many as it gives)")
    own.add_argument("--launcher", choices=["local", "submitit"], default="local", help="this machine, or SLURM")
    own.add_argument("--slurm", nargs="+", type=_parameter, default=[], metavar="KEY=VALUE", help="see above")
    return own


def add_tries(parser: argparse.ArgumentParser) -> None:
    """Add the options of equal tuning, which ``judge`` has as well."""
    share = number(float, "a number above 0 and below 1", least=0, most=1 - 1e-9, above=True)
    parser.add_argument(
        *("--try",), dest="tries", action="append", default=[], metavar="OPTION=VALUE,VALUE", help="see above"
    )
    parser.add_argument(
        "--try_share", type=share, default=SHARE, metavar="SHARE", help="of the training images, held out (%(default)s)"
    )
    parser.add_argument("--try_seeds", nargs="+", type=int, metavar="N", help="seeds of each value (the first seed)")


def check(options: argparse.Namespace, flags: list[str]) -> None:
    """Check the command's own arguments, and the flags behind '--', as far as they say it alone.

    Raises:
        ConfigError: One is out of its range or place.
    """
    check_flags(flags)
    if options.jobs is not None and options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: at least one run at a time")
    for name in ("seeds", "try_seeds"):
        given = getattr(options, name) or []
        if not all(0 <= seed < 2**32 for seed in given):
            raise ConfigError(f"--{name} {' '.join(map(str, given))}: integers from 0 to {2**32 - 1}")
    if options.slurm and options.launcher == "local":
        raise ConfigError("--slurm goes with --launcher submitit")


def check_flags(flags: list[str]) -> None:
    """Check that flags may go to every fit.

    Raises:
        ConfigError: One of them says what the command itself says to each fit.
    """
    for flag in flags:
        if (name := flag.partition("=")[0]) in _OURS:
            raise ConfigError(f"{name} is not for every fit; use {_OURS[name]}")


def _parameter(text: str) -> tuple[str, int | str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return name, int(value) if value.isdecimal() and str(int(value)) == value else value  # account=007
