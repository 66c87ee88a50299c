"""What is measured of a classifier on the images of an epoch: how many, loss, top-1, top-5; metrics as numbers."""

import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy


class Count(Metric):
    """Images that were evaluated.

    Not a sum of values: the metrics are updated together, and each takes the arguments that its `update` names.
    """

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, target: Tensor) -> None:
        """Count the images of a batch by their labels (B,)."""
        self.count += len(target)

    def compute(self) -> Tensor:
        """Return the number so far."""
        return self.count


def metrics_of(num_classes: int, *, prefix: str) -> MetricCollection:
    """Return the metrics of a split, updated by ``preds`` (B, K), ``target`` (B,) and the losses ``value`` (B,).

    Args:
        num_classes: Classes K.
        prefix: Start of their names, such as ``val/``.
    """

    def accuracy(top_k: int) -> MulticlassAccuracy:
        top_k = min(top_k, num_classes)
        return MulticlassAccuracy(num_classes, top_k=top_k, average="micro", validate_args=False)

    # Each by itself: Lightning logs, sums over processes and resets them one by one.
    metrics: dict[str, Metric | MetricCollection] = {
        "images": Count(),
        "loss": MeanMetric(nan_strategy=math.nan),
        "top1": accuracy(1),
        "top5": accuracy(5),
    }
    return MetricCollection(metrics, prefix=prefix, compute_groups=False)


def log_metrics(module: pl.LightningModule, metrics: MetricCollection, logits: Tensor, labels: Tensor) -> None:
    """Update the metrics of a split by a batch, and have them logged at the end of the epoch.

    Args:
        module: That is evaluated.
        metrics: As `metrics_of` makes them.
        logits: Of the batch, (B, K).
        labels: Of the batch, (B,).
    """
    metrics.update(preds=logits, target=labels, value=F.cross_entropy(logits, labels, reduction="none"))
    for name, metric in metrics.items():
        in_bar = name.endswith(("loss", "top1"))
        module.log(name, metric, prog_bar=in_bar, on_step=False, on_epoch=True)


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics by name as plain numbers, without those of several values."""
    plain = {name: value for name, value in metrics.items() if not isinstance(value, Tensor) or value.numel() == 1}
    return {name: float(value) for name, value in sorted(plain.items())}
