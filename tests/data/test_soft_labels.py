"""Soft labels in a file: what is stored, what comes back, what is refused, and an interruption."""

import pickle
import re

import numpy as np
import pytest
import torch
from safetensors import safe_open

from poolformer.data.soft_labels import SoftLabels, SoftLabelsWriter, expanded, likeliest
from poolformer.errors import DataError

FACTS = {"seed": 0, "num_classes": 40}


def rows_of(epoch: int, *, samples: int = 5, top: int = 3) -> np.ndarray:
    generator = torch.Generator().manual_seed(epoch)
    return likeliest(torch.randn(samples, 40, generator=generator), top)


def write(path, *, epochs=2, facts=FACTS):
    with SoftLabelsWriter(path, facts, epochs=epochs, samples=5, top=3) as file:
        for epoch in range(file.done, epochs):
            file.add(rows_of(epoch))
        file.publish()
    return path


def test_what_is_written_comes_back_by_epoch_and_sample(tmp_path):
    labels = SoftLabels(write(tmp_path / "labels"))
    assert (labels.facts, labels.epochs, labels.samples, labels.top) == (FACTS, 2, 5, 3)
    for epoch in (1, 0):
        samples = np.array([4, 0, 2])
        assert (labels.rows(epoch, samples, classes=40) == rows_of(epoch)[samples]).all()
    again = pickle.loads(pickle.dumps(labels))
    assert (again.rows(1, np.arange(5), classes=40) == rows_of(1)).all()
    assert not (tmp_path / "labels.unfinished").exists()


def test_the_file_is_one_of_safetensors(tmp_path):
    with safe_open(write(tmp_path / "labels"), framework="np") as file:
        assert list(file.keys()) == ["views"]
        assert (file.get_tensor("views") == np.stack([rows_of(0), rows_of(1)])).all()


def test_targets_are_the_teachers_probabilities_with_the_rest_spread_evenly():
    logits = 3 * torch.randn(6, 40)
    targets, exact = expanded(likeliest(logits, 3), 40), logits.softmax(1)
    torch.testing.assert_close(targets.sum(1), torch.ones(6))
    values, classes = exact.topk(3)
    torch.testing.assert_close(targets.gather(1, classes), values, rtol=0.002, atol=1e-4)
    rest = targets.scatter(1, classes, -1)
    rest = rest[rest >= 0].view(6, 37)
    torch.testing.assert_close(rest, (1 - values.sum(1, keepdim=True)).expand(6, 37) / 37, rtol=0.02, atol=1e-4)


def test_all_classes_are_the_teachers_probabilities():
    logits = 3 * torch.randn(6, 4)
    torch.testing.assert_close(expanded(likeliest(logits, 4), 4), logits.softmax(1), rtol=0.002, atol=1e-4)


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="not finite"):
        likeliest(torch.tensor([[0.0, float("nan")]]), 1)


def test_what_was_interrupted_begins_behind_its_last_whole_epoch(tmp_path):
    whole = write(tmp_path / "whole", epochs=3).read_bytes()
    with SoftLabelsWriter(tmp_path / "labels", FACTS, epochs=3, samples=5, top=3) as file:
        file.add(rows_of(0))
        with pytest.raises(DataError, match="being written by another"):
            SoftLabelsWriter(tmp_path / "labels", FACTS, epochs=3, samples=5, top=3)
    with (tmp_path / "labels.unfinished").open("ab") as file:
        file.write(b"half an epoch")
    with SoftLabelsWriter(tmp_path / "labels", FACTS, epochs=3, samples=5, top=3) as file:
        assert file.done == 1
    assert write(tmp_path / "labels", epochs=3).read_bytes() == whole


def test_what_was_begun_of_other_views_is_begun_again(tmp_path):
    with SoftLabelsWriter(tmp_path / "labels", FACTS, epochs=2, samples=5, top=3) as file:
        file.add(rows_of(7))
    other = write(tmp_path / "labels", facts={**FACTS, "seed": 1})
    assert (SoftLabels(other).rows(0, np.arange(5), classes=40) == rows_of(0)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], "cut off"),
        (lambda content: content[:100], "no file that `poolformer teach` wrote"),
        (lambda content: b"\xff" * 500, "no file that `poolformer teach` wrote"),
        (lambda content: b"", "no file that `poolformer teach` wrote"),
        (lambda content: content[:-60] + b"\xff" * 60, "damaged in epoch 1"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_missing_or_damaged_is_told_by_its_name(tmp_path, change, message):
    path = write(tmp_path / "labels")
    content = path.read_bytes()
    path.unlink()
    if change is not None:
        path.write_bytes(change(content))
    with pytest.raises(DataError, match=f"{re.escape(str(path))}.*{message}"):
        SoftLabels(path).rows(1, np.arange(5), classes=40)


def test_an_epoch_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="has 2 epochs, and this is epoch 2"):
        SoftLabels(write(tmp_path / "labels")).rows(2, np.arange(5), classes=40)
