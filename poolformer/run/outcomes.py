"""What a network says of the images of an evaluation: confusions, accuracy by class, calibration, the worst images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_calibration_error
from torchmetrics.utilities import dim_zero_cat

BINS = 15
"""Of confidence, as in the paper that brought the expected calibration error to networks (arXiv 1706.04599)."""


@dataclass(frozen=True)
class Outcomes:
    """Labels, likeliest classes and their probabilities of N images, each (N,) on the host."""

    labels: np.ndarray
    said: np.ndarray
    confidences: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Whether the likeliest class is the label (N,)."""
        right: np.ndarray = self.labels == self.said
        return right

    def confusion_matrix(self, classes: int) -> np.ndarray:
        """Return how many images of each class (rows) were said to be of which (columns), (K, K).

        Args:
            classes: Number of the classes K.
        """
        # torchmetrics compares each image with each of the K * K cells where algorithms are to be deterministic.
        flat = np.bincount(self.labels.astype(np.int64) * classes + self.said, minlength=classes**2)
        return flat.reshape(classes, classes)

    def confusions(self, most: int) -> list[tuple[int, int, int]]:
        """Return the most frequent mistakes: label, what was said, how often; without a table of all pairs.

        Args:
            most: How many of them.
        """
        wrong = ~self.right
        pairs, counts = np.unique(np.stack([self.labels[wrong], self.said[wrong]]), axis=1, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:most]
        return [(int(pairs[0, one]), int(pairs[1, one]), int(counts[one])) for one in order]

    def accuracy_by_class(self) -> list[tuple[int, float, int]]:
        """Return of each class that there are images of: its number, its share of right answers, its images."""
        images = np.bincount(self.labels)
        right = np.bincount(self.labels[self.right], minlength=len(images))
        return [(int(one), float(right[one] / images[one]), int(images[one])) for one in np.flatnonzero(images)]

    def calibration(self) -> list[tuple[float, float, int]]:
        """Return of each of `BINS` equal bins of confidence: mean confidence, accuracy, images."""
        bins = np.clip(np.ceil(self.confidences * BINS).astype(int) - 1, 0, BINS - 1)
        counts = np.bincount(bins, minlength=BINS)
        sums = [np.bincount(bins, weights=each, minlength=BINS) for each in (self.confidences, self.right)]
        means = [each / np.maximum(counts, 1) for each in sums]
        return [(float(a), float(b), int(n)) for a, b, n in zip(*means, counts, strict=True)]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of the likeliest class (arXiv 1706.04599, eq. 3), in [0, 1]."""
        confidences, right = torch.from_numpy(self.confidences), torch.from_numpy(self.right).int()
        return float(binary_calibration_error(confidences, right, n_bins=BINS, norm="l1", validate_args=False))


class OutcomesMetric(Metric):
    """Collects labels, likeliest classes and their probabilities on the device; nothing waits for it until `outcomes`.

    Each process has those of its images, and `outcomes` brings them together.
    """

    labels: list[Tensor]
    said: list[Tensor]
    confidences: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("labels", "said", "confidences"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Take a batch.

        Args:
            logits: Of the batch, (B, K).
            labels: Of the batch, (B,).
        """
        confidences, said = logits.detach().float().softmax(1).max(1)
        self.labels.append(labels.int())
        self.said.append(said.int())
        self.confidences.append(confidences)

    def compute(self) -> tuple[Tensor, ...]:
        """Return labels, likeliest classes and their probabilities of all processes, (N,) each."""
        parts: Sequence[Any] = (self.labels, self.said, self.confidences)
        return tuple(dim_zero_cat(part) for part in parts)

    def outcomes(self) -> Outcomes:
        """Return what was collected by all processes, on the host."""
        # torchmetrics makes a number of what has one image.
        return Outcomes(*(each.reshape(-1).cpu().numpy() for each in self.compute()))


class Worst:
    """Keeps the images of an evaluation whose labels the network finds least likely, on their device.

    Args:
        most: How many.
    """

    def __init__(self, most: int):
        self.most = most
        self._kept: tuple[Tensor, ...] = ()

    def update(self, images: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take a batch: images (B, C, H, W), logits (B, K), labels (B,)."""
        logits = logits.detach().float()
        probabilities = logits.softmax(1)
        confidences, said = probabilities.max(1)
        of_label = probabilities.gather(1, labels[:, None])[:, 0]
        worst = of_label.topk(min(self.most, len(labels)), largest=False).indices
        batch = tuple(each[worst] for each in (of_label, images, labels, said, confidences))
        if self._kept and self._kept[1].shape[1:] != batch[1].shape[1:]:
            return  # images of another size, which do not go onto one sheet
        if self._kept:
            batch = tuple(torch.cat(pair) for pair in zip(self._kept, batch, strict=True))
            worst = batch[0].topk(min(self.most, len(batch[0])), largest=False).indices
            batch = tuple(each[worst] for each in batch)
        self._kept = batch

    def take(self) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """Return images, labels, what was said and how surely, the worst first; None where there were none."""
        kept, self._kept = self._kept, ()
        return (kept[1], kept[2], kept[3], kept[4]) if kept else None
