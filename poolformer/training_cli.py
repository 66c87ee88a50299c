"""fit, validate, test and predict: LightningCLI over `ImageClassifier` and the data modules.

What is said wins in this order: flags, later configs, earlier configs, the checkpoint, defaults.
"""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

# lightning 2.6 calls what jsonargparse has renamed (Lightning-AI/pytorch-lightning#21900).
os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")

import lightning.pytorch as pl
import torch
from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from . import callbacks, data
from .checkpoint import hyper_parameters, locate, read
from .classifier import ImageClassifier
from .configs import find_config
from .errors import ConfigError
from .mixer_spec import resolve
from .parser import Parser
from .registry import BACKBONES, find

DEFAULT_CONFIG = "digits"


def run(verb: str, arguments: list[str]) -> None:
    """Run one verb of the trainer.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        arguments: What stood behind it on the command line.

    Raises:
        PoolformerError: A mistake in the arguments, found before anything is trained.
    """
    _quieten()
    for name in data.__all__:  # `--data NAME` finds the classes that are imported
        getattr(data, name)
    arguments, configs = _with_config_files(arguments)
    if not configs and verb == "fit":
        configs = [str(find_config(DEFAULT_CONFIG))]
        arguments = ["--config", configs[0], *arguments]
    TrainingCLI(verb, arguments, run_name="-".join(Path(config).stem for config in configs) or verb)


class TrainingCLI(LightningCLI):
    """LightningCLI with short errors, one directory a run, and a checkpoint that never overrules flags.

    Args:
        verb: The subcommand; only its parser is built.
        arguments: What stood behind it on the command line.
        run_name: Name of the run's directory below ``runs/`` unless one is given.
    """

    def __init__(self, verb: str, arguments: list[str], *, run_name: str):
        self.verb, self.run_name = verb, run_name
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
            save_config_callback=SaveConfigCallback if verb == "fit" else None,
            save_config_kwargs={"overwrite": True},
        )

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

    def before_instantiate_classes(self) -> None:
        """Set the number of threads before anything is computed."""
        if self._options.num_threads is not None:
            torch.set_num_threads(self._options.num_threads)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Put what people change most first in ``--help``: model, data, trainer."""
        parser.add_lightning_class_args(ImageClassifier, "model")
        parser.add_lightning_class_args(pl.LightningDataModule, "data", subclass_mode=True, required=False)
        parser.set_defaults({"data": {"class_path": "poolformer.data.DigitsData"}})
        parser.add_lightning_class_args(pl.Trainer, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})
        # One size for both: the loader makes the images that the mixers are built for.
        parser.link_arguments("data", "model.image_size", compute_fn=_image_size)

    def parse_arguments(self, parser: LightningArgumentParser, args: list[str]) -> None:
        """Parse, with the hyper-parameters of a checkpoint below everything that was said."""
        self.config = parser.parse_args(args)
        self._choose_run_directory()
        if self._options.get("ckpt_path"):
            self._checkpoint_path = locate(self._options.ckpt_path, self._run_dir)
            self._take_defaults_from(self._checkpoint_path)
            self.config = parser.parse_args(args)
            self._choose_run_directory()
        self._check_before_building(args)

    def _check_before_building(self, args: list[str]) -> None:
        dotted = next((word for word in args if word.startswith("--model.mixer.")), None)
        if dotted and isinstance(self._options.model.mixer, list):
            # jsonargparse would change the last of the four and say nothing.
            raise ConfigError(
                f"the configuration lists a token mixer for each stage, so {dotted.partition('=')[0]} does not say "
                "which: write all four, --model.mixer '[pooling, pooling, pooling, {name: attention, head_dim: 16}]'"
            )
        _refuse_growth_of_fixed_sizes(self._options)
        if self.verb != "fit" and not self._options.ckpt_path:
            raise ConfigError(f"{self.verb} needs trained weights: pass --ckpt_path best, last, or a file")
        if not self._options.model.backbone.startswith("timm/"):
            find(BACKBONES, self._options.model.backbone)

    @property
    def _options(self) -> Namespace:
        return self.config[self.verb]

    @property
    def _run_dir(self) -> Path:
        return Path(self._options.trainer.default_root_dir)

    def _choose_run_directory(self) -> None:
        if self._options.trainer.default_root_dir is not None:
            return
        run_dir, given = Path("runs", self.run_name), Path(self._options.get("ckpt_path") or "")
        if self.verb != "fit" and given.parent.name == "checkpoints":
            run_dir = given.parent.parent  # what comes out lies beside the checkpoint it came from
        self._options.trainer.default_root_dir = str(run_dir)

    def _take_defaults_from(self, path: Path) -> None:
        saved = read(path)
        parser = self._subcommand_parsers[self.verb]
        known = {action.dest for action in parser._actions}
        model = {f"model.{name}": value for name, value in hyper_parameters(saved).items()}
        parser.set_defaults({name: value for name, value in model.items() if name in known})
        data_options = dict(saved.get("datamodule_hyper_parameters", {}))
        class_path = data_options.pop("_class_path", None)
        data_options.pop("_instantiator", None)
        # A checkpoint is data: it may name one of our data modules, but nothing that would be imported.
        if class_path in [f"poolformer.data.{name}" for name in data.__all__]:
            parser.set_defaults({"data": {"class_path": class_path, "init_args": data_options}})

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would let the checkpoint overrule the flags (#21455 there)."""

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer of a run: one directory, two checkpoints, TensorBoard, bf16 where it pays."""
        options = self._get(self.config_init, "trainer")
        fits = self.verb == "fit"
        if options.logger in (None, True):
            # Empty name and version: events lie in the run's directory itself.
            kwargs["logger"] = (
                TensorBoardLogger(self._run_dir, name="", version="", default_hp_metric=False) if fits else False
            )
        if options.precision is None:
            kwargs["precision"] = _default_precision(options.accelerator)
        extra = [callbacks.PredictionWriter()] if self.verb == "predict" else []
        if fits and not options.fast_dev_run:
            extra = [*callbacks.checkpoints(), callbacks.Throughput(), callbacks.RunSummary()]
            if not self._options.ckpt_path:
                extra.insert(0, callbacks.MoveEarlierRun(self._run_dir))
            if kwargs.get("logger") or options.logger:
                extra.append(LearningRateMonitor(logging_interval="epoch"))
        return self._instantiate_trainer({**options, **kwargs}, extra)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        arguments = super()._prepare_subcommand_kwargs(subcommand)
        if self._options.get("ckpt_path"):
            arguments["ckpt_path"] = str(self._checkpoint_path)
        return {**arguments, "weights_only": True}

    @rank_zero_only
    def after_fit(self) -> None:
        """Say where everything is and what to do next."""
        if self._options.trainer.fast_dev_run:
            return
        top1 = self.trainer.callback_metrics.get(callbacks.HEADLINE)
        config = self._run_dir / "config.yaml"
        print(
            f"\n{callbacks.HEADLINE} {top1:.4f} after {self.trainer.current_epoch} epochs\n"
            if top1 is not None
            else "\n",
            f"run          {self._run_dir}  (config.yaml, TensorBoard events, checkpoints/best.ckpt, last.ckpt)\n"
            f"look at it   tensorboard --logdir {self._run_dir.parent}\n"
            f"evaluate     poolformer validate --config {config} --ckpt_path best\n"
            f"train on     poolformer fit --config {config} --ckpt_path last --trainer.max_epochs N\n"
            f"another mix  poolformer fit --config {config} --model.mixer identity "
            "--trainer.default_root_dir runs/identity",
            sep="",
        )


def _with_config_files(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Replace packaged names behind ``--config`` by their files; return these too."""
    replaced, configs = [], []
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option not in ("-c", "--config"):
            replaced.append(word)
            continue
        value = value if equals else next(words, None)
        if value is None:
            raise ConfigError(f"{option} needs a file or a name; 'poolformer configs' lists the packaged ones")
        configs.append(str(find_config(value)))
        replaced += ["--config", configs[-1]]
    return replaced, configs


def _refuse_growth_of_fixed_sizes(options: Namespace) -> None:
    growing = (options.data.get("init_args") or {}).get("growth") if options.get("data") else None
    for mixer in resolve(options.model.mixer):
        if growing and mixer.takes_resolution:
            raise ConfigError(
                f"{mixer.label} is built for one number of tokens, so training images cannot grow: "
                "leave out --data.growth"
            )


def _image_size(options: Namespace | None) -> int:
    arguments = options.get("init_args", {}) if options else {}
    return arguments.get("image_size", 224)


def _default_precision(accelerator: Any) -> str:
    """bf16 where the hardware has it; fp16 made PoolFormer diverge (sail-sg/poolformer#22)."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def _quieten() -> None:
    """Silence what Lightning says that is no news to the person at the terminal."""

    class Advertising(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            return "Tip:" not in record.getMessage()

    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(Advertising())
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    for message in (
        r".*isinstance\(treespec, LeafSpec\).*",  # lightning 2.6 with torch >= 2.10
        r".*You have overridden `on_after_batch_transfer`.*",  # on purpose: the model normalises
        r"Checkpoint directory .* exists and is not empty",  # it does when a run goes on
        r"Be aware that when using `ckpt_path`, callbacks used to create",  # evaluation keeps no checkpoints
        r"The dirpath has changed from",
        r".*does not have many workers.*",  # the digits load fastest in the training process
        r"Couldn't infer the batch indices",  # our loader tells them itself
    ):
        warnings.filterwarnings("ignore", message)
