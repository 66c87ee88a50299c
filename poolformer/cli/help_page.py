"""``--help`` of fit, validate, test and predict: the options that matter first, then all of them in groups."""

import re
import shutil
import textwrap
import types
import typing
from argparse import SUPPRESS, Action, ArgumentParser, HelpFormatter
from collections.abc import Sequence
from datetime import timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from .option_texts import TEXTS

_OUTPUT = ("log_without", "trainer.logger", "trainer.log_every_n_steps", "trainer.enable_progress_bar")
FIRST = {
    "fit": (
        *("config", "data", "data.train", "data.batch_size", "model.backbone", "model.mixer", "model.lr"),
        *("trainer.max_epochs", "trainer.devices", "trainer.default_root_dir", "ckpt_path"),
    ),
    "validate": ("config", "ckpt_path", "model.pretrained", "data", "data.val", "data.batch_size", "trainer.devices"),
    "test": ("config", "ckpt_path", "model.pretrained", "data", "data.test", "data.batch_size", "trainer.devices"),
    "predict": ("ckpt_path", "data", "data.predict", "out", "top_k", "sheet", "data.batch_size", "trainer.devices"),
}
"""What most people change, of each verb; what the data module does not have is left out."""
GROUPS = (
    (
        "The network",
        (
            *("model.backbone", "model.mixer", "model.num_classes", "model.norm", "model.act", "model.residual"),
            *("model.channel_mlp", "model.layer_scale_init", "model.drop_path_rate", "model.position_embedding"),
            *("model.image_size", "model.mean", "model.std"),
        ),
    ),
    ("Weights to start from", ("ckpt_path", "model.pretrained", "model.pretrained_skip")),
    (
        "Learning",
        (
            *("model.lr", "model.lr_batch_size", "model.optimizer", "model.weight_decay", "model.warmup_epochs"),
            *("model.warmup_lr", "model.min_lr", "model.cooldown_epochs", "model.lr_interval"),
            *("model.layer_decay", "model.freeze"),
            *("trainer.accumulate_grad_batches", "trainer.gradient_clip_val", "trainer.gradient_clip_algorithm"),
        ),
    ),
    (
        "Targets and augmentation of a batch",
        (
            *("model.label_smoothing", "model.mixup", "model.cutmix", "model.erase_prob", "model.teacher"),
            "model.teacher_weight",
        ),
    ),
    ("Data", ("data",)),
    (
        "Length, and when to validate",
        (
            *("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "trainer.min_epochs"),
            *("trainer.min_steps", "trainer.check_val_every_n_epoch", "trainer.val_check_interval"),
            "trainer.num_sanity_val_steps",
        ),
    ),
    (
        "Devices and speed",
        (
            *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.precision"),
            *("num_threads", "model.compile", "model.cuda_graphs", "model.fused", "model.recompute"),
            *("trainer.sync_batchnorm", "trainer.benchmark"),
        ),
    ),
    (
        "What is written",
        (
            *("out", "sheet", "top_k", "trainer.default_root_dir", "save_every_n_steps", "if_saving_fails"),
            *("trainer.enable_checkpointing", *_OUTPUT, "trainer.callbacks"),
        ),
    ),
    (
        "To try out and to look for faults",
        (
            *("trainer.fast_dev_run", "trainer.overfit_batches", "trainer.limit_train_batches"),
            *("trainer.limit_val_batches", "trainer.limit_test_batches", "trainer.limit_predict_batches"),
            *("trainer.profiler", "trainer.detect_anomaly", "trainer.deterministic", "seed_everything"),
        ),
    ),
    ("For the command line itself", ("config", "print_config", "help", "model", "trainer")),
)
_REST = "Seldom needed"
_OF_TRAINING = ("Learning", "Targets and augmentation of a batch", "Length, and when to validate")
_OF_RUNS = ("save_every_n_steps", "if_saving_fails", "log_without", "trainer.enable_checkpointing")
_EPILOG = (
    "A list option with + behind its name adds to the list: --trainer.callbacks+. What a class takes: "
    "--trainer.callbacks.help CLASS, and likewise data, logger, strategy, profiler, accelerator and plugins."
)
_WORDS = ("N", "NUMBER", "TEXT", "PATH", "CLASS", "{...}", "[...]", "null", "true", "false")
_LONG = 40
"""Characters of choices up to which they stand behind the option itself."""


def page(verb: str, actions: Sequence[Action], of_data: Sequence[Action], *, description: str, about_data: str) -> str:
    """Return the help of a verb, as wide as the terminal.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        actions: Of its parser, with what is shown as their defaults.
        of_data: Of the data module that is asked for.
        description: What stands above the options.
        about_data: What stands above those of the data: which module it is, and which there are.
    """
    found = {each.dest: each for each in (*actions, *of_data) if _is_shown(each)}
    first = [name for name in FIRST[verb] if name in found]
    placed = {name for _, names in GROUPS for name in names}
    of_data_names = [name for name in found if name.startswith("data.")]
    groups = [*GROUPS, (_REST, tuple(name for name in found if name not in placed and name not in of_data_names))]
    idle = [
        name
        for title, names in groups
        for name in names
        if name in found and name not in first and (title in _OF_TRAINING or name in _OF_RUNS) and verb != "fit"
    ]
    words = " [IMAGE ...]" if verb == "predict" else ""
    parser = ArgumentParser(
        prog=f"poolformer {verb}",
        usage=_usage(f"poolformer {verb} [--config NAME ...] [--OPTION VALUE ...]{words}"),
        description=description,
        epilog=_EPILOG,
        add_help=False,
        formatter_class=partial(HelpFormatter, max_help_position=26),
    )
    _add(parser, "What matters first", [found[name] for name in first])
    for title, names in groups:
        there = [*names, *(of_data_names if title == "Data" else ())]
        left = [found[name] for name in there if name in found and name not in first and name not in idle]
        _add(parser, title, left, about_data if title == "Data" else None)
    if idle:
        _add(parser, "Of training alone, without effect here", (), ", ".join(f"--{name}" for name in idle))
    return parser.format_help()


def _usage(text: str) -> str:
    """Return a usage in lines as wide as the terminal: argparse leaves one that it is given as it is."""
    width = shutil.get_terminal_size().columns - 2
    return textwrap.fill(text, width, initial_indent=" " * 7, subsequent_indent=" " * 9, break_on_hyphens=False).strip()


def _is_shown(action: Action) -> bool:
    """Return whether an action is an option that is listed: what shows a class's options is said in a sentence."""
    are_options = all(name.startswith("-") for name in action.option_strings)
    return action.help != SUPPRESS and are_options and not action.dest.endswith(".help")


def _add(parser: ArgumentParser, title: str, actions: Sequence[Action], text: str | None = None) -> None:
    group = parser.add_argument_group(title, text and text.replace("%", "%%"))
    for action in actions:
        names = [name for name in action.option_strings if not name.endswith("+")]
        said = TEXTS.get(action.dest) or _plain(action.help or "")
        metavar, choices = _metavar(action.dest, getattr(action, "_typehint", None))
        if choices:
            said += f" One of {', '.join(choices)}."
        if action.default != SUPPRESS and action.dest != "config":
            said += f" (default: {_shown(action.default)})"
        said = said.strip().replace("%", "%%")
        if action.nargs == 0 or action.dest == "print_config":
            group.add_argument(*names, dest=action.dest, action="store_true", help=said)
        else:
            group.add_argument(*names, dest=action.dest, metavar=metavar, help=said)


def _plain(text: str) -> str:
    """Return a text of Lightning's without markup, and without the default that it says, which may be another here."""
    text = re.sub(r"\s*Default: ``[^`]*``\.?", "", " ".join(text.split()))
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text)
    return text.replace("``", "").replace("`", "")


def _metavar(name: str, kind: Any) -> tuple[str, list[str]]:
    """Return what an option takes, in a word or a few, and its choices where they are too many for that."""
    if name in ("config", "model", "trainer"):
        return "NAME" if name == "config" else "FILE", []
    if name == "data":
        return "NAME", []
    parts = list(dict.fromkeys(_kinds(kind)))
    short = [each for each in parts if each in _WORDS]
    choices = [each for each in parts if each not in short]
    if "NUMBER" in short and "N" in short:
        short.remove("N")
    if len("|".join(choices)) > _LONG:
        return "|".join(["CHOICE", *short]), choices
    return "|".join([*choices, *short]) or "VALUE", []


def _kinds(kind: Any) -> list[str]:
    origin = typing.get_origin(kind) or kind
    if origin in (typing.Union, types.UnionType):
        # null last, as what is left when nothing else is said.
        arms = sorted(typing.get_args(kind), key=lambda each: each is types.NoneType)
        return [word for arm in arms for word in _kinds(arm)]
    if origin is typing.Literal:
        return [str(each).lower() for each in typing.get_args(kind)]
    if origin is bool:
        return ["true", "false"]
    if origin is timedelta or not isinstance(origin, type):
        return []
    for base, word in (
        *((types.NoneType, "null"), (int, "N"), (float, "NUMBER"), (str, "TEXT"), (Path, "PATH")),
        *((dict, "{...}"), (list, "[...]"), (tuple, "[...]")),
    ):
        if issubclass(origin, base):
            return [word]
    return ["[...]" if origin.__module__ == "collections.abc" else "CLASS"]


def _shown(value: Any) -> str:
    """Return a default as it would be written in a configuration."""
    if isinstance(value, Namespace):
        class_path: str = value.get("class_path", "")
        return class_path.removeprefix("poolformer.data.") or "{...}"
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list | tuple):
        value = list(value) if isinstance(value, tuple) else value
        try:
            return yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
        except yaml.YAMLError:
            return str(value)
    return str(value)
