"""Evaluating a network of ImageNet-1k on sets with some of its classes, or with several right labels an image.

ImageNet-A (arXiv 1907.07174) and -R (arXiv 2006.16241) have 200 of the classes, and the other logits do not count;
ImageNet-V2 (arXiv 1902.10811) has folders that are called by the number of the class; ImageNet-ReaL (arXiv 2006.07159)
has a list of right labels for every validation image, and leaves out images that have none.

Shapes: B images, N samples of a data set, K classes, R the most right labels that one of them has.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, DataError, describe, printable, suggestion
from .class_names import IMAGENET, imagenet_names

SUBSET, NUMBERS = "subset", "numbers"
NO_LABEL = -1
_SHOWN = 3


def check(options: Mapping[str, Any], stage: str) -> None:
    """Refuse a map of labels where images are trained on or predicted, and of a part of them.

    Args:
        options: Of the data module.
        stage: ``fit``, ``validate``, ``test`` or ``predict``.

    Raises:
        ConfigError: It is given with one of these, or is neither a file nor one of the other maps.
    """
    if (label_map := options["label_map"]) is None:
        return
    if label_map not in (SUBSET, NUMBERS) and not Path(str(label_map)).expanduser().is_file():
        meant = suggestion(str(label_map), [SUBSET, NUMBERS])
        raise ConfigError(
            f"--data.label_map {label_map}: there is no such file.{meant} It is the JSON file of ReaL's labels, "
            f"{SUBSET} for folders called by some of the synsets, or {NUMBERS} for folders called 0 to 999"
        )
    if stage in ("fit", "predict"):
        verb = "train" if stage == "fit" else "predict"
        raise ConfigError(f"--data.label_map {label_map} is for validate and test: leave it out to {verb}")
    for share in ("val_share", "tune_share"):
        if options.get(share) is not None:
            raise ConfigError(f"--data.label_map {label_map} is for whole sets: take --data.{share} back (null)")


def class_names_of(label_map: str | None, names: list[str] | None) -> list[str] | None:
    """Return the names of classes as the network knows them: synsets where the folders are called by numbers.

    Raises:
        DataError: One is no number of a class of ImageNet-1k.
    """
    if label_map != NUMBERS or names is None:
        return names
    synsets = imagenet_names([], IMAGENET) or []
    wrong = [name for name in names if not re.fullmatch(r"\d{1,4}", name) or int(name) >= len(synsets)]
    if wrong:
        shown = ", ".join(printable(name) for name in wrong[:_SHOWN])
        raise DataError(f"--data.label_map numbers: classes are called 0 to {len(synsets) - 1}, and here is {shown}")
    return [synsets[int(name)] for name in names]


def right_labels(label_map: str | None, files: Sequence[str] | None) -> Tensor | None:
    """Return the right labels of each sample, int64 (N, R), filled up with -1; None where there is no list of them.

    Args:
        label_map: A JSON file: a list of labels for each image of ImageNet's validation set by its number, which the
            names of the files end in, or lists by the names of files. Labels number ImageNet-1k's sorted synsets.
        files: Names of the files of the samples; None where they have none.

    Raises:
        ConfigError: The samples have no names.
        DataError: It cannot be read, is no list of labels, or has none for an image.
    """
    if label_map in (None, SUBSET, NUMBERS):
        return None
    path = Path(str(label_map)).expanduser()
    if files is None:
        raise ConfigError(f"--data.label_map {label_map} goes by the names of files: pass a folder of class folders")
    listed = _read(path)
    found = [_labels_of(os.path.basename(file), listed, path) for file in files]
    table = torch.full((len(found), max(1, *map(len, found))), NO_LABEL)
    for row, labels in zip(table, found, strict=True):
        row[: len(labels)] = torch.tensor(labels, dtype=torch.int64)
    return table


def _read(path: Path) -> Any:
    try:
        listed = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is no JSON: {describe(error)[:200]}") from error
    entries = list(listed.values()) if isinstance(listed, dict) else listed
    lists = entries if isinstance(entries, list) else [None]
    if not all(isinstance(each, list) and all(map(_is_label, each)) for each in lists):
        raise DataError(f"'{path}' is no list of labels, 0 to 999, for each image, nor such lists by names of files")
    return listed


def _is_label(value: Any) -> bool:
    return type(value) is int and 0 <= value < IMAGENET


def _labels_of(name: str, listed: Any, path: Path) -> list[int]:
    if isinstance(listed, dict):
        if name not in listed:
            raise DataError(f"'{path}' has no labels for '{printable(name)}'")
        return list(listed[name])
    number = re.search(r"_(\d+)\.\w+$", name)
    if not number or not 1 <= int(number[1]) <= len(listed):
        raise DataError(
            f"'{path}' lists {len(listed)} images by number, and '{printable(name)}' is none of them, such as "
            "ILSVRC2012_val_00000001.JPEG"
        )
    return list(listed[int(number[1]) - 1])


def restricted(logits: Tensor, classes: Tensor) -> Tensor:
    """Return logits (B, K) with all but those of some classes at minus infinity."""
    kept = torch.full_like(logits, -torch.inf)
    kept[:, classes] = logits[:, classes]
    return kept


def best_of_right(logits: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits and labels of the images that have any right label, and which have one, (B,).

    An image's label is then the right one that the network likes best.

    So a prediction is right if it is among them, and of the five likeliest if one of these is.

    Args:
        logits: (B, K).
        right: Right labels, (B, R), filled up with -1.
    """
    right = right.to(logits.device)
    labelled = (right >= 0).any(1)
    logits, right = logits[labelled], right[labelled]
    scores = logits.gather(1, right.clamp(min=0)).masked_fill(right < 0, -torch.inf)
    return logits, right.gather(1, scores.argmax(1, keepdim=True))[:, 0], labelled
