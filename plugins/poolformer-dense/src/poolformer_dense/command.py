"""``poolformer-segment`` and ``poolformer-detect``: Lightning's command line for `Segmenter` and for `Detector`."""

import inspect
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from poolformer.cli import model_section, said
from poolformer.cli.lightning_refusals import told
from poolformer.cli.parser import Parser
from poolformer.cli.quiet import quieten
from poolformer.errors import ConfigError, PoolformerError, of_memory, of_the_system, one_line, suggestion
from poolformer.files.shell import program, quoted
from poolformer.registry import make_current_directory_importable


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


_DATA = ("--data", "--data.class_path")


class _CLI(LightningCLI):
    """Lightning's, whose mistakes are a line, as they are at poolformer's.

    Args:
        name: The command, ``segment`` or ``detect``.
        model: Its model.
        data: Base of its data modules.
        trainer: Defaults of the trainer.
    """

    def __init__(
        self,
        name: str,
        model: type[pl.LightningModule],
        data: type[pl.LightningDataModule],
        trainer: Mapping[str, int],
    ):
        self._data = data
        try:
            super().__init__(
                model,
                data,
                subclass_mode_data=True,
                parser_class=Parser,
                parser_kwargs={"prog": f"poolformer-{name}"},
                seed_everything_default=0,
                trainer_defaults={"default_root_dir": f"runs/{name}", **trainer},
                save_config_kwargs={"overwrite": True},
            )
        except SystemExit as left:
            if (signum := _signal_behind(left)) is None or not self.trainer.is_global_zero:
                raise
            _tell_stopped(name, self.trainer, signum)
            raise SystemExit(128 + signum) from None

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return all verbs but ``predict``, whose results Lightning would keep in memory and drop at the end."""
        return {verb: left_out for verb, left_out in LightningCLI.subcommands().items() if verb != "predict"}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line, of which options win over configurations wherever they stand, as at poolformer's."""
        order = {**dict.fromkeys(said.CONFIG, 0), **dict.fromkeys(_DATA, 1)}  # the data module before its options
        flags = sys.argv[2:]
        model_section.warn_of_dropped(flags)
        words = sorted(
            said.each(model_section.with_names_in_flags(flags)), key=lambda each: order.get(each.option or "", 2)
        )
        self.config = parser.parse_args(sys.argv[1:2] + [word for each in words for word in each.words])

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Make a parser that knows what its mistakes are told by."""
        parser: Any = super().init_parser(**kwargs)
        parser.has_help_page, parser.data_base = False, self._data
        parser.data_class, parser.flags = f"{self._data.__module__}.{self._data.__qualname__}", sys.argv[2:]
        return parser


def _run(name: str, model: type[pl.LightningModule], data: type[pl.LightningDataModule], **trainer: int) -> int:
    quieten()
    make_current_directory_importable()
    try:
        _check_data(data, sys.argv[1:])
        with told(inspect.signature(pl.Trainer).parameters):
            fitted = _CLI(name, model, data, trainer).trainer
        if fitted.state.fn == TrainerFn.FITTING and not fitted.fast_dev_run:
            _tell(name, fitted, fitted.log_dir)  # which all processes have to ask for
    except PoolformerError as error:
        return _say(name, error, error)
    except OSError as error:
        return _say(name, of_the_system(error), error)
    except (MemoryError, RuntimeError) as error:
        return _say(name, of_memory(error), error)
    return 0


@rank_zero_only
def _tell(name: str, trainer: pl.Trainer, log_dir: str | None) -> None:
    """Say where a run is that has been trained, how to look at it, and how to evaluate it."""
    if log_dir is None:
        return
    print(f"run          {log_dir}")
    if any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
        print(f"look at it   {program('tensorboard')} --logdir {quoted(trainer.default_root_dir)}")
    if checkpoint := getattr(trainer.checkpoint_callback, "best_model_path", ""):
        command = f"{program(f'poolformer-{name}')} validate --config {quoted(os.path.join(log_dir, 'config.yaml'))}"
        print(f"evaluate     {command} --ckpt_path {quoted(_from_here(checkpoint))}")


def _signal_behind(left: SystemExit) -> signal.Signals | None:
    """Return the signal of which Lightning has made an exit with code 0 or 1 and without a word."""
    if isinstance(left, SIGTERMException):
        return signal.SIGTERM
    return signal.SIGINT if isinstance(left.__context__, KeyboardInterrupt) else None


def _tell_stopped(name: str, trainer: pl.Trainer, signum: signal.Signals) -> None:
    said, saver = f"poolformer-{name}: stopped by {signum.name}", trainer.checkpoint_callback
    last, best = (getattr(saver, f"{which}_model_path", "") for which in ("last", "best"))
    saved = last or best
    if trainer.state.fn == TrainerFn.FITTING and saved and trainer.loggers:
        logger = trainer.loggers[0]
        # As Lightning's own `log_dir`, which would ask the other processes.
        folder = logger.log_dir or logger.save_dir or trainer.default_root_dir
        config = os.path.join(folder, "config.yaml")
        words = f"fit --config {quoted(config)} --ckpt_path {quoted(_from_here(saved))}"
        epoch = " from its best epoch, the last that is saved" if not last and getattr(saver, "monitor", None) else ""
        said += f"; to resume{epoch}: {program(f'poolformer-{name}')} {words}"
    print(said, file=sys.stderr)


def _from_here(path: str) -> str:
    """Return a path as short as it is from the current directory."""
    return str(Path(path).relative_to(Path.cwd())) if Path(path).is_relative_to(Path.cwd()) else path


def _check_data(base: type[pl.LightningDataModule], words: Sequence[str]) -> None:
    """Check the name of the data module, which Lightning's command line says much about and not which there are."""
    classes = [each for each in vars(sys.modules[base.__module__]).values() if inspect.isclass(each)]
    known = sorted(each.__name__ for each in classes if issubclass(each, base) and each is not base)
    known = [name for name in known if not name.startswith("_")]
    named = [value for value in said.values(words, *_DATA) if value.isidentifier() and value not in known]
    if named:
        raise ConfigError(
            f"there is no data module '{named[0]}' here.{suggestion(named[0], known)} There is {', '.join(known)}, "
            "or a class of your own, module.Class."
        )
    heard = [each.option or "" for each in said.each(words)]
    may_say = any(
        option in (*_DATA, "-h", "--help", *said.CONFIG) or option.startswith("--print_") or option.endswith(".help")
        for option in heard
    )
    if words[:1] in [[verb] for verb in _CLI.subcommands()] and not may_say:
        raise ConfigError(f"say which data: --data NAME, of {', '.join(known)}, or a class of your own, module.Class")


def _say(name: str, mistake: PoolformerError | None, error: BaseException) -> int:
    if mistake is None:  # a bug, not a mistake
        raise error
    print(f"poolformer-{name}: error: {one_line(mistake)}", file=sys.stderr)
    return 2
