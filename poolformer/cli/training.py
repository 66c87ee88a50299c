"""fit, validate, test and predict: LightningCLI over `ImageClassifier` and the data modules.

Where several set an option, the first of these counts: flags, later configs, earlier ones, the checkpoint, defaults.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

# lightning 2.6 calls what jsonargparse has renamed (Lightning-AI/pytorch-lightning#21900).
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")

import lightning.pytorch as pl
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from .. import data
from ..claims import check_claims
from ..classifier import ImageClassifier
from ..counts import counted
from ..errors import ConfigError, MisfitError, PoolformerError, causes
from ..network.frame_options import with_built
from ..run import host_memory, same_run
from ..run import resume as resuming
from ..run import trainer as run_trainer
from ..run.directory import locked
from ..run.ending import Ending
from ..run.launch import leave_agents_store
from ..run.orphans import end_with_launcher
from ..run.places import Places
from ..run.stopping import Stopped
from . import checkpoint_defaults, class_count, data_section, lightning_refusals, options, plain_options, user_classes
from .asked import DIGITS, Asked
from .lightning_internals import OneVerbCLI, ParsingCLI, try_classes_first
from .parser import Parser
from .quiet import quieten

_CHECKPOINTS = "Checkpoint to evaluate: best, last, or a file of a run; options that are left out come from it."
_CHECKPOINTS_OF_FIT = (
    "Checkpoint to resume from: last, best, or a file of a run; options that are left out come from it. auto resumes "
    "from last where the run has it and begins it otherwise, with the same options and data only: for jobs that are "
    "started again."
)


def run(verb: str, arguments: list[str]) -> "TrainingCLI":
    """Run one verb of the trainer; what is returned holds the trainer, the model and the data module.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        arguments: What stood behind it on the command line.

    Raises:
        PoolformerError: A mistake in the arguments, found before anything is trained.
    """
    end_with_launcher()
    leave_agents_store()
    return _started(TrainingCLI, verb, arguments)


def build(verb: str, arguments: list[str]) -> "TrainingCLI":
    """Build what a verb needs: the same as `run` returns, of which nothing has run or is written.

    Raises:
        PoolformerError: As `run`, as far as it can be found without running anything.
    """
    return _started(_BuildingCLI, verb, arguments)


def settings(verb: str, arguments: list[str]) -> dict[str, Any]:
    """Return what the options of a verb resolve to, as ``config.yaml`` holds it; nothing is built or run.

    Without the number of classes where that is the data's, which is not opened.

    Raises:
        PoolformerError: As `run`, as far as it can be found without building anything.
    """
    cli = _started(_SettingsCLI, verb, arguments)
    saved = plain_options.as_mapping(cli.options, cli.verb_parser)
    model = with_built(saved["model"])
    if class_count.is_open(cli.asked):
        del model["num_classes"]
    return {**saved, "model": model}


def check_start(verb: str, arguments: list[str]) -> None:
    """Build all that a verb needs, and open the data where it is one of our modules; nothing is run or written.

    Raises:
        PoolformerError: As `run`, as far as it can be found before the first batch.
    """
    cli = build(verb, arguments)
    data_module, model = cli.datamodule, cli.model
    if not type(data_module).__module__.startswith("poolformer.data."):  # another's may want its trainer
        return
    data_module.setup(verb)
    data_module.train_dataloader()
    classes, known = data_module.num_classes or 0, model.hparams.num_classes
    if classes > known:
        raise ConfigError(
            f"the data has {counted(classes, 'class')} and the model {known}: pass --model.num_classes {classes}"
        )
    model.augment.check_batch_size(data_module.batch_size)


def _started(cli: type["TrainingCLI"], verb: str, arguments: list[str]) -> "TrainingCLI":
    quieten()
    for name in data.__all__:  # `--data NAME` finds the classes that are imported
        getattr(data, name)
    with Places() as places:
        return cli(Asked(verb, arguments, places))


class TrainingCLI(OneVerbCLI):
    """LightningCLI with short errors, one directory a run, and a checkpoint that never overrules flags.

    Args:
        asked: The verb and what it is asked for; only its parser is built.
    """

    def __init__(self, asked: Asked):
        self.asked, self.verb = asked, asked.verb
        self.resume: resuming.Resume | None = None
        super().__init__(
            ImageClassifier,
            pl.LightningDataModule,
            subclass_mode_data=True,
            args=[asked.verb, *asked.words],
            parser_class=Parser,
            parser_kwargs={"prog": "poolformer", "allow_abbrev": False},
            trainer_defaults={"max_epochs": 310, "enable_model_summary": False},
            seed_everything_default=42,
            auto_configure_optimizers=False,
            save_config_callback=None,  # RunDirectory does it, when nothing can fail any more
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's knows no instance
        """Offer the one verb that was asked for, without a switch to load checkpoints as code."""
        return {self.verb: LightningCLI.subcommands()[self.verb] | {"weights_only"}}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Put what people change most first in ``--help``: the process, model, data, trainer."""
        options.add_process_options(parser, self.verb)
        parser.add_lightning_class_args(ImageClassifier, "model")
        parser.add_lightning_class_args(pl.LightningDataModule, "data", subclass_mode=True, required=False)
        parser.set_defaults({"data": {"class_path": self.asked.data_class or DIGITS}})
        parser.add_lightning_class_args(pl.Trainer, "trainer")
        try_classes_first(parser, ("trainer.accelerator", "trainer.strategy"))
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})
        if data_section.has_image_size(self.asked.data_class):
            # One size for both: the loader makes the images that the mixers are built for.
            parser.link_arguments("data", "model.image_size", compute_fn=data_section.image_size_of)

    def parse_arguments(  # type: ignore[override]  # it is given the words alone
        self, parser: LightningArgumentParser, args: list[str]
    ) -> None:
        """Parse, with the hyper-parameters of a checkpoint below everything that was said."""
        asked, verb_parser = self.asked, self.verb_parser
        verb_parser.files, verb_parser.flags, verb_parser.description = asked.read_files, asked.flags, asked.description
        verb_parser.data_class = asked.data_class or verb_parser.data_class
        verb_parser.set_section_defaults(asked.defaults)
        verb_parser.describe("ckpt_path", _CHECKPOINTS_OF_FIT if self.verb == "fit" else _CHECKPOINTS)
        before = [self.verb, *asked.words_before_checkpoint]
        try:
            self.config = parser.parse_args(before)
        except ConfigError:
            if asked.wants_help:  # of a data module that needs an option, which help is to tell of
                parser.parse_args([self.verb, "--help"])
            raise
        options.complete(self.options, asked)
        if self.options.get("ckpt_path") not in (None, same_run.AUTO):
            self.resume = checkpoint_defaults.take(self.options, asked, verb_parser)
        if self.resume or args != before:  # or else it would come out as before, in a tenth of a second
            self.config = parser.parse_args(args)
            options.complete(self.options, asked)
        options.check(self.options, asked)
        if self.options.get("ckpt_path") == same_run.AUTO:
            self.resume = checkpoint_defaults.find_own(self.options, asked, verb_parser)

    def before_instantiate_classes(self) -> None:
        """Set the number of threads before anything is computed."""
        if self.options.num_threads is not None:
            torch.set_num_threads(self.options.num_threads)
            # Lightning sets a number of its own for each of several processes, where this says none.
            os.environ["OMP_NUM_THREADS"] = str(self.options.num_threads)

    build_object = staticmethod(user_classes.build)
    building = staticmethod(user_classes.building)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; what they refuse comes out as they said it."""
        said = self.config
        if self.resume and self.options.model.pretrained:
            rank_zero_info(f"The weights come from --ckpt_path; '{self.options.model.pretrained}' is not read")
            self.config = said.clone()
            self.options.model.pretrained = self.options.model.pretrained_skip = None
        try:
            if self.resume:
                check_claims(self.resume.outline, self.options.model.as_dict())
            elif class_count.is_open(self.asked):
                self._build_data_first()
            elif class_count.is_of_weights(self.asked) and self.options.model.pretrained:
                class_count.take_from_weights(self.options)
            super().instantiate_classes()
        except MisfitError as error:
            if self.resume is None:  # of --model.pretrained, which it names
                raise
            raise self.resume.misfit(error) from error
        except ValueError as error:
            if (ours := _ours_behind(error)) is None:
                raise
            raise ours from error
        finally:
            self.config = said  # what config.yaml says, to run again from the start
        if self.verb == "fit" and self.trainer.strategy.root_device.type == "cpu":
            host_memory.keep_freed()

    def _build_data_first(self) -> None:
        """Build the data, and choose the network's number of classes by it."""
        alone = Namespace(data=self.options.data)
        built = self.verb_parser.instantiate_classes(alone, instantiate_groups=False).data
        class_count.take_from_data(self.options, built)
        # What the model's hyper-parameters are recorded of; Lightning has written it out for the data's.
        self.config_dump["model"]["num_classes"] = self.options.model.num_classes
        self.config = self.config.clone()
        self.options.data = built

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer of a run: one directory, two checkpoints, TensorBoard, bf16 where it pays."""
        self.run_options = run_trainer.RunOptions(
            verb=self.verb,
            options={**self.trainer_options, **kwargs},
            resume=self.resume,
            save_config=self.save_config,
            save_every_n_steps=self.options.get("save_every_n_steps"),
            if_saving_fails=self.options.if_saving_fails,
            is_auto=self.options.get("ckpt_path") == same_run.AUTO,
            log_without=self.options.get("log_without"),
            top_k=self.options.get("top_k"),
            out=self.options.get("out"),
            sheet=self.options.get("sheet"),
        )
        with lightning_refusals.told(vars(self.options.trainer)):
            return run_trainer.build(self.run_options, self._build_trainer)

    def _build_trainer(self, options: dict[str, Any], callbacks: list[Callback]) -> pl.Trainer:
        return self.build_trainer(options, [*callbacks, *self.asked.places.callbacks()])

    def save_config(self, path: Path) -> None:
        """Write ``config.yaml``; a method, as processes that are spawned get it."""
        options.save(self.options, path, self.verb_parser, seed=self.model.seed)

    def verb_arguments(self) -> dict[str, Any]:
        """Load checkpoints as data, from an absolute path: Lightning takes whatever begins with http for an address."""
        return {"weights_only": True, "ckpt_path": str(self.resume.path.absolute()) if self.resume else None}

    def run_verb(self, run: Callable[[], None]) -> None:
        """Call the trainer's method; its mistakes come out as ours."""
        try:
            checkpoint = self.resume.path if self.resume else None
            with lightning_refusals.told(vars(self.options.trainer), checkpoint=checkpoint):
                run()
        except MisfitError as error:
            if self.resume is None:
                raise
            raise self.resume.misfit(error) from error
        except SIGTERMException:  # Lightning's, with exit code 0: a signal that came before our handler
            raise SystemExit(128 + signal.SIGTERM) from None

    def fit(self, **arguments: Any) -> None:
        """Train, with the run's directory locked; when a signal has ended it, say how to resume."""
        self.ending = Ending(self.run_options)
        try:
            with locked(self.trainer):
                self.trainer.fit(**arguments)
        except Stopped as stopped:
            self.ending.say_stopped(self.trainer, stopped.code)
            raise
        except SystemExit as left:  # what Lightning makes of Ctrl-C before the first batch, with exit code 1
            if not isinstance(left.__context__, KeyboardInterrupt):
                raise
            self.ending.say_stopped(self.trainer, 128 + signal.SIGINT)
            raise SystemExit(128 + signal.SIGINT) from None

    def after_fit(self) -> None:
        """Say where everything is and what to do next."""
        self.ending.say_over(self.trainer, self.model.hparams)


class _SettingsCLI(ParsingCLI, TrainingCLI):
    """Parses and checks, and stops there."""


class _BuildingCLI(_SettingsCLI):
    """Builds, and stops there."""

    instantiate_classes = TrainingCLI.instantiate_classes


def _ours_behind(error: BaseException) -> PoolformerError | None:
    """Return the error of ours that jsonargparse has wrapped, as it does with what a constructor raises."""
    return next((each for each in causes(error) if isinstance(each, PoolformerError)), None)
