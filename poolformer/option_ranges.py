"""What numbers the options take beyond their types: rows of tables, so that a range is said in one place."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import ConfigError

RENAMED: dict[str, str] = {}
"""Options of the model that are called otherwise now, former name to present one: checkpoints keep the former."""

MAX_IMAGE_SIZE = 16384
"""Pixels; a side that is larger is a slip, and takes all memory before anything can be said of it."""


class Range(NamedTuple):
    """Numbers that an option takes, in words and as limits; ``above`` and ``below`` leave out the limit itself."""

    words: str
    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: Any) -> bool:
        low = self.least < value if self.above else self.least <= value
        high = value < self.most if self.below else value <= self.most
        return low and high and math.isfinite(value)


FROM_0 = Range("a number from 0 up", 0)
ABOVE_0 = Range("a number above 0", 0, above=True)
SHARE = Range("a number from 0 to 1", 0, 1)
COUNT = Range("an integer from 1 up", 1)
COUNT_FROM_0 = Range("an integer from 0 up", 0)
PART = Range("a number above 0 and below 1", 0, 1, above=True, below=True)
SIDE = Range(f"pixels from 1 to {MAX_IMAGE_SIZE}", 1, MAX_IMAGE_SIZE)

MODEL = {
    "num_classes": COUNT_FROM_0,  # 0 for features alone, as in timm
    "layer_scale_init": Range("a number"),
    "drop_path_rate": Range("a number from 0 to less than 1", 0, 1, below=True),
    "position_embedding": Range("a stage from 1 to 4", 1, 4),
    "image_size": SIDE,
    "in_chans": COUNT,
    "layer_decay": Range("a number above 0, at most 1", 0, 1, above=True),
    "lr": FROM_0,
    "lr_batch_size": COUNT,
    "weight_decay": FROM_0,
    "warmup_epochs": COUNT_FROM_0,
    "warmup_lr": FROM_0,
    "min_lr": FROM_0,
    "cooldown_epochs": COUNT_FROM_0,
    "mixup": FROM_0,
    "cutmix": FROM_0,
    "label_smoothing": Range("a number from 0 to less than 1", 0, 1, below=True),
    "erase_prob": SHARE,
    "teacher_weight": SHARE,
    "mean": Range("numbers"),
    "std": Range("numbers above 0", 0, above=True),
}
DIGITS = {"batch_size": COUNT, "image_size": SIDE, "shift": SHARE, "num_workers": COUNT_FROM_0, "tune_share": PART}
IMAGES = {
    "batch_size": COUNT,
    "image_size": SIDE,
    "crop_pct": Range("a number above 0, at most 1", 0, 1, above=True),
    "hflip": SHARE,
    "pad": COUNT_FROM_0,
    "scale": Range("two numbers above 0, at most 1, the smaller first", 0, 1, above=True),
    "ratio": Range("two numbers above 0, the smaller first", 0, above=True),
    "num_workers": COUNT_FROM_0,
    "val_share": PART,
    "tune_share": PART,
}
NO_END = "the cosine needs an end: set --trainer.max_epochs, beside max_steps too"
_BATCHES = "a share from 0 to 1 or a number of batches"
TRAINER = {
    "max_epochs": Range("an integer from 1 up", 1),
    "min_epochs": COUNT_FROM_0,
    "max_steps": Range("an integer from 1 up, or -1 for no limit", 1),
    "min_steps": COUNT_FROM_0,
    "num_nodes": COUNT,
    "log_every_n_steps": COUNT_FROM_0,
    "check_val_every_n_epoch": COUNT,
    "accumulate_grad_batches": COUNT,
    "num_sanity_val_steps": Range("an integer from 0 up, or -1 for all", -1),
    "reload_dataloaders_every_n_epochs": COUNT_FROM_0,
    "gradient_clip_val": FROM_0,
    "limit_train_batches": Range(_BATCHES, 0),
    "limit_val_batches": Range(_BATCHES, 0),
    "limit_test_batches": Range(_BATCHES, 0),
    "limit_predict_batches": Range(_BATCHES, 0),
    "overfit_batches": Range(_BATCHES, 0),
    "val_check_interval": Range(f"{_BATCHES}, above 0", 0, above=True),
}


def check_trainer(options: Mapping[str, Any]) -> None:
    """Check the trainer's numbers.

    Raises:
        ConfigError: As `check`.
    """
    no_limit = [name for name in ("max_epochs", "max_steps") if options.get(name) == -1]
    check("trainer", options, {name: range_ for name, range_ in TRAINER.items() if name not in no_limit})
    for name, range_ in TRAINER.items():
        if range_.words.startswith(_BATCHES) and isinstance(options.get(name), float) and options[name] > 1:
            raise ConfigError(f"--trainer.{name} got '{options[name]}', but expects {range_.words}")


def check_end(options: Mapping[str, Any]) -> None:
    """Check that training has a number of epochs, which its learning rate goes down over.

    Args:
        options: The trainer's.

    Raises:
        ConfigError: There is none, as Lightning reads them: none is said, or no limit, and something else ends it.
    """
    epochs = options.get("max_epochs")
    other_end = options.get("max_steps", -1) != -1 or options.get("max_time") is not None
    if not options.get("fast_dev_run") and (epochs == -1 or (epochs is None and other_end)):
        raise ConfigError(NO_END)


def check_seed(seed: int | bool | None) -> None:
    """Check the seed of everything, which NumPy takes 32 bits of.

    Raises:
        ConfigError: It is out of range.
    """
    if seed is True or (seed is not None and not 0 <= seed < 2**32):
        raise ConfigError(f"--seed_everything got '{seed}', but expects an integer from 0 to {2**32 - 1}")


def check_images(options: Mapping[str, Any]) -> None:
    """Check the numbers of a data module of images.

    Raises:
        ConfigError: As `check`.
    """
    check("data", options, IMAGES)
    for name in ("scale", "ratio"):
        if list(options[name]) != sorted(options[name]):
            raise ConfigError(f"--data.{name} got '{list(options[name])}', but expects {IMAGES[name].words}")


def check(section: str, options: Mapping[str, Any], ranges: Mapping[str, Range]) -> None:
    """Check the numbers of a section; what is None, or no number, is not looked at.

    Args:
        section: ``model``, ``data`` or ``trainer``.
        options: Its options by name; a list is in a range if all of its numbers are.
        ranges: What they take.

    Raises:
        ConfigError: One is out of its range; the first, with what it takes.
    """
    for name, range_ in ranges.items():
        value = options.get(name)
        numbers = value if isinstance(value, list | tuple) else [value]
        if not all(number in range_ for number in numbers if isinstance(number, int | float)):
            raise ConfigError(f"--{section}.{name} got {_written(value)}, but expects {range_.words}")


def _written(value: Any) -> str:
    return f"'{list(value) if isinstance(value, tuple) else value}'"
