"""The paper's training recipe: optimiser groups, learning rate by epoch, mixing, soft targets.

Source: arXiv 2111.11418, section 4.1 and table 6, and the scripts of sail-sg/poolformer, which
settle what the table leaves open. Shapes: B batch, K classes.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .draws import StepPart, seed_torch
from .errors import ConfigError

REFERENCE_BATCH_SIZE = 1024


def scaled_lr(lr: float, *, effective_batch_size: int, reference_batch_size: int | None) -> float:
    """Scale a learning rate linearly with the images that make one optimiser step.

    Args:
        lr: Learning rate at the reference batch size.
        effective_batch_size: Images a step: per device, times devices, times accumulated batches.
        reference_batch_size: Images a step that ``lr`` is meant for; None leaves it as it is.
    """
    return lr if reference_batch_size is None else lr * effective_batch_size / reference_batch_size


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trainable parameters into those that decay and those that do not.

    1-D parameters (biases, norms, layer scales) do not decay, as in the authors' code. Groups are
    named, so that the learning-rate monitor can show them.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"name": "decay", "params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"name": "no_decay", "params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]


@dataclass(frozen=True)
class Schedule:
    """Learning rate by epoch, or part of one: linear warm-up, cosine, cool-down.

    As timm's scheduler in the authors' script: the cosine is already at ``warmup_epochs`` when the
    warm-up ends, so the peak itself is never reached; after the cosine come epochs at the minimum.

    Attributes:
        peak_lr: Learning rate that the warm-up heads for.
        epochs: Epochs of warm-up and cosine together, without the cool-down.
        warmup_epochs: Epochs of warm-up.
        warmup_lr: Learning rate at the start.
        min_lr: Learning rate at the end of the cosine and after it.

    Example:
        >>> schedule = Schedule(peak_lr=4e-3, epochs=300, warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5)
        >>> [f"{schedule(epoch):.6f}" for epoch in (0, 4, 5, 150, 300)]
        ['0.000001', '0.003200', '0.003997', '0.002005', '0.000010']
    """

    peak_lr: float
    epochs: int
    warmup_epochs: int
    warmup_lr: float
    min_lr: float

    def __call__(self, epoch: float) -> float:
        if epoch < self.warmup_epochs:
            return self.warmup_lr + (self.peak_lr - self.warmup_lr) * epoch / self.warmup_epochs
        if epoch >= self.epochs:
            return self.min_lr
        return self.min_lr + (self.peak_lr - self.min_lr) * (1 + math.cos(math.pi * epoch / self.epochs)) / 2


class EpochScheduler(LRScheduler):
    """Sets the rate of a `Schedule` in all groups.

    Its state is the epoch alone, so a resumed run has the rates that are asked for now.

    Args:
        optimizer: Its groups may have an ``lr_scale``.
        schedule: By epoch.
        progress: Tells, each time that it is stepped, the epochs that are done with the part of the present one; None
            where it is stepped once an epoch.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule, progress: Callable[[], float] | None = None):
        self.schedule = schedule
        self.epoch = 0.0
        self._progress = progress
        self._scales = [group.get("lr_scale", 1.0) for group in optimizer.param_groups]
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        if self.last_epoch >= 0:  # not the first, by which PyTorch sets the rate of the start
            self.epoch = self._progress() if self._progress else math.floor(self.epoch) + 1.0
        super().step(epoch)

    def get_lr(self) -> list[float | Tensor]:
        return [self.schedule(self.epoch) * scale for scale in self._scales]

    def state_dict(self) -> dict[str, float]:
        return {"last_epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.epoch = float(state_dict["last_epoch"])
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


class BatchAugmentation:
    """Mixup or CutMix, then random erasing, on a normalised batch, with soft targets; by timm.

    In this order, as in the authors' runs: what is erased stays erased.

    Args:
        num_classes: Classes K.
        mixup: Alpha of mixup; 0 turns it off.
        cutmix: Alpha of CutMix; 0 turns it off. With both on, a fair coin chooses one for about 128 images.
        label_smoothing: Share of a target that is spread over all classes.
        erase_prob: Probability that a rectangle of an image is replaced by noise.
    """

    def __init__(self, *, num_classes: int, mixup: float, cutmix: float, label_smoothing: float, erase_prob: float):
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.erase_prob = erase_prob
        self._mixup, self._cutmix = mixup, cutmix
        self._erase = _random_erasing() if erase_prob > 0 else None
        self._mix = _mixup(num_classes, mixup, cutmix, label_smoothing) if mixup > 0 or cutmix > 0 else None

    @property
    def mixes(self) -> bool:
        """Whether an image's target is more than its own label, so that a top-1 makes no sense."""
        return self._mix is not None

    def __call__(self, images: Tensor, labels: Tensor, part: StepPart | None = None) -> tuple[Tensor, Tensor]:
        """Augment images (B, 3, H, W), in place, with labels (B,); return them with targets (B, K).

        Soft targets (B, K), as a teacher's, may stand for the labels: they are mixed in the shares that the images are,
        and are not smoothed.

        It seeds the generators of NumPy and PyTorch, and with a part also Python's.

        Args:
            images: Of the batch.
            labels: Of the batch, or soft targets.
            part: Which part of which step the batch is; None for draws of its own.

        Raises:
            ConfigError: An odd number of images with mixup or CutMix, which pair them up.
        """
        if part is None:
            part, state = StepPart.anywhere(len(images)), random.getstate()
            try:
                return self(images, labels, part)
            finally:
                random.setstate(state)  # where it would repeat itself after as many calls as there are seeds
        if self._mix is None:
            is_soft = labels.ndim == 2
            targets = labels if is_soft else smooth_targets(labels, self.num_classes, self.label_smoothing)
        else:
            self.check_batch_size(len(images))
            targets = torch.cat(
                [self._mixed(images[rows], labels[rows], part.key("mix", draw)) for draw, rows in part.mixed_together]
            )
        if self._erase is not None:
            self._erase_some(images, part)
        return images, targets

    def _mixed(self, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """Mix images in place and return their targets."""
        assert self._mix is not None
        np.random.seed(seed)
        if labels.ndim == 1:
            return self._mix(images, labels)[1]
        # timm mixes numbers of classes: with each image a class of its own, a target tells what it is mixed of.
        numbers = torch.arange(len(images), device=labels.device)
        own = _mixup(len(images), self._mixup, self._cutmix, 0.0)(images, numbers)[1].diagonal()[:, None]
        return own * labels + (1 - own) * labels.flip(0)

    def _erase_some(self, images: Tensor, part: StepPart) -> None:
        assert self._erase is not None
        self._erase.device = images.device
        np.random.seed(part.key("erase"))
        chosen = np.random.random_sample(part.total)[part.places] < self.erase_prob
        seeds = np.random.randint(2**32, size=part.total, dtype=np.uint32)[part.places]
        for row in np.flatnonzero(chosen).tolist():
            seed = int(seeds[row])
            random.seed(seed)
            seed_torch(seed)
            self._erase(images[row])

    def check_example(self, example: Tensor | None) -> None:
        """Raise `ConfigError` where the network takes, in place of images, what cannot be blended."""
        if example is not None and not example.is_floating_point() and (self.mixes or self.erase_prob):
            raise ConfigError(
                "this network takes numbers of tokens, which cannot be blended: turn off what is for pixels, "
                "--model.mixup 0 --model.cutmix 0 --model.erase_prob 0"
            )

    def check_batch_size(self, images: int) -> None:
        """Raise `ConfigError` for a batch that cannot be mixed."""
        if self.mixes and images % 2:
            raise ConfigError(
                f"mixup and CutMix pair up the images of a batch, and this one has {images}: choose an "
                "even --data.batch_size, or turn both off with --model.mixup 0 --model.cutmix 0"
            )


def smooth_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Labels (B,) to soft targets (B, K): 1 - smoothing on the label, plus smoothing / K everywhere."""
    targets = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return targets.scatter_add_(1, labels[:, None], torch.full_like(targets[:, :1], 1 - smoothing))


class _Erasing(Protocol):
    device: torch.device

    def __call__(self, images: Tensor, /) -> Tensor: ...


def _random_erasing() -> _Erasing:
    from timm.data.random_erasing import RandomErasing  # 4 s

    return RandomErasing(probability=1.0, mode="pixel", max_count=1)


def _mixup(
    num_classes: int, mixup: float, cutmix: float, label_smoothing: float
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    from timm.data.mixup import Mixup  # 4 s

    return Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=label_smoothing, num_classes=num_classes)
