"""The weights of a checkpoint by their shapes."""

import torch

from poolformer.checkpoint.outline import Outline, nbytes


def test_shapes_have_the_backbone_s_names_and_no_memory():
    outline = Outline({"backbone.head.weight": torch.ones(3, 4), "epoch": 7})
    assert list(outline.shapes) == ["head.weight"]
    assert outline.shapes["head.weight"].shape == (3, 4)
    assert outline.shapes["head.weight"].is_meta
    assert outline.nbytes == 48


def test_what_is_shared_counts_once_and_what_is_repeated_not_at_all():
    weights = torch.ones(10)
    assert nbytes([weights, weights[:5], weights.view(2, 5)]) == 40
    assert nbytes([torch.ones(1).expand(1000)]) == 4
    assert nbytes([torch.ones(4, dtype=torch.int8), "text", None]) == 4


def test_a_sparse_tensor_is_counted_by_its_places():
    assert nbytes([torch.eye(3).to_sparse()]) == 9
