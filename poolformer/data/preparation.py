"""Batches of any data module as a network takes them: checked, normalised, with labels that number its logits."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from ..errors import ConfigError
from .batches import NORMALISED, BatchCheck, source_name
from .channels import as_taken
from .class_names import IMAGENET, imagenet_names
from .label_map import SUBSET, best_of_right, restricted
from .labels import Classes, classes_of, logits_of_labels


class Preparation:
    """Prepares the batches of a network on their device.

    Args:
        logits: Logits K of the network.
        example: One sample of what it takes in place of images; None where it takes images.

    Attributes:
        classes: Those of the data; of none before `begin`.
    """

    def __init__(self, logits: int, example: Tensor | None = None):
        self.logits, self.example = logits, example
        self.classes = Classes(None, None)
        self._logit_of_label: Tensor | None = None
        self._counted: Tensor | None = None
        self._right: Tensor | None = None
        self._checks: dict[Any, BatchCheck] = {}

    def begin(self, data_module: Any) -> None:
        """Take the classes of a data module, and check its batches from the first.

        Raises:
            DataError: The names of its classes are no list of names.
        """
        self._checks, self._logit_of_label, self._counted, self._right = {}, None, None, None
        self.classes = classes_of(data_module, logits=self.logits)

    def match_labels(
        self, data_module: Any, known: list[str] | None, *, has_published_weights: bool, device: torch.device
    ) -> None:
        """Bring the labels of data that is evaluated to the logits of the same names.

        Args:
            data_module: Module of the data; its classes are read again, as some know them when their loaders are made.
            known: What the logits mean; None where the network does not say.
            has_published_weights: Whether they may be of ImageNet, whose names need not be said.
            device: Device of the labels.

        Raises:
            ConfigError: The network does not know all the classes, or what its logits mean cannot be known; or a list
                of right labels is not for them.
        """
        self.classes = classes_of(data_module, logits=self.logits)
        logits = logits_of_labels(self.classes, known, logits=self.logits, has_published_weights=has_published_weights)
        self._logit_of_label = None if logits is None else torch.tensor(logits, device=device)
        label_map = getattr(data_module, "hparams", {}).get("label_map")
        self._counted = self._right = None
        if label_map == SUBSET:
            numbers = logits if logits is not None else range(self.classes.count or self.logits)
            self._counted = torch.tensor(list(numbers), device=device)
        elif (right := getattr(data_module, "right_labels", None)) is not None:
            if self.logits != IMAGENET or (known or imagenet_names([], IMAGENET)) != imagenet_names([], IMAGENET):
                raise ConfigError(
                    f"--data.label_map {label_map} is for networks of all of ImageNet-1k's classes in order"
                )
            self._right = right

    def counted(
        self, images: Tensor, logits: Tensor, labels: Tensor, *, batch: int, trainer: pl.Trainer
    ) -> dict[str, Tensor]:
        """Return images, logits and labels by these names as --data.label_map has them counted.

        Args:
            images: (B, C, H, W).
            logits: (B, K).
            labels: (B,).
            batch: Number of the batch.
            trainer: Trainer that evaluates.
        """
        if self._counted is not None:
            logits = restricted(logits, self._counted)
        elif self._right is not None:
            loader: Any = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
            logits, labels, has_label = best_of_right(logits, self._right[loader.batch_indices(batch)])
            images = images[has_label]
        return {"images": images, "logits": logits, "labels": labels}

    def __call__(
        self, batch: Any, loader: int, *, trainer: pl.Trainer, mean: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return normalised images (B, C, H, W), and labels (B,) where there are any.

        What a network takes in place of images is not normalised. For a network of one channel, RGB becomes grey.

        Args:
            batch: What a data module yielded.
            loader: Number of the loader that it is from.
            trainer: Trainer that evaluates or trains on it.
            mean: Mean of the levels 0 to 255, (C, 1, 1).
            std: Standard deviation of the levels, (C, 1, 1).

        Raises:
            DataError: It is not uint8 images (B, C, H, W) with int64 labels (B,).
        """
        images, labels = self._check_of(trainer, channels=len(mean))(batch, loader)
        if self.example is not None:
            images = images.clone()
        elif images.dtype == torch.uint8:
            images = as_taken(images, len(mean))
            images = (images.contiguous(memory_format=torch.channels_last) - mean) / std
        else:  # as a copy: mixing and erasing happen in place
            images = images.to(mean.dtype, copy=True, memory_format=torch.channels_last)
        if labels is not None and self._logit_of_label is not None:
            labels = self._logit_of_label[labels]
        return images, labels

    def name_of(self, label: int, known: list[str] | None) -> str:
        """Return the name of a class: the network's, else the data's where it has one for each logit, or its number.

        Args:
            label: Number of the class.
            known: What the logits mean; None where the network does not say.
        """
        names = known or self.classes.names or []
        if known is None and len(names) != self.logits:
            names = []
        return names[label] if label < len(names) else str(label)

    def _check_of(self, trainer: pl.Trainer, *, channels: int) -> BatchCheck:
        """Return the check of the stage that a trainer is in."""
        stage = trainer.state.stage
        assert stage is not None
        if stage not in self._checks:
            module = getattr(trainer, "datamodule", None)
            self._checks[stage] = BatchCheck(
                source_name(trainer, stage.dataloader_prefix or stage.value),
                channels=channels,
                classes=self.classes.count or self.logits,
                normalised=getattr(module, NORMALISED, False) is True,
                labelled=not trainer.predicting,
                example=self.example,
            )
        return self._checks[stage]
