"""Other ways to compute a block give what the block gives."""

import pytest
import torch

from poolformer import create_backbone
from poolformer.network.execution import Execution, execution_of


@pytest.fixture
def block():
    network = create_backbone("poolformer_tiny", num_classes=2)
    return network.stages[0].blocks[0]


def gradients(block, x, execution):
    block.execution = execution
    block.zero_grad()
    y = block(x)
    y.square().sum().backward()
    return y.detach(), [parameter.grad.clone() for parameter in block.parameters()]


def halves(block, x, *, recompute):
    return block.mix_channels(x)


@pytest.mark.parametrize(
    "execution",
    [
        Execution(),
        Execution(recompute=True),
        Execution(mix_channels=halves),
        Execution(mix_channels=halves, recompute=True),
        Execution(mix_tokens=lambda block, x: block.mix_tokens(x)),
    ],
)
def test_it_computes_the_same(block, execution):
    x = torch.randn(2, block.norm1.num_channels, 4, 4)
    expected = gradients(block, x, None)
    torch.testing.assert_close(gradients(block, x, execution), expected, rtol=1e-4, atol=1e-5)


def test_it_is_changed_in_a_part(block):
    assert execution_of(block) == Execution()
    block.execution = execution_of(block)._replace(recompute=True)
    assert execution_of(block) == Execution(recompute=True)
