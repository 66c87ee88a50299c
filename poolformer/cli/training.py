"""fit, validate, test and predict: LightningCLI over `ImageClassifier` and the data modules.

What is said wins in this order: flags, later configs, earlier configs, the checkpoint, the defaults.
"""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# lightning 2.6 calls what jsonargparse has renamed (Lightning-AI/pytorch-lightning#21900).
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")

import lightning.pytorch as pl
import torch
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from lightning.pytorch.callbacks import LearningRateMonitor, Timer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from .. import (
    data,
    option_ranges,
)
from ..checkpoint.dry_save import DrySave
from ..checkpoint.reading import candidates, hyper_parameters, import_references, locate, read_run
from ..checkpoint.reading import options as checkpoint_options
from ..checkpoint.writing import SafeCheckpointIO, WhenSavingFails
from ..claims import Outline, check_claims
from ..classifier import METRICS, RUN, ImageClassifier
from ..configs import default_config, find_config, is_overlay, read_config, run_name
from ..errors import CheckpointError, ConfigError, MisfitError, PoolformerError, RunError
from ..files import paths
from ..files.shell import quoted
from ..network.frame_options import built_options, takes_mixer, with_built
from ..network.mixer_spec import resolve
from ..run import (
    callback_rules,
    callbacks,
    closing,
    earlier_runs,
    guards,
    host_memory,
    provenance,
)
from ..run import config as run_config
from ..run import directory as run_directory
from ..run import files as run_files
from ..run.evaluated_data import EvaluatedData
from ..run.event_log import SafeTensorBoardLogger
from ..run.monitors import WatchedMetrics
from ..run.stopping import StopAfterSteps, StopOnSignal, Stopped, WholeSteps, end_with_launcher
from . import (
    data_section,
    lightning_refusals,
    plain_options,
    user_classes,
)
from .model_section import without_foreign_mixers
from .parser import Parser
from .quiet import quieten

DIGITS = data_section.class_path("DigitsData")


def run(verb: str, arguments: list[str]) -> "TrainingCLI":
    """Run one verb of the trainer; what is returned holds the trainer, the model and the data module.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        arguments: What stood behind it on the command line.

    Raises:
        PoolformerError: A mistake in the arguments, found before anything is trained.
    """
    end_with_launcher()
    return _started(TrainingCLI, verb, arguments)


def settings(verb: str, arguments: list[str]) -> dict[str, Any]:
    """Return what the options of a verb resolve to, as ``config.yaml`` holds it; nothing is built or run.

    Raises:
        PoolformerError: As `run`, as far as it can be found without building anything.
    """
    return _started(_Settings, verb, arguments).as_saved()


def check_start(verb: str, arguments: list[str]) -> None:
    """Build all that a verb needs, and open the data where it is one of our modules; nothing is run or written.

    Raises:
        PoolformerError: As `run`, as far as it can be found before the first batch.
    """
    cli = _started(_Start, verb, arguments)
    data_module, model = cli.datamodule, cli.model
    if not type(data_module).__module__.startswith("poolformer.data."):  # another's may want its trainer
        return
    data_module.setup(verb)
    data_module.train_dataloader()
    classes, known = data_module.num_classes or 0, model.hparams.num_classes
    if classes > known:
        raise ConfigError(f"the data has {classes} classes and the model {known}: pass --model.num_classes {classes}")
    model.augment.check_batch_size(data_module.batch_size)


def _started(cli: type["TrainingCLI"], verb: str, arguments: list[str]) -> "TrainingCLI":
    quieten()
    for name in data.__all__:  # `--data NAME` finds the classes that are imported
        getattr(data, name)
    flags, files = _split_configs(arguments)
    return cli(verb, flags, files)


class TrainingCLI(LightningCLI):
    """LightningCLI with short errors, one directory a run, and a checkpoint that never overrules flags.

    Args:
        verb: The subcommand; only its parser is built.
        flags: What stood behind it on the command line, without the configuration files.
        files: The configuration files; later ones win.
    """

    def __init__(self, verb: str, flags: list[str], files: list[Path]):
        self.verb, self.flags, self.files = verb, flags, files
        self.contents = without_foreign_mixers([self._read(file) for file in files], flags)
        user_classes.check(list(zip(files, self.contents, strict=True)), flags)
        self.data_class = data_section.chosen_class(self.contents, flags)
        self.data_named = data_section.named(self.contents, flags)
        # Files first: flags win wherever they stand. As text, not by name: they are read already.
        texts = [json.dumps(data_section.of_class(content, self.data_class)) for content in self.contents]
        arguments = [word for text in texts for word in ("--config", text)] + flags
        super().__init__(
            ImageClassifier,
            pl.LightningDataModule,
            subclass_mode_data=True,
            args=[verb, *arguments],
            parser_class=Parser,
            parser_kwargs={"prog": "poolformer", "allow_abbrev": False},
            trainer_defaults={"max_epochs": 310, "enable_model_summary": False},
            seed_everything_default=42,
            auto_configure_optimizers=False,
            save_config_callback=None,  # RunDirectory does it, when nothing can fail any more
        )

    def _read(self, file: Path) -> dict[str, Any]:
        """Read a configuration; that of a run means the directory which it lies in."""
        content = read_config(file)
        if file.name == run_config.NAME and run_config.is_of_a_run(file) and run_files.is_run(file.parent):
            asked = _last_value(self.flags, "--trainer.default_root_dir")
            return run_config.in_its_place(content, file, run_dir=asked and os.path.expanduser(asked))
        return content

    def subcommands(self) -> dict[str, set[str]]:
        """Offer the one verb that was asked for, without a switch to load checkpoints as code."""
        return {self.verb: LightningCLI.subcommands()[self.verb] | {"weights_only"}}

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what holds for the whole process."""
        super().add_default_arguments_to_parser(parser)
        parser.add_argument(
            "--num_threads",
            type=PositiveInt | None,
            default=None,
            help="CPU threads of PyTorch in this process; null for one a core. Small networks are fastest with 1.",
        )
        parser.add_argument(
            "--save_every_n_steps",
            type=PositiveInt | None,
            default=None,
            help="Write last.ckpt every so many steps too; null for the end of each epoch alone.",
        )
        parser.add_argument(
            "--if_saving_fails",
            type=WhenSavingFails,
            default="stop",
            help="Whether training ends or goes on when a checkpoint or the log cannot be written, as on a full disk; "
            "the checkpoint before it is kept.",
        )

    def before_instantiate_classes(self) -> None:
        """Set the number of threads before anything is computed."""
        if self._options.num_threads is not None:
            torch.set_num_threads(self._options.num_threads)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Put what people change most first in ``--help``: model, data, trainer."""
        parser.add_lightning_class_args(ImageClassifier, "model")
        parser.add_lightning_class_args(pl.LightningDataModule, "data", subclass_mode=True, required=False)
        parser.set_defaults({"data": {"class_path": self.data_class or DIGITS}})
        parser.add_lightning_class_args(pl.Trainer, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})
        if data_section.has_image_size(self.data_class):
            # One size for both: the loader makes the images that the mixers are built for.
            parser.link_arguments("data", "model.image_size", compute_fn=data_section.image_size_of)

    def parse_arguments(self, parser: LightningArgumentParser, args: list[str]) -> None:
        """Parse, with the hyper-parameters of a checkpoint below everything that was said."""
        verb_parser = self._subcommand_parsers[self.verb]
        verb_parser.files, verb_parser.flags = list(zip(self.files, self.contents, strict=True)), self.flags
        if self.data_class:
            verb_parser.data_class = self.data_class
        verb_parser.description = "Defaults: the paper's; --print_config shows what --config files make of them."
        if self.verb == "fit" and not self.files and self.data_named in (None, DIGITS):
            verb_parser.description = "Defaults: digits.yaml, as there is no --config; with one, the paper's are shown."
            [defaults] = without_foreign_mixers([read_config(default_config())], self.flags)
            self._set_defaults(data_section.of_class(defaults, self.data_class))
        try:
            self.config = parser.parse_args(self._without_what_waits(args))
        except ConfigError:
            if {"-h", "--help"} & set(self.flags):  # of a data module that needs an option, which help is to tell of
                parser.parse_args([self.verb, "--help"])
            raise
        self._read_paths()
        self._choose_run_directory()
        if self._options.get("ckpt_path"):
            if earlier_runs.recover(self._run_dir):
                rank_zero_info(f"An interrupted start had begun to move the run in '{self._run_dir}' away; it is back")
            self._checkpoint_path = locate(self._options.ckpt_path, self._run_dir)
            self._take_defaults_from(self._checkpoint_path)
        self.config = parser.parse_args(args)
        self._read_paths()
        self._choose_run_directory()
        self._check_before_building()

    def _read_paths(self) -> None:
        """Write out ``~`` in every option that is a path, once and for all; refuse what is no path of this machine."""
        options = self._options
        for name in ("trainer.default_root_dir", "ckpt_path", "model.pretrained"):
            if options.get(name) is not None:
                options[name] = paths.local(options[name], f"--{name}")
        data_options = options.data.get("init_args") if options.get("data") else None
        if data_options and options.data.class_path in data_section.class_paths():
            for name in ("train", "val", "test", "predict"):
                if data_options.get(name) is not None:
                    data_options[name] = paths.local(data_options[name], f"--data.{name}")
        for part in (data_options, options.trainer):
            paths.each_text(part, paths.with_home)

    def _without_what_waits(self, words: list[str]) -> list[str]:
        """Leave out what can only be answered when the checkpoint has been read: help, and options of its data."""
        kept, waits = [], False
        for word in words:
            waits = waits and not word.startswith("--")  # the value of an option that waits
            if word.startswith("--data.") and not self.data_class and not word.startswith("--data.class_path"):
                waits = "=" not in word
            elif not waits and word not in ("-h", "--help") and not word.startswith("--print_config"):
                kept.append(word)
        return kept

    def _check_before_building(self) -> None:
        model = self._options.model
        option_ranges.check_trainer(vars(self._options.trainer))
        option_ranges.check_seed(self._options.seed_everything)
        if self.files and is_overlay(self.files[0]) and not self._options.ckpt_path:
            raise ConfigError(
                f"'{self.files[0].parent.name}/{self.files[0].stem}' lies over another configuration: put --config s12 "
                "before it"
            )
        dotted = next((word for word in self.flags if word.startswith("--model.mixer.")), None)
        if dotted and isinstance(model.mixer, list):
            # jsonargparse would change the last of the four and say nothing.
            raise ConfigError(
                f"the configuration lists a token mixer for each stage, so {dotted.partition('=')[0]} does not say "
                "which: write all four, --model.mixer '[pooling, pooling, pooling, {name: attention, head_dim: 16}]'"
            )
        if self.verb != "fit" and not (self._options.ckpt_path or model.pretrained):
            raise ConfigError(
                f"{self.verb} needs trained weights: pass --ckpt_path best, last, or a file of a run, "
                "or --model.pretrained with published ones"
            )
        if self.verb != "fit" and self.data_named is None and not self._options.ckpt_path:
            raise ConfigError(
                f"{self.verb} with published weights needs data: add --config s12 and the like, or --data FolderData"
            )
        built_options(model.backbone, model.as_dict())

    @property
    def _options(self) -> Namespace:
        return self.config[self.verb]

    @property
    def _run_dir(self) -> Path:
        return Path(self._options.trainer.default_root_dir)

    @property
    def _keeps_a_run(self) -> bool:
        """Whether a directory is to hold what is trained."""
        trainer = self._options.trainer
        return self.verb == "fit" and not trainer.fast_dev_run and not trainer.barebones

    @property
    def _goes_on(self) -> bool:
        """Whether a checkpoint of the run in this very directory is continued."""
        path = self._options.get("ckpt_path") and self._checkpoint_path.resolve()
        return bool(path) and path.parent == (self._run_dir / "checkpoints").resolve()

    def _choose_run_directory(self) -> None:
        if self._options.trainer.default_root_dir is not None:
            return
        given = self._options.get("ckpt_path")
        if self.verb != "fit" and given and Path(given).resolve().parent.name == "checkpoints":
            # What comes out lies beside the checkpoint that it came from.
            run_dir = Path(os.path.relpath(Path(given).resolve().parent.parent))
        else:
            named = self.data_named or DIGITS
            alone = default_config().stem if named == DIGITS else re.split(r"[.:/]", named)[-1]
            run_dir = Path("runs", run_name(self.files) or alone)
        self._options.trainer.default_root_dir = str(run_dir)

    def _take_defaults_from(self, path: Path) -> None:
        saved = read_run(path)
        self._checkpoint_step, self._outline = saved["global_step"], Outline(saved["state_dict"])
        model = hyper_parameters(saved)
        # A checkpoint is data: it may not choose what is imported.
        for option in ("mixer", "backbone"):
            foreign = import_references(model.get(option))
            if foreign and import_references(self._options.model[option]) != foreign:
                raise CheckpointError(
                    f"'{path}' was trained with {option} {foreign[0]!r}, a module that you have to vouch for: "
                    f"add --model.{option} {quoted(model[option])}"
                )
        ours = data_section.class_paths()
        trained_on = provenance.trained_on(saved, RUN, ours)
        if self.data_named is None and trained_on not in ours:
            raise provenance.unknown(path, trained_on, ours)
        if trained_on in ours:
            data_options = checkpoint_options(saved, "datamodule_hyper_parameters")
            data_options.pop("_class_path", None)
            content = {"data": {"class_path": trained_on, "init_args": data_options}}
            content = run_config.beside(content, path.absolute().parent.parent)
            data_class = self.data_class or trained_on
            self._subcommand_parsers[self.verb].data_class = data_class
            self._set_defaults(data_section.of_class(content, data_class, known_options_only=True))
        self._set_defaults({"model": model})

    def _set_defaults(self, options: dict[str, Any]) -> None:
        """Put options below everything that is said; names that are no options any more are left out."""
        parser = self._subcommand_parsers[self.verb]
        known = {action.dest for action in parser._actions}
        for section, values in options.items():
            if section in ("model", "trainer"):
                named = {f"{section}.{name}": value for name, value in values.items()}
                parser.set_defaults({name: value for name, value in named.items() if name in known})
            else:
                parser.set_defaults({section: values})

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would let the checkpoint overrule the flags (#21455 there)."""

    def _add_instantiators(self) -> None:
        super()._add_instantiators()
        # Lightning's have the hyper-parameters of the modules recorded.
        for (class_type, subclasses), build in list(self.parser._instantiators.items()):
            self.parser.add_instantiator(user_classes.building(build), class_type, subclasses=subclasses)
        self.parser.add_instantiator(user_classes.building(user_classes.build), object)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; what they refuse comes out as they said it."""
        plain_options.make_plain(self._options)
        said = self.config
        if self._options.ckpt_path and self._options.model.pretrained:
            rank_zero_info(f"The weights come from --ckpt_path; '{self._options.model.pretrained}' is not read")
            self.config = said.clone()
            self._options.model.pretrained = None
        try:
            if self._options.ckpt_path:
                check_claims(self._outline, self._options.model.as_dict())
            super().instantiate_classes()
        except MisfitError as error:
            if not self._options.ckpt_path:  # of --model.pretrained, which it names
                raise
            raise self._named(error) from error
        except ValueError as error:
            cause: BaseException | None = error  # jsonargparse wraps what a constructor raises
            while cause is not None and not isinstance(cause, PoolformerError):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from error
        finally:
            self.config = said  # what config.yaml says, to run again from the start
        if self.verb == "fit" and self.trainer.strategy.root_device.type == "cpu":
            host_memory.keep_freed()

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer of a run: one directory, two checkpoints, TensorBoard, bf16 where it pays."""
        options = self._get(self.config_init, "trainer")
        callback_rules.check(options.callbacks or [])
        if options.precision is None:
            kwargs["precision"] = _default_precision(options.accelerator)
        if options.logger in (None, True):
            kwargs["logger"] = self._keeps_a_run and self._tensorboard()
        extra: list[pl.Callback] = [EvaluatedData()]
        extra += [callbacks.PredictionWriter()] if self.verb == "predict" else []
        if options.barebones:
            kwargs |= {"logger": False, "log_every_n_steps": None}
        if self._keeps_a_run:
            extra += self._callbacks_of_a_run(logs=bool(kwargs.get("logger", options.logger)))
            kwargs["plugins"] = _plugins(options.plugins, self._options.if_saving_fails)
            if options.max_steps != -1:
                extra.append(StopAfterSteps(options.max_steps))
                kwargs["max_steps"] = -1
        else:
            extra.append(StopOnSignal())
        try:
            trainer = self._instantiate_trainer({**options, **kwargs}, extra)
        except Exception as error:
            if refused := lightning_refusals.refusal(error, vars(options)):
                raise refused from error
            raise
        cores = os.cpu_count() or 1
        if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > max(8, 2 * cores):
            raise ConfigError(
                f"--trainer.devices {trainer.num_devices}: on a CPU each is a process, and there are {cores} cores"
            )
        next(each for each in extra if isinstance(each, StopOnSignal)).attach(trainer)
        return trainer

    def _tensorboard(self) -> SafeTensorBoardLogger:
        # Empty name and version: the events lie in the run's directory itself. What was logged after the
        # checkpoint is logged again, so TensorBoard leaves it out.
        purge_step = self._checkpoint_step if self._goes_on else None
        return SafeTensorBoardLogger(
            self._run_dir,
            if_saving_fails=self._options.if_saving_fails,
            name="",
            version="",
            default_hp_metric=False,
            purge_step=purge_step,
        )

    def _callbacks_of_a_run(self, *, logs: bool) -> list[pl.Callback]:
        directory = run_directory.RunDirectory(
            self._run_dir,
            goes_on=self._goes_on,
            from_last=self._goes_on and self._checkpoint_path.name == "last.ckpt",
            save_config=self._save_config,
        )
        folder = self._run_dir / "checkpoints"
        finite, saves = guards.FiniteTraining(folder), self._options.trainer.enable_checkpointing is not False
        extra = [guards.DiskSpace(folder, goes_on=self._goes_on), DrySave()] if saves else []
        extra = [WatchedMetrics(), WholeSteps(), finite, *extra, directory]
        if saves:
            extra += run_directory.checkpoints(self._run_dir, self._options.save_every_n_steps)
        extra += [callbacks.Throughput(), callbacks.RunSummary()]
        extra.append(StopOnSignal(folder / "last.ckpt" if saves else None))
        return [*extra, LearningRateMonitor(logging_interval="epoch")] if logs else extra

    def _save_config(self, path: Path) -> None:
        # Without the checkpoint it went on from: the file says how to run this again.
        options = self._options.clone()
        options.ckpt_path = None
        options.seed_everything = self.model.seed  # a run that goes on keeps the one it started with
        for option, value in built_options(options.model.backbone, options.model.as_dict()).items():
            options.model[option] = value
        dumped = plain_options.without_objects(self._parser(self.verb).dump(options, skip_none=False))
        path.write_text(run_config.as_text(dumped, yaml.safe_load(dumped)), encoding="utf-8")

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        arguments = super()._prepare_subcommand_kwargs(subcommand)
        if self._options.get("ckpt_path"):
            # Absolute, as Lightning takes whatever begins with http for an address.
            arguments["ckpt_path"] = str(self._checkpoint_path.absolute())
        return {**arguments, "weights_only": True}

    def _named(self, error: MisfitError) -> CheckpointError:
        return CheckpointError(f"'{self._checkpoint_path}': {error}{candidates(self._checkpoint_path)}")

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except MisfitError as error:
            raise self._named(error) from error
        except SIGTERMException:  # Lightning's, with exit code 0: a signal that came before our handler
            raise SystemExit(128 + signal.SIGTERM) from None
        except Exception as error:
            if done := re.search(r"checkpoint with current_epoch=(\d+)", str(error)):
                raise ConfigError(
                    f"'{self._checkpoint_path}' is at {done[1]} epochs already: raise --trainer.max_epochs"
                ) from error
            if refused := lightning_refusals.refusal(error, vars(self._options.trainer)):
                raise refused from error
            raise

    def fit(self, **arguments: Any) -> None:
        """Train, with the run's directory locked; when a signal has ended it, say how to go on."""
        self._stamp = closing.stamp(self._run_dir)
        try:
            with self._locked():
                self.trainer.fit(**arguments)
        except Stopped:
            self._say_how_to_go_on()
            raise
        except SystemExit as left:  # what Lightning makes of Ctrl-C before the first batch, with exit code 1
            if not isinstance(left.__context__, KeyboardInterrupt):
                raise
            raise SystemExit(128 + signal.SIGINT) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Loggers make their files before any hook of a callback.
        directory = next((one for one in self.trainer.callbacks if isinstance(one, run_directory.RunDirectory)), None)
        if directory is None:
            yield
            return
        if self.trainer.is_global_zero:
            directory.open()
        try:
            yield
        finally:
            directory.close()

    @rank_zero_only
    def _say_how_to_go_on(self) -> None:
        if self._has_started and (self._run_dir / "checkpoints" / "last.ckpt").is_file():
            config = self._run_dir / "config.yaml"
            print(f"run    {quoted(self._run_dir)}\ngo on  poolformer fit --config {quoted(config)} --ckpt_path last")

    @property
    def _has_started(self) -> bool:
        """Whether a batch was due, so that the run's directory holds this run."""
        directory = next((one for one in self.trainer.callbacks if isinstance(one, run_directory.RunDirectory)), None)
        return directory is not None and directory.started

    @rank_zero_only
    def after_fit(self) -> None:
        """Say where everything is and what to do next."""
        if not self._keeps_a_run:
            return
        if not self._has_trained:
            path = self._checkpoint_path if self._options.ckpt_path else None
            epochs, steps = self.trainer.current_epoch, self.trainer.global_step
            options, limit = self._options.trainer, self._limit
            print(closing.nothing_trained(options, path, epochs=epochs, steps=steps, limit=limit))
            return
        if not getattr(self.trainer.strategy.checkpoint_io, "saved", True):
            raise RunError(f"the end of the run in '{self._run_dir}' could not be saved; its checkpoints are of before")
        print(f"\n{closing.report(self._run_dir, self.trainer, METRICS, other_mixer=self._another_mixer())}")

    @property
    def _has_trained(self) -> bool:
        if not self._has_started:  # or in processes that were spawned, of which the directory alone tells
            return closing.stamp(self._run_dir) != self._stamp
        measured = run_directory.HEADLINE in self.trainer.callback_metrics
        return not self._options.ckpt_path or measured or self.trainer.global_step != self._checkpoint_step

    @property
    def _limit(self) -> str:
        """The option that ended the run."""
        if 0 <= self._options.trainer.max_steps <= self.trainer.global_step:
            return "max_steps"
        left = [callback.time_remaining() for callback in self.trainer.callbacks if isinstance(callback, Timer)]
        return "max_time" if any(each is not None and each <= 0 for each in left) else "max_epochs"

    def _another_mixer(self) -> str | None:
        """Return a token mixer to try next, None for a backbone that has none to choose."""
        if not takes_mixer(self._options.model.backbone):
            return None
        trained = {mixer.name for mixer in resolve(self.model.hparams.mixer)}
        return "pooling" if trained == {"identity"} else "identity"


class _Settings(TrainingCLI):
    """Parses and checks, and stops there."""

    def as_saved(self) -> dict[str, Any]:
        saved = yaml.safe_load(self._parser(self.verb).dump(self._options, skip_none=False))
        return {**saved, "model": with_built(saved["model"])}

    def _set_seed(self) -> None: ...

    def before_instantiate_classes(self) -> None: ...

    def instantiate_classes(self) -> None: ...

    def _run_subcommand(self, subcommand: str) -> None: ...


class _Start(_Settings):
    """Builds, and stops there."""

    instantiate_classes = TrainingCLI.instantiate_classes


def _split_configs(arguments: list[str]) -> tuple[list[str], list[Path]]:
    """Split the arguments into flags and configuration files, packaged names replaced by their files."""
    flags, files = [], []
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option not in ("-c", "--config"):
            flags.append(word)
            continue
        value = value if equals else next(words, None)
        if value is None:
            raise ConfigError(f"{option} needs a file or a name; 'poolformer configs' lists the packaged ones")
        file = paths.local(value, option)
        if Path(file).name == run_config.NAME:
            earlier_runs.recover(Path(file).parent)
        files.append(find_config(file))
    return flags, files


def _last_value(flags: list[str], option: str) -> str | None:
    """Return what stands behind an option; the last one counts."""
    found = None
    for index, word in enumerate(flags):
        name, equals, value = word.partition("=")
        if name == option:
            found = value if equals else next(iter(flags[index + 1 : index + 2]), None)
    return found


def _plugins(given: Any, if_saving_fails: WhenSavingFails) -> list[Any]:
    plugins = list(given) if isinstance(given, list) else [given] if given else []
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(SafeCheckpointIO(if_saving_fails))
    named = any(isinstance(plugin, ClusterEnvironment) for plugin in plugins)
    # torchrun inside a job says itself which rank a process is.
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect() and not named:
        # Lightning would requeue the job with a checkpoint outside of the run's, which then starts as another run.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return plugins


def _default_precision(accelerator: Any) -> str:
    """bf16 where the hardware has it; fp16 made PoolFormer diverge (sail-sg/poolformer#22)."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
