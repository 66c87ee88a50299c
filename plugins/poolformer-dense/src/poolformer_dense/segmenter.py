"""Trains a Semantic FPN by the paper's recipe: AdamW, polynomial decay a step, mIoU over the data set."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassJaccardIndex

from poolformer.errors import ConfigError

from .networks import CHANNELS, SemanticFPN
from .pictures import boards, side_by_side
from .pyramid import Pyramid
from .scaling import IGNORED, resized_masks
from .steps import steps_of

_SHOWN = 8  # images of a picture
_TOGETHER = 16  # classes of which logits are resized at once
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Segmenter(pl.LightningModule):
    """A class for each pixel: uint8 images (B, 3, H, W), int64 masks (B, H, W) with 255 where there is none.

    Masks of an evaluation may have other sides than the images: the logits are resized to theirs, as in mmsegmentation,
    and every pixel of them that has a class counts in ``val/miou``; ``val/loss`` is over the pixels of the images.

    Args:
        backbone: Name that 'poolformer models' lists.
        num_classes: Classes K.
        mixer: Token mixer that 'poolformer mixers' lists, its mapping or four of them; null for the backbone's own.
        channels: Of the feature pyramid network; the head has half as many.
        image_size: Side of the crops in pixels, for mixers that depend on the number of tokens.
        pretrained: Weights of a classifier, as of poolformer.create_backbone.
        lr: Learning rate of the first step; it decays by the power 0.9 to zero.
        weight_decay: Of all parameters.
        drop_path_rate: Stochastic depth of the last block.
    """

    def __init__(
        self,
        backbone: str = "poolformer_s12",
        num_classes: int = 150,
        mixer: str | dict[str, Any] | list[str | dict[str, Any]] | None = None,
        channels: int = CHANNELS,
        image_size: int = 512,
        pretrained: str | None = None,
        lr: float = 2e-4,
        weight_decay: float = 1e-4,
        drop_path_rate: float | None = None,
    ):
        super().__init__()
        if num_classes < 2:
            raise ConfigError(f"--model.num_classes {num_classes}: there are two classes at least, with the background")
        self.save_hyperparameters(ignore="pretrained")
        pyramid = Pyramid(
            backbone, mixer=mixer, image_size=image_size, pretrained=pretrained, drop_path_rate=drop_path_rate
        )
        self.network = SemanticFPN(pyramid, num_classes, channels)
        self.miou = MulticlassJaccardIndex(num_classes, ignore_index=IGNORED, validate_args=False)
        self.val_loss = MeanMetric(nan_strategy=math.nan)
        self._columns: list[Tensor] = []
        self.register_buffer("mean", 255 * torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(_STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of uint8 images."""
        return self.network((images - self.mean) / self.std)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, masks = batch
        loss = _loss(self(images), masks)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self._columns = []

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, masks = batch
        logits = self._logits(images)
        self.miou.update(_classes(logits, masks.shape[1:]), masks)
        small = resized_masks(masks, images.shape[2:])
        # Each pixel counts the same, in whatever batch of whatever process; Lightning's own mean over processes halves
        # the number of samples as an integer: of 13 on two it makes 6.
        self.val_loss(_loss(logits, small), weight=(small != IGNORED).sum())
        self.log("val/loss", self.val_loss, batch_size=len(images))
        self.log("val/miou", self.miou, prog_bar=True, batch_size=len(images))
        if boards(self) and len(self._columns) < _SHOWN:
            self._columns += self._drawn(images, small, logits.argmax(1))

    def on_validation_epoch_end(self) -> None:
        columns = self._columns[:_SHOWN]
        if columns:
            picture = torch.cat(list(side_by_side(columns)), dim=1)
            for board in boards(self):
                board.experiment.add_image("val/image, mask, prediction", picture, self.global_step)

    on_test_epoch_start, test_step = on_validation_epoch_start, validation_step
    on_test_epoch_end = on_validation_epoch_end

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the classes (B, H, W), at the size of the images as they are loaded."""
        return self(batch[0]).argmax(1)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        steps = steps_of(self.trainer)
        # PolynomialLR would have a longer training end where the one that it resumes did, and go on at a rate of zero.
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps) ** 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}

    def _logits(self, images: Tensor) -> Tensor:
        try:
            return self(images)
        except (ValueError, AssertionError) as error:  # of a mixer, in whatever words its package has
            keeps_shape = getattr(getattr(self.trainer.datamodule, "hparams", None), "keep_shape", False)
            if not keeps_shape or images.shape[2] == images.shape[3]:
                raise
            hint = "images that are validated keep their shape: --data.keep_shape false makes squares of them"
            raise ConfigError(f"{error}; {hint}") from error

    def _drawn(self, images: Tensor, masks: Tensor, classes: Tensor) -> list[Tensor]:
        """Draw each image, what is true and what is said: uint8 (3, 3, H, W), on the CPU."""
        images, masks, classes = (each[:_SHOWN].cpu() for each in (images, masks, classes))
        colours = _colours(self.hparams.num_classes)
        rows = [images, *(colours[mask.clamp(max=len(colours) - 1)].permute(0, 3, 1, 2) for mask in (masks, classes))]
        return list(torch.stack(rows, dim=1))


def _classes(logits: Tensor, size: torch.Size) -> Tensor:
    """Return the likeliest classes (B, H, W) at a size: of a photograph, all logits at once would be gigabytes."""
    if logits.shape[2:] == size:
        return logits.argmax(1)
    best, classes = _best(logits[:, :_TOGETHER], size)
    for first in range(_TOGETHER, logits.shape[1], _TOGETHER):
        values, found = _best(logits[:, first : first + _TOGETHER], size)
        better = values > best
        best, classes = torch.where(better, values, best), torch.where(better, found + first, classes)
    return classes


def _best(logits: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
    values, found = F.interpolate(logits, size, mode="bilinear").max(1)
    return values, found


def _loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the mean cross-entropy of the pixels that have a class; 0, not NaN, where none has."""
    total = F.cross_entropy(logits, masks, ignore_index=IGNORED, reduction="sum")
    return total / (masks != IGNORED).sum().clamp(min=1)


def _colours(classes: int) -> Tensor:
    """A colour for each class, the first black, and grey for none: uint8 (K + 1, 3)."""
    hues = torch.arange(classes + 1)[:, None] * torch.tensor([97, 57, 29]) + torch.tensor([0, 85, 170])
    colours = (hues % 256).to(torch.uint8)
    colours[0], colours[-1] = 0, 128
    return colours
