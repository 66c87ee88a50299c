"""Predictions as a file: a row an image, with the likeliest classes, and the true one where it is known."""

import csv
import json
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from ..counts import counted
from ..data.batches import Batch
from ..data.beton_set import Given, expand
from ..data.class_names import words_of
from ..data.images import ImageData
from ..errors import ConfigError, PoolformerError
from ..files.atomic_write import atomic_write
from ..files.paths import check_new, is_url
from ..network.example import own_example
from . import contact_sheet
from .contact_sheet import ContactSheet, Said
from .picture_log import normalises_itself

SUFFIXES = (".csv", ".jsonl")
TOP_K = 5
"""Classes an image, where nobody says how many and there are so many."""


def checked_top_k(top_k: int | None, classes: int, *, name: str = "top_k") -> int:
    """Return how many classes an image are wanted; None is for the usual number.

    Args:
        top_k: As it was asked for.
        classes: Those of the network.
        name: What it is called where it was asked for.

    Raises:
        ConfigError: There are not so many.
    """
    if top_k is None:
        return min(TOP_K, classes)
    if not 1 <= top_k <= classes:
        raise ConfigError(f"{name} {top_k}: the network knows {counted(classes, 'class')}: from 1 to {classes}")
    return top_k


class PredictionWriter(BasePredictionWriter):
    """Writes a row for each image: its name, its likeliest classes, and the true one where that is known.

    The true class is the label's, as in a .beton, or the name of a folder that the image lies in, where the network
    has a class of that name: below a folder that was given the outermost one, as in training, else that folder.
    Classes that are called by ImageNet's synsets have WordNet's words beside them. The file appears when it is
    complete; nothing is replaced. With several devices each writes a file of its own, with its rank in the name.

    Args:
        top_k: Classes an image, likeliest first; None for 5, or all of fewer.
        out: File to write, .csv or .jsonl; None for ``predictions.csv`` in the run's directory, or where that is there
            ``predictions.2.csv`` and so on.
        sheet: Picture to write, .png or .jpg, of the images that the network is most and least certain of; None for
            none.
    """

    def __init__(self, top_k: int | None = None, out: str | None = None, sheet: str | None = None):
        super().__init__(write_interval="batch")
        self.top_k, self.out, self.sheet = top_k, out, sheet
        self._sheet: ContactSheet | None = None
        self._stack, self._written = ExitStack(), 0
        self._truths: list[str | None] = []
        self._words: dict[str, str] = {}
        self._known = self._right = 0

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        classifier: Any = pl_module
        classes = classifier.hparams.num_classes
        self._count = checked_top_k(self.top_k, classes, name="--top_k")
        if self.sheet is not None:
            if own_example(classifier.backbone) is not None:
                raise ConfigError("--sheet: what this network takes are no images")
            self._sheet = ContactSheet()
        names = [classifier.class_name(label) for label in range(classes)]
        if classes and names == [str(label) for label in range(classes)] and classifier.class_names is None:
            rank_zero_info("The checkpoint does not say what its classes are called: their numbers stand for them")
        self._words = words_of(names)
        self._truths = _truths(trainer, {*names})
        self._known = self._right = 0
        self.path = self._path(trainer)
        for option, asked, suffixes in (("--out", self.out, SUFFIXES), ("--sheet", self.sheet, contact_sheet.SUFFIXES)):
            if asked is not None:  # all of them in each process, so that none waits for one that has left
                Path(asked).parent.mkdir(parents=True, exist_ok=True)  # of a script: the command line has looked for it
                for rank in range(trainer.world_size):
                    check_new(str(_of_rank(asked, trainer, rank)), option, suffixes)
        trainer.strategy.barrier()  # before the first of them can have written its own
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stack, self._written = ExitStack(), 0
        # Names of files are bytes: those that are not UTF-8 come out as they are, too.
        as_bytes = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
        self._write = self._rows(self._stack.enter_context(atomic_write(self.path, "w", **as_bytes)))

    def _path(self, trainer: pl.Trainer) -> Path:
        rank = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        if self.out is not None:
            return _of_rank(self.out, trainer, trainer.global_rank)
        folder, number = Path(trainer.default_root_dir), 1
        path = folder / f"predictions{rank}.csv"
        while os.path.lexists(path):
            number += 1
            path = folder / f"predictions{rank}.{number}.csv"
        return path

    def _rows(self, file: Any) -> Callable[[Any, list[tuple[str, float]], str | None], None]:
        """Return what writes a row: an image, its classes with their probabilities, its true class."""
        has_truth = any(truth is not None for truth in self._truths)
        if self.path.suffix == ".jsonl":

            def write_line(image: Any, guesses: list[tuple[str, float]], truth: str | None) -> None:
                classes = [
                    {"name": name, **self._in_words(name), "probability": round(value, 6)} for name, value in guesses
                ]
                row = {"image": str(image), "classes": classes} | (self._truth(truth) if has_truth else {})
                file.write(json.dumps(row) + "\n")

            return write_line
        rows = csv.writer(file)
        of_a_class = ("class", *(["words"] if self._words else []), "probability")
        columns = [f"{column}_{k}" for k in range(1, self._count + 1) for column in of_a_class]
        rows.writerow(["image", *columns, *(self._truth(None) if has_truth else [])])

        def write_row(image: Any, guesses: list[tuple[str, float]], truth: str | None) -> None:
            cells = [cell for name, value in guesses for cell in (name, *self._in_words(name).values(), f"{value:.6f}")]
            truths = [cell or "" for cell in self._truth(truth).values()]
            rows.writerow([image, *cells, *(truths if has_truth else [])])

        return write_row

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        classifier: Any = pl_module
        images = getattr(getattr(trainer, "datamodule", None), "predict_names", None)
        if not batch_indices:  # Lightning knows them of PyTorch's own loader only
            batch_indices = self._indices(trainer.predict_dataloaders, batch_idx, len(prediction))
        top = prediction.topk(self._count)
        said = []
        for index, values, labels in zip(batch_indices, top.values.tolist(), top.indices.tolist(), strict=True):
            guesses = [(classifier.class_name(label), value) for label, value in zip(labels, values, strict=True)]
            truth = self._truths[index] if index < len(self._truths) else None
            name = images[index] if images else index
            self._write(name, guesses, truth)
            (guess, confidence), is_right = guesses[0], None if truth is None else guesses[0][0] == truth
            in_words = truth and self._short(truth)
            said.append(Said(os.path.basename(str(name)), self._short(guess), confidence, in_words, is_right))
            self._known += truth is not None
            self._right += bool(is_right)
        if self._sheet is not None:
            prepared = batch if isinstance(batch, Batch) else classifier.on_after_batch_transfer(batch)
            of_pixels = {"mean": classifier.mean, "std": classifier.std, "normalised": normalises_itself(trainer)}
            self._sheet.update(prepared.images, said, **of_pixels)

    def _in_words(self, name: str) -> dict[str, str]:
        return {"words": self._words[name]} if self._words else {}

    def _truth(self, name: str | None) -> dict[str, str | None]:
        """Return the true class, with its words where classes have any."""
        return {"true": name, **({"true_words": self._words.get(name or "")} if self._words else {})}

    def _short(self, name: str) -> str:
        """Return a class in a word or two."""
        return self._words.get(name, name).partition(",")[0]

    def _indices(self, loader: Any, batch_idx: int, count: int) -> Sequence[int]:
        """Number the images of a batch: as our own loaders say, in the order of any other."""
        if hasattr(loader, "batch_indices"):
            return loader.batch_indices(batch_idx)
        self._written, first = self._written + count, self._written
        return range(first, first + count)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stack.close()
        counts: Any = torch.tensor([self._right, self._known], device=pl_module.device)
        if trainer.world_size > 1:
            counts = pl_module.all_gather(counts).reshape(-1, 2).sum(0)  # type: ignore[union-attr]
        right, known = counts.tolist()
        if known:
            seen = _trained_on(trainer)
            among = f"; '{seen}', on which the network was trained, has some of them" if seen else ""
            rank_zero_info(f"Accuracy: {right / known:.1%} of {counted(known, 'image')} whose class is known{among}")
        rank_zero_info(f"Predictions: {self.path}")
        if self._sheet is not None and self.sheet is not None:
            path = _of_rank(self.sheet, trainer, trainer.global_rank)
            self._sheet.write(path)
            rank_zero_info(f"Contact sheet: {path}")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stack.__exit__(type(exception), exception, exception.__traceback__)


def _of_rank(asked: str, trainer: pl.Trainer, rank: int) -> Path:
    """Return the file of a process for what was asked for: of several each has its own."""
    path = Path(asked)
    return path.with_stem(f"{path.stem}-{rank}") if trainer.world_size > 1 else path


def _truths(trainer: pl.Trainer, names: set[str]) -> list[str | None]:
    """Return the true class of each image, None where it is unknown or none of the network's."""
    module, loader = getattr(trainer, "datamodule", None), trainer.predict_dataloaders
    of_labels = getattr(module, "predict_class_names", None) or getattr(module, "class_names", None)
    labels, images = getattr(loader, "labels", None), getattr(module, "predict_names", None)
    if labels is None:
        return []
    folders = _given_folders(module) if images else []
    found: list[str | None] = []
    for index, label in enumerate(labels.tolist()):
        name = None
        if label >= 0:
            name = of_labels[label] if of_labels and label < len(of_labels) else str(label)
        elif images:
            name = _class_of(images[index], folders, names)
        found.append(name if name in names else None)
    return found


def _places(given: Given) -> list[Path]:
    """Return the files and folders that an option of images gives."""
    try:
        places = expand(given)
    except PoolformerError:  # of what was trained on, which need not be there any more
        return []
    return [Path(os.path.abspath(os.path.expanduser(place))) for place in places if not is_url(place)]


def _given_folders(module: Any) -> list[Path]:
    """Return the folders that were given to be predicted."""
    given = module.given() if isinstance(module, ImageData) else {}
    return [place for each in given.values() for place in _places(each) if place.is_dir()]


def _trained_on(trainer: pl.Trainer) -> Path | None:
    """Return what a run was trained on, a file or a folder, if that is in or around what was given to be predicted."""
    module = getattr(trainer, "datamodule", None)
    if not isinstance(module, ImageData) or not module.hparams.predict or not module.hparams.train:
        return None
    if not trainer.ckpt_path:  # weights of somebody's, which were not trained on these
        return None
    given = _places(module.hparams.predict)
    return next((each for each in _places(module.hparams.train) if any(map(partial(_overlap, each), given))), None)


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _class_of(image: str, folders: Sequence[Path], names: Collection[str]) -> str | None:
    """Return the class by whose name a folder is called that an image lies in; None where there is none.

    Args:
        image: Path of it.
        folders: Those that were given. Folders around them say nothing of the image, nor do those around a file's own.
        names: Of the classes.
    """
    own = Path(os.path.abspath(image)).parent
    around = [folder for folder in folders if own.is_relative_to(folder)]
    top = min(around, key=lambda folder: len(folder.parts), default=own)
    return next((name for name in (*own.relative_to(top).parts, top.name) if name in names), None)
