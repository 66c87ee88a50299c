"""Trains a Semantic FPN by the paper's recipe: AdamW, polynomial decay a step, mIoU over the data set."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassJaccardIndex

from .networks import CHANNELS, SemanticFPN
from .pyramid import Pyramid
from .steps import steps_of

IGNORED = 255
"""Of masks: a pixel without a class."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Segmenter(pl.LightningModule):
    """A class for each pixel: uint8 images (B, 3, H, W), int64 masks (B, H, W) with 255 where there is none.

    Args:
        backbone: Name that 'poolformer models' lists.
        num_classes: Classes K.
        mixer: Token mixer that 'poolformer mixers' lists, its mapping or four of them; null for the backbone's own.
        channels: Of the feature pyramid network; the head has half as many.
        image_size: Side of the crops in pixels, for mixers that depend on the number of tokens.
        pretrained: Weights of a classifier, as of poolformer.create_backbone.
        lr: Learning rate of the first step; it decays by the power 0.9 to zero.
        weight_decay: Of weights of more than one dimension.
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
        self.save_hyperparameters(ignore="pretrained")
        pyramid = Pyramid(
            backbone, mixer=mixer, image_size=image_size, pretrained=pretrained, drop_path_rate=drop_path_rate
        )
        self.network = SemanticFPN(pyramid, num_classes, channels)
        self.miou = MulticlassJaccardIndex(num_classes, ignore_index=IGNORED)
        self.val_loss = MeanMetric(nan_strategy=math.nan)
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

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, masks = batch
        logits = self(images)
        classes = logits.argmax(1)
        self.miou(classes, masks)
        # Each pixel counts the same, in whatever batch of whatever process; Lightning's own mean over processes halves
        # the number of samples as an integer: of 13 on two it makes 6.
        self.val_loss(_loss(logits, masks), weight=(masks != IGNORED).sum())
        self.log("val/loss", self.val_loss, batch_size=len(images))
        self.log("val/miou", self.miou, prog_bar=True, batch_size=len(images))
        if batch_idx == 0:
            self._show(images[:8], masks[:8], classes[:8])

    test_step = validation_step

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the classes (B, H, W)."""
        return self(batch[0]).argmax(1)

    def configure_optimizers(self) -> dict[str, Any]:
        decaying, others = [], []
        for parameter in self.parameters():
            (decaying if parameter.ndim > 1 else others).append(parameter)
        groups = [
            {"params": decaying, "weight_decay": self.hparams.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.lr)
        decay = torch.optim.lr_scheduler.PolynomialLR(optimizer, steps_of(self.trainer), power=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}

    def _show(self, images: Tensor, masks: Tensor, classes: Tensor) -> None:
        """Draw images, what is true and what is said, in rows, into TensorBoard."""
        if not self.trainer.is_global_zero:
            return
        colours = _colours(self.hparams.num_classes).to(images.device)
        rows = [images, *(colours[mask.clamp(max=len(colours) - 1)].permute(0, 3, 1, 2) for mask in (masks, classes))]
        picture = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)  # (3, 3 H, B W)
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("val/image, mask, prediction", picture, self.global_step)


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
