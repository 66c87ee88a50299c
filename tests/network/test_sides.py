"""Progressive resizing is refused where the network takes one size of images only."""

import pytest
import torch
from torch import nn

from poolformer import create_backbone
from poolformer.errors import ConfigError
from poolformer.network.sides import check_sides

GROWTH = {"first": 16, "last": 48}


def test_a_network_of_any_size_may_grow_and_stays_where_it_is():
    network = create_backbone("poolformer_tiny", num_classes=2)
    check_sides(network, GROWTH, name="poolformer_tiny", image_size=32)
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}
    assert network.training


def test_a_network_of_one_size_is_named_with_the_size_it_does_not_take():
    network = create_backbone("poolformer_tiny", num_classes=2, mixer="spatial_fc", image_size=32)
    with pytest.raises(ConfigError, match=r"'tiny' is built for images of 32 pixels and does not take 16, so progr"):
        check_sides(network, GROWTH, name="tiny", image_size=32)
    check_sides(network, None, name="tiny", image_size=32)


class LooksAtValues(nn.Module):
    def forward(self, x):
        return x if x.sum().item() else -x


def test_a_network_of_which_shapes_say_nothing_is_believed():
    check_sides(LooksAtValues(), GROWTH, name="own", image_size=32)
    assert LooksAtValues()(torch.ones(1)) == 1
