"""Says what is evaluated, so that no number stands without its data: which, of which size, and which part of it."""

import os
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from ..counts import counted
from ..data.batches import Batch
from ..network.example import own_example
from .provenance import class_path_of


class EvaluatedData(Callback):
    """Prints a line of the data that validate, test and predict are given, and says what its batches do not tell.

    Where the trainer takes a part of the batches, a file in the order of its classes gives it a few classes alone; and
    images may be of another size than the network was built for.
    """

    def __init__(self) -> None:
        self._seen: Tensor | None = None
        self._has_said = False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "validate":
            _print_data(trainer, "val", trainer.val_dataloaders, trainer.num_val_batches)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _print_data(trainer, "test", trainer.test_dataloaders, trainer.num_test_batches)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _print_data(trainer, "predict", trainer.predict_dataloaders, trainer.num_predict_batches)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:
        self._look(trainer, pl_module, batch)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:
        self._look(trainer, pl_module, batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._say_classes(trainer, pl_module, "val", trainer.val_dataloaders, trainer.num_val_batches)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._say_classes(trainer, pl_module, "test", trainer.test_dataloaders, trainer.num_test_batches)

    def _look(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any) -> None:
        if self._has_said or trainer.sanity_checking or trainer.fast_dev_run:
            return
        images, labels = batch if isinstance(batch, Batch) else batch[:2]
        if labels is None:
            return
        if self._seen is None:
            self._seen = torch.zeros(pl_module.hparams.num_classes, dtype=torch.bool, device=labels.device)
            side, sides = pl_module.hparams.image_size, tuple(images.shape[-2:])
            if sides != (side, side) and own_example(pl_module.get_submodule("backbone")) is None:
                rank_zero_info(
                    f"The images are {sides[0]} x {sides[1]} pixels, and the network was built for {side} x {side} "
                    "(--model.image_size)"
                )
        self._seen.index_fill_(0, labels.long(), True)  # on the device: nothing waits for it

    def _say_classes(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, split: str, loaders: Any, taken: Any
    ) -> None:
        seen, self._seen = self._seen, None
        if seen is None or trainer.sanity_checking:
            return
        self._has_said = trainer.state.fn == "fit"  # every epoch evaluates the same
        part = _part(loaders, taken)
        classes = _num_classes(trainer.datamodule) or len(seen)
        if part is None:
            return
        gathered: Any = pl_module.all_gather(seen.int())  # of whatever it is given
        found = int(gathered.reshape(-1, len(seen)).any(0).sum())
        if found < classes:
            option = "overfit_batches" if trainer.overfit_batches else f"limit_{split}_batches"
            verb = "tests" if split == "test" else "validates"
            rank_zero_info(f"--trainer.{option} {verb} {part}: {found} of {counted(classes, 'class')}")


def _print_data(trainer: pl.Trainer, split: str, loaders: Any, taken: Any) -> None:
    if not trainer.is_global_zero:
        return
    module, loader, parts = trainer.datamodule, _one(loaders), []
    images = _num_images(loader)
    if images is not None:
        parts.append(counted(images, "image"))
    if split != "predict" and (classes := _num_classes(module)):
        parts.append(counted(classes, "class"))
    if part := _part(loaders, taken):
        parts.append(part)
    name = class_path_of(module) or f"the {split} dataloader"
    place = _place(module, split)
    print(f"data  {name}{f' {place!r}' if place else ''}{': ' if parts else ''}{', '.join(parts)}", flush=True)


def _place(module: Any, split: str) -> str | None:
    """Return where a data module's images lie, as far as its options tell."""
    options = getattr(module, "hparams", {})
    given = [options.get(split) or options.get("val") if split in ("test", "predict") else options.get(split)]
    if options.get("tune_share") is not None and (split == "val" or given[0] == options.get("val")):
        given[0] = options.get("train")
    if given[0] is None and options.get("val_share") is not None:
        given[0] = options.get("train")
    if isinstance(given[0], list):
        return ", ".join(map(str, given[0]))
    given += [value for name, value in options.items() if name not in ("train", "val", "test", "predict")]
    paths = [value for value in given if isinstance(value, str | Path) and str(value)]
    return next((str(path) for path in paths if path is given[0] or os.path.exists(path)), None)


def _num_images(loader: Any) -> int | None:
    for held in (getattr(loader, "labels", None), getattr(loader, "dataset", None)):
        if isinstance(held, Sized):
            try:
                return len(held)
            except TypeError:  # an iterable data set
                continue
    return None


def _num_classes(module: Any) -> int | None:
    names = getattr(module, "class_names", None)
    return getattr(module, "num_classes", None) or (len(names) if isinstance(names, Sized) else None)


def _part(loaders: Any, taken: Any) -> str | None:
    """Return how many of the batches are taken; None for all."""
    taken = taken[0] if isinstance(taken, list) and taken else taken
    try:
        batches = len(_one(loaders))
    except TypeError:
        return f"{taken} batches" if isinstance(taken, int) else None
    return f"{taken} of {batches} batches" if taken < batches else None


def _one(loaders: Any) -> Any:
    several = list(loaders.values()) if isinstance(loaders, Mapping) else loaders
    return several[0] if isinstance(several, list | tuple) and several else several
