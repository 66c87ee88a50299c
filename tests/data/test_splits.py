"""Folders named like parts of a data set are told from classes."""

import pytest

from poolformer.data.splits import split_kind, splits_among


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train", ("train", ())),
        ("Testing", ("test", ())),
        ("valid", ("val", ())),
        ("seg_train", ("train", ("seg",))),
        ("train_images", ("train", ())),
        ("trainset", ("train", ())),
        ("imagesVal", ("val", ())),
        ("predictions", ("predict", ())),
        ("bus", None),
        ("restraint", None),
        ("train_test", None),  # of two kinds: of neither
    ],
)
def test_the_part_that_a_name_says(name, kind):
    assert split_kind(name) == kind


def test_splits_are_told_where_two_kinds_lie_beside_each_other():
    assert splits_among(["train", "val", "notes"]) == {"train": "train", "val": "val"}
    assert splits_among(["train", "bus", "car"]) == {}
    assert splits_among(["seg_train", "seg_test", "other_val"]) == {"seg_train": "train", "seg_test": "test"}
    assert splits_among([]) == {}
