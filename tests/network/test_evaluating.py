"""A module is run in evaluation mode and gets back the modes that it had."""

import pytest
import torch
from torch import nn

from poolformer.network.evaluating import evaluating


@pytest.mark.parametrize("fails", [False, True])
def test_each_part_gets_back_the_mode_it_had(fails):
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
    network[0].eval()
    try:
        with evaluating(network):
            assert not any(part.training for part in network.modules())
            assert not torch.is_grad_enabled()
            if fails:
                raise ArithmeticError
    except ArithmeticError:
        assert fails
    assert [part.training for part in network.modules()] == [True, False, True]
    assert torch.is_grad_enabled()
