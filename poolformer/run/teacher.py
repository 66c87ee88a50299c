"""The teacher of a run: a file of soft labels, compared with what the run is, and asked for each batch's targets."""

import json
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
from torch import Tensor

from ..counts import counted
from ..data.order import Order
from ..data.soft_labels import SoftLabels, expanded
from ..errors import ConfigError
from ..recipe import BatchAugmentation, smooth_targets
from .lightning_internals import current_batch_idx
from .provenance import FACT, class_path_of
from .reproducibility import image_set

VIEWS, CLASSES = "views", "num_classes"
"""Facts of a file of soft labels: `views_of` its data, and how many classes the labels are of."""
# What changes neither which samples there are nor how one looks in an epoch; the files are told by their digest.
_NOT_OF_A_VIEW = {
    *("train", "val", "test", "predict", "val_share", "tune_share", "crop_pct"),
    *("seed", "batch_size", "order", "num_workers", "augment_on", "on_error"),
}
_DIGESTS = {"train_labels": "the labels of the training images", "train_files": "the files of the training images"}
_SHOWN = 4


class Teacher:
    """What a teacher says of the training batches of a run; without a file there is none.

    Args:
        file: That `poolformer teach` wrote.
        weight: Share of the targets that is the teacher's; the rest is the labels'.
        augment: Mixes the targets: for how many classes, and how the labels are smoothed.
    """

    def __init__(self, file: str | None, weight: float, augment: BatchAugmentation):
        self._file, self._weight, self._augment = file, weight, augment
        self._labels: SoftLabels | None = None

    def __bool__(self) -> bool:
        return self._file is not None

    def open(self) -> None:
        """Open the file, for a run that trains.

        Raises:
            DataError: It is missing, cut off, or no such file.
        """
        if self._file is not None:
            self._labels = SoftLabels(self._file)

    def begin(self, trainer: pl.Trainer) -> None:
        """Compare the views of the file with those of a run, before its first batch.

        Raises:
            ConfigError: They are others, of fewer epochs, or of other classes; or the data numbers no samples.
        """
        if self._labels is None:
            return
        facts, name = self._labels.facts, f"--model.teacher {self._file}"
        here = views_of(trainer.datamodule, trainer.train_dataloader, option=name)
        if facts.get(CLASSES) != (num_classes := self._augment.num_classes):
            raise ConfigError(f"{name} is for {facts.get(CLASSES)} classes, and the network has {num_classes}")
        if changed := _differences(facts.get(VIEWS, {}), here):
            more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
            raise ConfigError(
                f"{name} is of other views than this run's: {', '.join(changed[:_SHOWN])}{more}. Train with these, or "
                "write another by `poolformer teach`"
            )
        epochs = trainer.max_epochs or 0
        if epochs > self._labels.epochs:
            raise ConfigError(
                f"{name} has views of {counted(self._labels.epochs, 'epoch')}, and the run has {epochs}: lower "
                "--trainer.max_epochs, or write another by `poolformer teach`"
            )

    def targets(self, labels: Tensor, trainer: pl.Trainer) -> Tensor:
        """Return soft targets (B, K) for the labels (B,) of the batch that a trainer is at; without a teacher, labels.

        Args:
            labels: Of the batch.
            trainer: That trains on it.

        Raises:
            DataError: The file has no such epoch, or is damaged there.
        """
        if self._labels is None:
            return labels
        loader: Any = trainer.train_dataloader
        samples, num_classes = loader.batch_indices(current_batch_idx(trainer)), self._augment.num_classes
        rows = self._labels.rows(trainer.current_epoch, np.array(samples), classes=num_classes)
        soft = expanded(rows, num_classes, labels.device)
        if self._weight == 1:
            return soft
        hard = smooth_targets(labels, num_classes, self._augment.label_smoothing)
        return self._weight * soft + (1 - self._weight) * hard


def views_of(data_module: Any, loader: Any, *, option: str) -> dict[str, Any]:
    """Return what the training views of data are a function of, beside the epoch and the sample, in plain values.

    Args:
        data_module: That makes them.
        loader: Its training loader.
        option: What wants to know it, for the message.

    Raises:
        ConfigError: The loader is none of ours, and does not say which samples are in a batch.
    """
    if not isinstance(loader, Order):
        named = class_path_of(data_module) or "the training dataloader"
        raise ConfigError(
            f"{option}: {named} does not tell which samples are in a batch, as DigitsData, FolderData and FFCVData do"
        )
    options = {name: value for name, value in getattr(data_module, "hparams", {}).items() if name[0] != "_"}
    recipe = {name: value for name, value in options.items() if name not in _NOT_OF_A_VIEW}
    if recipe.get("pad") == 0:  # as in files of before there was the option
        del recipe["pad"]
    facts = {FACT: class_path_of(data_module), "seed": loader.seed, **recipe, **image_set(loader, "train")}
    plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return plain


def _differences(stored: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    changed = [name for name in {**stored, **here} if stored.get(name) != here.get(name)]
    return [_DIGESTS.get(name) or f"{name} {stored.get(name)} (here {here.get(name)})" for name in changed]
