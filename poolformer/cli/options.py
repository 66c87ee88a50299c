"""The parsed options of a verb: completed, and checked as far as can be before anything is built."""

import os
import re
from pathlib import Path

from jsonargparse import Namespace

from .. import option_ranges
from ..configs import default_config, is_overlay
from ..errors import ConfigError
from ..files import paths
from ..network.frame_options import built_options
from ..run import provenance
from .asked import DIGITS, Asked


def complete(options: Namespace, asked: Asked) -> None:
    """Write out ``~`` in every path, refuse what is no path of this machine, and choose the run's directory."""
    _expand_paths(options)
    if options.trainer.default_root_dir is None:
        options.trainer.default_root_dir = str(_run_dir(options, asked))


def _expand_paths(options: Namespace) -> None:
    for name in ("trainer.default_root_dir", "ckpt_path", "model.pretrained"):
        if options.get(name) is not None:
            options[name] = paths.local(options[name], f"--{name}")
    data_options = options.data.get("init_args") if options.get("data") else None
    if data_options and options.data.class_path in provenance.class_paths():
        for name in ("train", "val", "test", "predict"):
            if data_options.get(name) is not None:
                data_options[name] = paths.local(data_options[name], f"--data.{name}")
    for part in (data_options, options.trainer):
        paths.each_text(part, paths.with_home)


def _run_dir(options: Namespace, asked: Asked) -> Path:
    given = options.get("ckpt_path")
    if asked.verb != "fit" and given and Path(given).resolve().parent.name == "checkpoints":
        # What comes out is put beside the checkpoint that it came from.
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
    option_ranges.check_seed(options.seed_everything)
    if asked.files and is_overlay(asked.files[0]) and not options.ckpt_path:
        overlay = f"{asked.files[0].parent.name}/{asked.files[0].stem}"
        raise ConfigError(f"'{overlay}' is an overlay: put --config s12 before it")
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
    built_options(model.backbone, model.as_dict())
