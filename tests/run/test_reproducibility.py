"""Draws that repeat, and changes that are said."""

import hashlib
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from poolformer.run.reproducibility import changes, image_set, seed_draws


def drawn(*place: int) -> tuple[float, float, float]:
    seed_draws(*place)
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_draws_are_those_of_their_place():
    assert drawn(42, 1, 2) == drawn(42, 1, 2)
    assert len({drawn(*place) for place in [(42, 1, 2), (42, 2, 1), (43, 1, 2), (42, 1)]}) == 4


def test_a_seed_means_what_it_means_to_the_three_libraries():
    for place in ((0, 0, 0, 0), (2024, 7, 311, 3)):
        found = drawn(*place)
        seed = int.from_bytes(hashlib.blake2b(repr(place).encode(), digest_size=4).digest(), "big")
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        assert found == (random.random(), np.random.rand(), torch.rand(1).item())


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"lr": 1}, {"lr": 1.0}, []),
        ({"lr": 1}, {"lr": 2}, ["lr 2 (was 1)"]),
        ({"scale": (0.1, 1)}, {"scale": [0.1, 1]}, []),
        ({"limit_val_batches": 1}, {"limit_val_batches": 1.0}, ["limit_val_batches 1.0 (was 1)"]),
        ({"num_workers": 1}, {"num_workers": 2}, []),
        ({"of_before": 1}, {"of_now": 2}, []),
        ({"batches_per_epoch": float("inf")}, {"batches_per_epoch": 5}, []),
        ({"train_files": "a"}, {"train_files": "b"}, ["files of the training images (changed)"]),
        ({"train": "a", "train_files": "x"}, {"train": "b", "train_files": "x"}, []),  # the same images elsewhere
    ],
)
def test_what_is_another_option_is_said(before, now, said):
    assert changes(before, now) == said


def test_images_are_told_by_their_labels_and_files():
    loader = SimpleNamespace(labels=[0, 1, 1], source=SimpleNamespace(fingerprint="abc"))
    known = image_set(loader, "train")
    assert (known["train_images"], known["train_files"]) == (3, "abc")
    loader.labels = [1, 0, 1]
    assert image_set(loader, "train")["train_labels"] != known["train_labels"]
    assert image_set(SimpleNamespace(dataset=[1, 2]), "val") == {"val_images": 2}
    assert image_set(object(), "val") == {}
