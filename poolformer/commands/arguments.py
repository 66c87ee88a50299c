"""Arguments that several commands share."""

import argparse


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint of a run, and what it may import."""
    parser.add_argument("checkpoint", metavar="CKPT", help="a checkpoint of a run")
    parser.add_argument(
        "--trust",
        metavar="MODULE:NAME",
        action="append",
        default=[],
        help="mixer outside the registry that CKPT may import",
    )
