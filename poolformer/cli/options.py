"""The options of a verb beside those of classes: added, completed, checked before anything is built, and saved."""

import os
import re
from pathlib import Path

import yaml
from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from lightning.pytorch.cli import LightningArgumentParser

from .. import optimizers, option_ranges
from ..configs import check_base, default_config
from ..errors import ConfigError
from ..files import paths
from ..files.shown import shown
from ..network.frame_options import built_options
from ..option_words import LogParts, WhenSavingFails
from ..run import config, contact_sheet, predictions, provenance, same_run
from ..run.launch import launched, launches_itself
from . import data_section
from .asked import DIGITS, Asked


def add_process_options(parser: LightningArgumentParser, verb: str) -> None:
    """Add what holds for the whole process, and what a verb writes."""
    if verb == "predict":
        parser.add_argument(
            "--top_k",
            type=PositiveInt | None,
            default=None,
            help="Classes an image, likeliest first; null for 5, or all of fewer.",
        )
        parser.add_argument(
            "--out",
            type=str | None,
            default=None,
            help="File to write, .csv or .jsonl, which must not be there; null for predictions.csv in the run's "
            "directory, and predictions.2.csv beside it.",
        )
        parser.add_argument(
            "--sheet",
            type=str | None,
            default=None,
            help="Picture to write, .png or .jpg: the images that the network is least and most certain of, with what "
            "it says of them.",
        )
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
        help="Whether training stops or continues when a checkpoint or the log cannot be written, as on a full disk; "
        "the checkpoint before it is kept.",
    )
    parser.add_argument(
        "--log_without",
        type=LogParts,
        default=None,
        help="What TensorBoard is not to have of the pictures and curves that docs/monitoring.md lists, such as "
        "[errors, norms]; all for none of them.",
    )


def complete(options: Namespace, asked: Asked) -> None:
    """Write out ``~`` in every path, refuse what is no path of this machine, and choose the run's directory."""
    _stand_in_for_urls(options, asked)
    _expand_paths(options)
    for name in ("out", "sheet"):
        if options.get(name) is not None:
            options[name] = paths.local(options[name], f"--{name}")
    if options.trainer.default_root_dir is None:
        options.trainer.default_root_dir = str(_run_dir(options, asked))


def _stand_in_for_urls(options: Namespace, asked: Asked) -> None:
    """Have directories and files of this machine stand for the URLs of a run and of a checkpoint."""
    trainer, given = options.trainer, options.get("ckpt_path")
    if trainer.default_root_dir is not None and paths.is_url(trainer.default_root_dir):
        trains = asked.verb == "fit" and not trainer.fast_dev_run and not trainer.barebones
        trainer.default_root_dir = str(
            asked.places.run_dir(
                os.fspath(trainer.default_root_dir),
                keeps=trains and not asked.wants_no_run,
                writes=asked.verb == "predict",
                named=given,
            )
        )
        paths.each_text(trainer, asked.places.of_trainer)
    if given is not None and paths.is_url(given):
        writes = asked.verb == "predict" and trainer.default_root_dir is None
        options.ckpt_path = str(asked.places.checkpoint(os.fspath(given), writes=writes))
    if asked.verb != "fit":
        asked.places.keep_results()


def _expand_paths(options: Namespace) -> None:
    for name in ("trainer.default_root_dir", "ckpt_path"):
        if options.get(name) is not None:
            options[name] = paths.local(paths.without_scheme(os.fspath(options[name])), f"--{name}")
    for name in ("pretrained", "teacher"):
        if options.model.get(name) is not None:
            options.model[name] = paths.local(options.model[name], f"--model.{name}")
    data_options = options.data.get("init_args") if options.get("data") else None
    if data_options and options.data.class_path in provenance.class_paths():
        fetches = options.data.class_path == data_section.class_path("FFCVData")
        for name in ("train", "val", "test", "predict"):
            given = data_options.get(name)
            if isinstance(given, list):
                data_options[name] = [_local_data(one, name, fetches=fetches) for one in given]
            elif given is not None:
                data_options[name] = _local_data(given, name, fetches=fetches)
    for part in (data_options, options.trainer):
        paths.each_text(part, paths.with_home)


def _local_data(given: str, name: str, *, fetches: bool) -> str:
    if fetches and paths.is_url(given):
        return given
    return paths.local(paths.without_scheme(given) if fetches else given, f"--data.{name}")


def _run_dir(options: Namespace, asked: Asked) -> Path:
    given = options.get("ckpt_path")
    if asked.verb != "fit" and given and Path(given).resolve().parent.name == "checkpoints":
        # What comes out is put beside the checkpoint that it came from.
        if asked.places.url_of(Path(given).parent.parent):
            return Path(given).parent.parent
        return Path(os.path.relpath(Path(given).resolve().parent.parent))
    named = asked.data_named or DIGITS
    alone = default_config().stem if named == DIGITS else re.split(r"[.:/]", named)[-1]
    return Path("runs", asked.name or alone)


def check(options: Namespace, asked: Asked) -> None:
    """Refuse what cannot be meant.

    Raises:
        ConfigError: With the reason, in a line.
        OptionsError: The backbone has no such option.
    """
    model = options.model
    option_ranges.check_trainer(vars(options.trainer))
    if asked.verb == "fit":
        option_ranges.check_end(vars(options.trainer))
    option_ranges.check_seed(options.seed_everything)
    if not launches_itself(options.trainer.plugins) and (launch := launched()) is not None:
        launch.check(vars(options.trainer))
    for name, suffixes in (("out", predictions.SUFFIXES), ("sheet", contact_sheet.SUFFIXES)):
        if options.get(name) is not None:
            paths.check_new(options[name], f"--{name}", suffixes)
    if options.ckpt_path == same_run.AUTO and asked.verb != "fit":
        raise ConfigError(f"--ckpt_path auto is for fit; {asked.verb} takes best, last, or a file of a run")
    if options.ckpt_path in (None, same_run.AUTO):
        check_base(asked.files)
    dotted = next((word for word in asked.flags if word.startswith("--model.mixer.")), None)
    if dotted and isinstance(model.mixer, list):
        # jsonargparse would change the last of the four and say nothing.
        raise ConfigError(
            f"the configuration lists a token mixer for each stage, so {dotted.partition('=')[0]} does not say "
            "which: write all four, --model.mixer '[pooling, pooling, pooling, {name: attention, head_dim: 16}]'"
        )
    if asked.verb != "fit" and not (options.ckpt_path or model.pretrained):
        raise ConfigError(
            f"{asked.verb} needs trained weights: pass --ckpt_path best, last, or a file of a run, "
            "or --model.pretrained with published ones"
        )
    if asked.verb != "fit" and asked.data_named is None and not options.ckpt_path:
        raise ConfigError(
            f"{asked.verb} with published weights needs data: add --config s12 and the like, or --data FolderData"
        )
    if asked.verb == "predict":
        predictions.checked_top_k(options.top_k, model.num_classes, name="--top_k")
    built_options(model.backbone, model.as_dict())
    if asked.verb == "fit":
        optimizers.resolve(options.model.as_dict()["optimizer"])


def save(options: Namespace, path: Path, parser: LightningArgumentParser, *, seed: int) -> None:
    """Write options to a file, without the checkpoint that is resumed: it says how to run this again.

    Args:
        options: Of the verb.
        path: The file.
        parser: Of the verb.
        seed: That the run has; one that is resumed keeps the one it started with.
    """
    saved = options.clone()
    saved.ckpt_path, saved.seed_everything = None, seed
    for option, value in built_options(saved.model.backbone, saved.model.as_dict()).items():
        saved.model[option] = value
    dumped = shown(parser.dump(saved, skip_none=False))
    path.write_text(config.as_text(dumped, yaml.safe_load(dumped)), encoding="utf-8")
