"""``poolformer-segment`` and ``poolformer-detect``: Lightning's command line for `Segmenter` and for `Detector`."""

import inspect
import sys

import lightning.pytorch as pl
from lightning.pytorch.cli import LightningCLI

from poolformer.cli.lightning_refusals import told
from poolformer.errors import PoolformerError, of_memory, of_the_system, one_line


def segment() -> int:
    """Run a verb of ``poolformer-segment``; a mistake is a line and the exit code 2."""
    from .data import MaskModule
    from .segmenter import Segmenter

    return _run("segment", Segmenter, MaskModule)


def detect() -> int:
    """Run a verb of ``poolformer-detect``; a mistake is a line and the exit code 2."""
    from .boxes import BoxModule
    from .detector import Detector

    return _run("detect", Detector, BoxModule, max_epochs=12)


class _CLI(LightningCLI):
    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return all verbs but ``predict``, whose results Lightning would keep in memory and drop at the end."""
        return {verb: left_out for verb, left_out in LightningCLI.subcommands().items() if verb != "predict"}


def _run(name: str, model: type[pl.LightningModule], data: type[pl.LightningDataModule], **trainer: int) -> int:
    try:
        with told(inspect.signature(pl.Trainer).parameters):
            _CLI(
                model,
                data,
                subclass_mode_data=True,
                seed_everything_default=0,
                trainer_defaults={"default_root_dir": f"runs/{name}", **trainer},
                save_config_kwargs={"overwrite": True},
            )
    except PoolformerError as error:
        return _say(name, error, error)
    except OSError as error:
        return _say(name, of_the_system(error), error)
    except (MemoryError, RuntimeError) as error:
        return _say(name, of_memory(error), error)
    return 0


def _say(name: str, mistake: PoolformerError | None, error: BaseException) -> int:
    if mistake is None:  # a bug, not a mistake
        raise error
    print(f"poolformer-{name}: error: {one_line(mistake)}", file=sys.stderr)
    return 2
