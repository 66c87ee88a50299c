"""Asking a trained network about every training view of an epoch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..classifier import ImageClassifier
from ..data.channels import as_taken
from ..data.labels import classes_of, logits_of_labels
from ..data.order import Order
from ..data.soft_labels import MOST_CLASSES, likeliest
from ..errors import ConfigError


def logits_for(classifier: ImageClassifier, data_module: Any) -> Tensor:
    """Return which logits of a teacher are of the classes of data, in the order of its labels, int64 (K,).

    They are told by name where both have names.

    Args:
        classifier: The teacher.
        data_module: Lightning's, of the images.

    Raises:
        ConfigError: The teacher does not know all the classes, or there are more than the file can number.
    """
    count = classifier.hparams.num_classes
    classes = classes_of(data_module, logits=count)
    places = logits_of_labels(classes, classifier.class_names, logits=count, has_published_weights=False)
    if places is None:
        places = list(range(count if classes.count is None else min(count, classes.count)))
    if len(places) > MOST_CLASSES:
        raise ConfigError(f"there are {len(places)} classes, and soft labels are of at most {MOST_CLASSES}")
    return torch.tensor(places)


@torch.inference_mode()
def ask(
    classifier: ImageClassifier,
    data_module: Any,
    loader: Order,
    epoch: int,
    *,
    logits: Tensor,
    top: int,
    progress: Callable[[int], None],
) -> np.ndarray:
    """Return the teacher's likeliest classes for every sample as it is in an epoch, uint16 (samples, 2, top).

    The teacher sees what the network is trained on before it is mixed and erased.

    Args:
        classifier: The teacher, in evaluation mode, on its device.
        data_module: Moves batches there.
        loader: Of its training images, all of them (`Order.take_all`).
        epoch: Number of the epoch.
        logits: Numbers of those to look at.
        top: How many classes are kept.
        progress: Is told how many samples are done.
    """
    rows, done = np.zeros((loader.samples, 2, top), np.uint16), np.zeros(loader.samples, bool)
    loader.set_epoch(epoch)
    for number, batch in enumerate(loader):  # type: ignore[arg-type, var-annotated]  # those of ours are iterable
        images = data_module.transfer_batch_to_device(batch, classifier.device, 0)[0]
        images = as_taken(images, len(classifier.mean)).contiguous(memory_format=torch.channels_last)
        images = (images - classifier.mean) / classifier.std
        samples = loader.batch_indices(number)
        rows[samples] = likeliest(classifier(images)[:, logits], top)
        done[samples] = True
        progress(int(done.sum()))
    for sample in np.flatnonzero(~done):  # unreadable: in training the next that is not stands in
        further = (sample + np.arange(1, len(done))) % len(done)
        rows[sample] = rows[further[done[further]][0]]
    return rows
