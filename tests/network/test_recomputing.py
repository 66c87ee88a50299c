"""Blocks are computed again where the numbers stay the same."""

import pytest
import torch
from torch import nn

from poolformer import create_backbone
from poolformer.errors import OptionsError
from poolformer.network.recomputing import recompute


def test_a_recomputed_network_has_the_same_gradients():
    network, images, found = create_backbone("poolformer_tiny", num_classes=2), torch.randn(2, 3, 16, 16), []
    for change in (lambda network: None, recompute):
        change(network)
        network.zero_grad()
        network(images).square().sum().backward()
        found.append([parameter.grad.clone() for parameter in network.parameters()])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


def test_batch_norms_would_count_each_batch_twice():
    with pytest.raises(OptionsError, match="batch norms cannot be recomputed"):
        recompute(create_backbone("poolformer_tiny", norm="batch"))


def test_a_network_without_blocks_says_so():
    with pytest.raises(OptionsError, match="this network cannot be recomputed: AttributeError"):
        recompute(nn.Linear(2, 2))
