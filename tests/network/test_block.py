"""A block is two branches; see test_metaformer.py for it within the network."""

import pytest
import torch
from torch import nn

from poolformer.network.block import Block, BlockOptions
from poolformer.network.layers import Scale


def block(**changes) -> Block:
    options = {"norm": lambda dim: nn.GroupNorm(1, dim), "act": nn.GELU, "mlp_ratio": 2.0, "mlp_bias": True}
    options |= {"layer_scale_init": 0.5, "residual_scale_init": None, "residual": True, "channel_mlp": True}
    return Block(4, nn.Conv2d(4, 4, 1), BlockOptions(**{**options, **changes}), 0.0).eval()


@pytest.mark.parametrize("residual", [True, False])
def test_a_branch_is_added_to_what_came_in_or_stands_for_it(residual):
    one, x = block(residual=residual), torch.randn(2, 4, 3, 5)
    tokens = 0.5 * one.token_mixer(one.norm1(x)) + residual * x
    torch.testing.assert_close(one.mix_tokens(x), tokens)
    torch.testing.assert_close(one(x), 0.5 * one.mlp(one.norm2(tokens)) + residual * tokens)


def test_without_a_channel_mlp_the_second_branch_is_its_layer_scale():
    one, x = block(channel_mlp=False), torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(one.mix_channels(x), 1.5 * x)
    assert not list(one.mlp.parameters())


def test_scales_that_nobody_asks_for_are_not_there():
    one = block(layer_scale_init=None, residual_scale_init=1.0)
    assert isinstance(one.layer_scale1, nn.Identity)
    assert isinstance(one.res_scale1, Scale)


def test_another_computation_takes_the_place_of_the_two_halves():
    one = block()
    one.execution = lambda block, x: block.mix_tokens(x) * 0
    assert not one(torch.ones(1, 4, 2, 2)).any()
