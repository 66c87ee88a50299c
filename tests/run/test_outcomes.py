"""Numbers of an evaluation against torchmetrics' own, and by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
)

from poolformer.run.outcomes import BINS, OutcomesMetric, Worst

CLASSES = 5


def batches(count=4, size=9):
    torch.manual_seed(0)
    return [(3 * torch.randn(size, CLASSES), torch.randint(CLASSES, (size,))) for _ in range(count)]


@pytest.fixture
def collected():
    metric = OutcomesMetric()
    for logits, labels in batches():
        metric.update(logits, labels)
    logits, labels = (torch.cat(each) for each in zip(*batches(), strict=True))
    return metric.outcomes(), logits, labels


def test_the_confusion_matrix_is_that_of_torchmetrics(collected):
    outcomes, logits, labels = collected
    expected = multiclass_confusion_matrix(logits, labels, CLASSES)
    assert np.array_equal(outcomes.confusion_matrix(CLASSES), expected.numpy())


def test_confusions_are_the_largest_cells_beside_the_diagonal(collected):
    outcomes, _, _ = collected
    matrix = outcomes.confusion_matrix(CLASSES)
    np.fill_diagonal(matrix, 0)
    found = outcomes.confusions(1000)
    assert {(label, said): count for label, said, count in found} == {
        (int(a), int(b)): int(matrix[a, b]) for a, b in np.argwhere(matrix)
    }
    assert [count for *_, count in found] == sorted((count for *_, count in found), reverse=True)
    assert outcomes.confusions(2) == found[:2]


def test_accuracy_by_class_is_that_of_torchmetrics(collected):
    outcomes, logits, labels = collected
    expected = multiclass_accuracy(logits, labels, CLASSES, average=None)
    assert [share for _, share, _ in outcomes.accuracy_by_class()] == pytest.approx(expected.tolist())


def test_the_calibration_error_is_that_of_torchmetrics_and_of_the_diagram(collected):
    outcomes, logits, labels = collected
    expected = float(multiclass_calibration_error(logits.softmax(1), labels, CLASSES, n_bins=BINS))
    assert outcomes.calibration_error == pytest.approx(expected)
    total = len(labels)
    by_hand = sum(count / total * abs(sure - right) for sure, right, count in outcomes.calibration())
    assert by_hand == pytest.approx(expected)


def test_one_image_is_enough():
    metric = OutcomesMetric()
    metric.update(torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
    outcomes = metric.outcomes()
    assert outcomes.confusions(3) == [(0, 1, 1)]
    assert outcomes.accuracy_by_class() == [(0, 0.0, 1)]


def test_without_a_mistake_there_are_no_confusions():
    metric = OutcomesMetric()
    metric.update(torch.tensor([[1.0, 2.0]]), torch.tensor([1]))
    assert metric.outcomes().confusions(3) == []


def test_the_worst_are_those_whose_label_is_least_likely():
    worst, images = Worst(3), torch.arange(36.0).view(36, 1, 1, 1)
    for number, (logits, labels) in enumerate(batches()):
        worst.update(images[number * 9 : number * 9 + 9], logits, labels)
    logits, labels = (torch.cat(each) for each in zip(*batches(), strict=True))
    order = logits.softmax(1).gather(1, labels[:, None])[:, 0].argsort()[:3]
    kept = worst.take()
    assert kept[0].flatten().tolist() == order.tolist()
    assert kept[1].tolist() == labels[order].tolist()
    assert kept[2].tolist() == logits[order].argmax(1).tolist()
    assert worst.take() is None


def test_images_of_another_size_go_onto_no_sheet():
    worst = Worst(3)
    worst.update(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2), torch.tensor([0]))
    worst.update(torch.zeros(1, 3, 8, 8), torch.zeros(1, 2), torch.tensor([0]))
    assert worst.take()[0].shape == (1, 3, 4, 4)
