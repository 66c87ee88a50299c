"""Images of any layout reach a compiled network as they are."""

import pytest
import torch
from torch import nn

from poolformer.network.compiled import AnyLayout, layouts


def test_layouts_are_the_same_images_in_other_places():
    images = torch.randn(2, 3, 4, 5)
    found = layouts(images)
    assert all(torch.equal(each, images) for each in found)
    assert len({each.stride() for each in found}) == len(found)


@pytest.mark.filterwarnings("ignore:index_reduce.. is in beta")
def test_a_network_sees_any_layout_in_that_of_its_example():
    seen = []
    network = nn.Sequential(nn.Flatten(), nn.Linear(60, 2))
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].stride()))
    images = torch.randn(2, 3, 4, 5)
    results = [AnyLayout(network, 3)(each) for each in layouts(images)]
    assert {*seen} == {images.stride()}
    assert all(torch.equal(each, results[0]) for each in results)


@pytest.mark.parametrize("images", [torch.ones(1, 2, 4, 5), torch.ones(1, 3, 4, 5, dtype=torch.uint8)])
def test_other_images_are_refused(images):
    with pytest.raises((RuntimeError, IndexError)):
        AnyLayout(nn.Sequential(nn.Flatten(), nn.Linear(60, 2)), 3)(images)
