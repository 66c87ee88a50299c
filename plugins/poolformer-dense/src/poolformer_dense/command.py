"""``poolformer-segment fit|validate|test|predict``: Lightning's command line for `Segmenter`."""

import sys

from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningCLI

from poolformer.errors import PoolformerError, one_line

from . import data  # noqa: F401 (--data finds its classes by name once they are imported)
from .segmenter import Segmenter


def main() -> int:
    """Run a verb; a mistake is a line and the exit code 2."""
    try:
        LightningCLI(
            Segmenter,
            LightningDataModule,
            subclass_mode_data=True,
            seed_everything_default=0,
            trainer_defaults={"default_root_dir": "runs/segment"},
            save_config_kwargs={"overwrite": True},
        )
    except PoolformerError as error:
        print(f"poolformer-segment: error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0
