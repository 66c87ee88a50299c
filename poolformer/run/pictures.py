"""Pictures of a run in TensorBoard: the first batch as the network sees it, and what the network says of validation."""

import time
from collections.abc import Collection
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from torch import Tensor

from ..data.batches import Batch
from ..network.example import own_example
from . import drawing, worst_maps
from .lightning_internals import logging_step
from .other_weights import is_last_epoch
from .outcomes import Outcomes, OutcomesMetric, Worst
from .picture_log import PictureLog, draws, normalises_itself

Picture = Literal["errors", "cam", "confusion", "classes", "calibration"]
PICTURES: tuple[Picture, ...] = ("errors", "cam", "confusion", "classes", "calibration")
_IMAGES = 32
"""Of a sheet."""
_MAPS = 8
"""Of these, the worst, of which it is shown where the network looks."""
_MATRIX = 20
"""Classes up to which a confusion matrix is drawn; of more the most frequent confusions are."""
_ROWS = 40
"""Of bars, at most."""
_SHARE = 0.005
"""Of the time of a run that may go into pictures, in seconds of computing where others keep the machine busy."""


class FirstBatch(Callback):
    """Shows the first batch of training as the network gets it: augmented, mixed, erased, with its soft labels.

    Once each time that a training starts, in TensorBoard's Images as ``train/first_batch``.
    """

    def __init__(self) -> None:
        self._log = PictureLog()
        self._is_due = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._is_due = draws(trainer) and _takes_images(pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self._is_due:
            self._log.write(trainer)
            return
        self._is_due = False
        if not isinstance(batch, Batch) or batch.targets is None:  # the data module's own hook, or another network
            return
        classifier: Any = pl_module
        pixels = drawing.pixels_of(
            batch.images[:_IMAGES],
            mean=classifier.mean,
            std=classifier.std,
            normalised=normalises_itself(trainer),
        )
        targets = batch.targets[:_IMAGES].detach().float().cpu()
        names = _names(classifier, targets.topk(min(3, targets.shape[1])).indices.flatten().tolist())

        def draw() -> dict[str, Image.Image]:
            return {"train/first_batch": drawing.sheet(pixels, [_soft_label(target, names) for target in targets])}

        self._log.draw(trainer, logging_step(trainer), draw)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log.close(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._log.close(trainer)


def _takes_images(pl_module: pl.LightningModule) -> bool:
    return own_example(pl_module.get_submodule("backbone")) is None


def _names(classifier: Any, labels: Collection[int]) -> dict[int, str]:
    return {label: str(classifier.class_name(label)) for label in set(labels)}


def _soft_label(target: Tensor, names: dict[int, str]) -> list[str]:
    """Return the likeliest classes of a soft target with their shares, without what smoothing spreads over all."""
    top = target.topk(min(3, len(target)))
    floor = float(target.min()) + 1e-4
    pairs = [(label, share) for share, label in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
    lines = [f"{share:.0%} {names[label]}" for label, share in pairs if share > floor]
    return [*lines, "", "", ""][:3]


class ValidationPictures(Callback):
    """Shows what the network says of the validation images, and logs how well its confidence is calibrated.

    After every validation ``calibration/ece``; and pictures after the first one, the last one, and in between as often
    as they take 0.5 % of the time at most: the images whose labels it finds least likely (``val/errors``), where it
    looks in the worst of them for what it says and for what they are (``val/cam``, with the extra cam), the
    confusion matrix, or of many classes the most frequent confusions (``val/confusion``), accuracy by class, the worst
    first (``val/classes``), and a reliability diagram (``val/calibration``). The numbers are of all processes, the
    images of the first one.

    Args:
        without: Pictures that are left out.
    """

    def __init__(self, without: Collection[Picture] = ()) -> None:
        self.without = frozenset(without)
        self._log = PictureLog()
        self._outcomes = OutcomesMetric()
        self._worst = Worst(_IMAGES)
        self._maps = worst_maps.Maps()
        self._begun_s = self._computed_s = 0.0
        self._takes = self._draws = self._shows_images = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begun_s, self._computed_s = time.monotonic(), time.process_time()

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._outcomes.reset()
        self._outcomes.to(pl_module.device)
        self._worst.take()
        self._takes = trainer.state.fn == "fit" and not trainer.sanity_checking and bool(trainer.loggers)
        taken_s = min(time.monotonic() - self._begun_s, time.process_time() - self._computed_s)
        within = self._log.spent_s <= _SHARE * taken_s
        self._draws = self._takes and draws(trainer) and (within or is_last_epoch(trainer))
        self._shows_images = self._draws and _takes_images(pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._takes or not isinstance(outputs, dict) or "logits" not in outputs:
            return
        self._outcomes.update(outputs["logits"], outputs["labels"])
        if self._shows_images and not {"errors", "cam"} <= self.without:
            self._worst.update(outputs["images"], outputs["logits"], outputs["labels"])

    # Not at the end of its epoch, when Lightning's callback gives training its weights back: whether it has done so by
    # then depends on the order of the callbacks.
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._takes or not self._outcomes.update_called:
            return
        outcomes = self._outcomes.outcomes()
        self._outcomes.reset()
        if not len(outcomes.labels) or not trainer.is_global_zero:
            return
        if "calibration" not in self.without:
            for logger in trainer.loggers:
                logger.log_metrics({"calibration/ece": outcomes.calibration_error}, step=logging_step(trainer))
        if self._draws:
            self._draw(trainer, pl_module, outcomes)

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outcomes: Outcomes) -> None:
        classifier: Any = pl_module
        classes = int(classifier.hparams.num_classes)
        names = _names(classifier, {*outcomes.labels.tolist(), *outcomes.said.tolist(), *range(min(classes, _MATRIX))})
        begun_s = time.thread_time()
        kept = self._worst.take()
        errors = maps = None
        if kept is not None:
            images, labels, said, confidences = kept
            pixels = drawing.pixels_of(
                images, mean=classifier.mean, std=classifier.std, normalised=normalises_itself(trainer)
            )
            errors = pixels, labels.tolist(), said.tolist(), confidences.tolist()
            if "cam" not in self.without:
                maps = self._maps.of(trainer, classifier, images[:_MAPS], [errors[2][:_MAPS], errors[1][:_MAPS]])
        self._log.spent_s += time.thread_time() - begun_s
        without = self.without

        def draw() -> dict[str, Image.Image]:
            found = {}
            if errors is not None and "errors" not in without:
                found["val/errors"] = errors_sheet(*errors, names=names)
            if errors is not None and maps is not None:
                found["val/cam"] = worst_maps.sheet(*errors[:3], maps, names=names)
            if "confusion" not in without:
                found["val/confusion"] = _confusion(outcomes, classes, names)
            if "classes" not in without:
                found["val/classes"] = _by_class(outcomes, names)
            if "calibration" not in without:
                shares, ece = outcomes.calibration(), outcomes.calibration_error
                found["val/calibration"] = drawing.reliability(shares, ece=ece)
            return found

        self._log.draw(trainer, logging_step(trainer), draw)

    @rank_zero_only
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self._log.write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log.close(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._log.close(trainer)


def errors_sheet(
    pixels: Any, labels: list[int], said: list[int], confidences: list[float], *, names: dict[int, str]
) -> Image.Image:
    """Draw images with their label, what the network says of them, and how surely: red where it is wrong.

    Args:
        pixels: uint8 (N, H, W, 3).
        labels: Of the images.
        said: The likeliest class of each.
        confidences: The probability of that class.
        names: Of the classes.
    """
    rows = list(zip(labels, said, confidences, strict=True))
    captions = [(f"{names[guess]} {sure:.0%}", f"is {names[label]}") for label, guess, sure in rows]
    colours = [drawing.GOOD if label == guess else drawing.BAD for label, guess, _ in rows]
    return drawing.sheet(pixels, captions, colours)


def _confusion(outcomes: Outcomes, classes: int, names: dict[int, str]) -> Image.Image:
    if classes <= _MATRIX:
        return drawing.matrix(outcomes.confusion_matrix(classes), [names[label] for label in range(classes)])
    found = outcomes.confusions(_ROWS)
    images = {label: count for label, _, count in outcomes.accuracy_by_class()}
    rows = [
        (drawing.pair(names[label], ", taken for ", names[said]), times / images[label], f"{times} of {images[label]}")
        for label, said, times in found
    ]
    return drawing.bars(f"the {len(rows)} most frequent confusions, of {classes} classes", rows, colour=drawing.BAD)


def _by_class(outcomes: Outcomes, names: dict[int, str]) -> Image.Image:
    found = sorted(outcomes.accuracy_by_class(), key=lambda each: each[1])
    rows = [(names[label], share, f"{share:.1%} of {images}") for label, share, images in found[:_ROWS]]
    worst = "" if len(found) <= _ROWS else f", the {_ROWS} worst of {len(found)}"
    return drawing.bars(f"accuracy by class{worst}", rows, colour=drawing.GOOD)
