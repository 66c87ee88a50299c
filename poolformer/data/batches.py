"""What a batch may be: uint8 images (B, C, H, W) and int64 labels (B,). Anything else is refused in a line.

What is not checked here would be trained on all the same: floats in [0, 1] are normalised to a constant, one channel is
broadcast to three, a pair of images passes for images and labels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import DataError

NORMALISED = "images_are_normalised"
"""Attribute of a data module that says of its float images that they go to the network as they are."""

_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
_LARGEST_NORMALISED = 30  # (1 - mean) / std is below 3 on ImageNet; 30 leaves room for a std of 1/32


class Batch(NamedTuple):
    """A batch as the steps get it.

    It has a type of its own so that a step can tell whether a batch has been prepared: a data module that overrides
    on_after_batch_transfer takes the place of the model's.
    """

    images: Tensor
    """Normalised (B, C, H, W)."""
    targets: Tensor | None
    """Labels (B,), soft targets (B, K) in training, None where images to predict came without."""


class BatchCheck:
    """Checks batches by type and shape, which waits for no device; by their values on a CPU, or once a loader.

    Args:
        source: What to call where the batches come from, such as the name of a data module's class.
        channels: Channels C of the images.
        classes: Labels are below it.
        normalised: Whether float images are normalised already, as `NORMALISED` says.
        labelled: Whether labels are needed; to predict they are not.
        example: One sample of what the network takes in place of images, of its type, axes and channels; None where
            it takes images.
    """

    def __init__(
        self,
        source: str,
        *,
        channels: int,
        classes: int,
        normalised: bool,
        labelled: bool,
        example: Tensor | None = None,
    ):
        self.source, self.channels, self.classes = source, channels, classes
        self.normalised, self.labelled, self.example = normalised, labelled, example
        self._seen: set[int] = set()

    def __call__(self, batch: Any, loader: int = 0) -> tuple[Tensor, Tensor | None]:
        """Return the images and the labels of a batch, these as int64.

        Args:
            batch: What a data module yielded.
            loader: Number of the loader that it is from.

        Raises:
            DataError: It is not what a batch may be; the message says what came and what to change.
        """
        images, labels = self._parts(batch)
        first = loader not in self._seen
        if self.example is None:
            self._check_images(images, look=first)
        else:
            self._check_like(images, self.example)
        if labels is not None:
            self._check_labels(labels, len(images))
            labels = labels.long()
            if first or labels.device.type == "cpu":
                self._check_range(labels)
        self._seen.add(loader)
        return images, labels

    def _parts(self, batch: Any) -> tuple[Tensor, Tensor | None]:
        if not self.labelled:  # whatever stands beside the images is not looked at
            images = batch[0] if isinstance(batch, tuple | list) and batch else batch
            if isinstance(images, Tensor):
                return images, None
        elif isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
            return batch[0], batch[1]
        remedy = ""
        if isinstance(batch, Mapping):
            keys = [key for key in batch if isinstance(batch[key], Tensor)][:2]
            names = ", ".join(f"batch[{key!r}]" for key in keys) or "images, labels"
            remedy = f": have its loader yield ({names}), or override transfer_batch_to_device to return that"
        elif isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[0], Tensor):
            remedy = ": make a tensor of the labels, as torch.tensor(labels)"
        raise self._error(f"a batch is {_kind(batch)}", f"{self._pair}{remedy}")

    def _check_images(self, images: Tensor, *, look: bool) -> None:
        expected = f"uint8 (B, {self.channels}, H, W)"
        becomes_grey = self.channels == 1 and images.dtype == torch.uint8
        if images.ndim != 4 or images.shape[1] not in (self.channels, 3 if becomes_grey else self.channels):
            raise self._error(f"images are {_kind(images)}", f"{expected}{self._remedy_of_shape(images)}")
        if images.dtype == torch.uint8:
            return
        if not images.is_floating_point():
            raise self._error(
                f"images are {_kind(images)}{_range(images)}",
                f"{expected}, levels from 0 to 255: images.to(torch.uint8)",
            )
        if not self.normalised:
            scaled = "(255 * images).round().to(torch.uint8)" if _in_unit(images) else "images.to(torch.uint8)"
            raise self._error(
                f"images are {_kind(images)}{_range(images)}",
                f"{expected}, which the model normalises: yield {scaled}; or, where --model.mean and "
                f"std are taken off already, set {NORMALISED} = True in {self.source}",
            )
        if look and len(images) and float(images.abs().max()) > _LARGEST_NORMALISED:
            raise self._error(
                f"{NORMALISED} is True and images are {_kind(images)}{_range(images)}",
                "normalised ones, around 0: normalise them, or yield uint8 and leave it to the model",
            )

    def _check_like(self, inputs: Tensor, example: Tensor) -> None:
        alike = inputs.ndim == example.ndim and inputs.shape[1] == example.shape[1]
        if not alike or inputs.dtype != example.dtype:
            shape = ", ".join(str(side) for side in example.shape[1:])
            raise self._error(
                f"inputs are {_kind(inputs)}",
                f"{str(example.dtype).removeprefix('torch.')} (B, {shape}), as the network's example_input()",
            )

    def _remedy_of_shape(self, images: Tensor) -> str:
        if images.ndim == 4 and images.shape[-1] == self.channels:
            return ": channels come second, images.permute(0, 3, 1, 2)"
        if images.ndim == 4 and self.channels not in (1, 3):
            return f", as --model.in_chans {self.channels} says: a data module of your own can give them"
        if images.ndim == 4 and images.shape[1] == 1:
            return f": repeat the grey channel, images.expand(-1, {self.channels}, -1, -1)"
        if images.ndim == 4 and images.shape[1] == 4:
            return ": leave the alpha channel out, images[:, :3]"
        if images.ndim == 3 and images.shape[0] == self.channels and not self.labelled:
            return ": a batch of one image is images[None]"
        if images.ndim == 3:
            return f": add the channels, images[:, None].expand(-1, {self.channels}, -1, -1)"
        return ""

    def _check_labels(self, labels: Tensor, images: int) -> None:
        remedy = ""
        if labels.ndim == 2 and labels.shape[1] == 1:
            remedy = ": labels.squeeze(1)"
        elif labels.ndim == 2:
            remedy = ": a class for each image, labels.argmax(1); mixing and smoothing are the model's (--model.mixup)"
        elif labels.dtype not in _INTEGERS:
            remedy = ": labels.long()"
        if labels.ndim != 1 or labels.dtype not in _INTEGERS:
            raise self._error(f"labels are {_kind(labels)}", f"int64 (B,), numbers of classes{remedy}")
        if len(labels) != images:
            raise self._error(f"there are {images} images and {len(labels)} labels", "as many of both")

    def _check_range(self, labels: Tensor) -> None:
        if not len(labels):
            return
        # On the host by NumPy, in a third of the time.
        edges = (labels.numpy().min(), labels.numpy().max()) if labels.device.type == "cpu" else labels.aminmax()
        low, high = (int(edge) for edge in edges)
        if low < 0 or high >= self.classes:
            raise self._error(
                f"labels go from {low} to {high}",
                f"0 to {self.classes - 1}, as there are {self.classes} classes; see --model.num_classes, or let labels "
                "count from 0",
            )

    @property
    def _pair(self) -> str:
        return "(images, labels), two tensors" if self.labelled else "a tensor of images, or (images, ...)"

    def _error(self, came: str, expected: str) -> DataError:
        return DataError(f"{self.source}: {came}; expected are {expected}")


def source_name(trainer: Any, stage: str) -> str:
    """Return what to call where a stage's batches come from."""
    module = getattr(trainer, "datamodule", None)
    return type(module).__name__ if module is not None else f"the {stage} dataloader"


def check_one_loader(trainer: Any, stage: str, loaders: Any) -> None:
    """Refuse several loaders for a stage, whose metrics would be told apart by name.

    Raises:
        DataError: There are several.
    """
    if isinstance(loaders, Mapping | list | tuple) and len(loaders) > 1:
        raise DataError(
            f"{source_name(trainer, stage)}: there are {len(loaders)} {stage} dataloaders, and one is taken: "
            "concatenate them, as by torch.utils.data.ConcatDataset"
        )


def _kind(value: Any) -> str:
    """Describe a value: its type, and the shape of a tensor or what a collection holds."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(str(key)[:40] for key in list(value)[:6])}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        parts = ", ".join(_kind(part) if isinstance(part, Tensor) else _article(part) for part in value[:4])
        return f"a {type(value).__name__} of {len(value)}{f' ({parts})' if parts else ''}"
    return _article(value)


def _article(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _range(images: Tensor) -> str:
    if not images.numel() or images.is_complex() or images.is_meta:
        return ""
    values = images.float()
    return f" from {float(values.min()):.4g} to {float(values.max()):.4g}"


def _in_unit(images: Tensor) -> bool:
    return not images.numel() or (float(images.min()) >= 0 and float(images.max()) <= 1)
