"""The numbers of our own backbones are those of the networks."""

import pytest
import torch

from poolformer import registry
from poolformer.backbones import create_backbone
from poolformer.network.complexity import count
from poolformer.sizes import SIZES

# One of each kind of frame and mixers; the others differ from these in depths and widths alone.
KINDS = {
    *("poolformer_s12", "poolformer_tiny", "poolformerv2_s12"),
    *("identityformer_s12", "randformer_s12", "caformer_s18", "resmlp_b24"),
}


def each_size() -> list:
    return [pytest.param(name, marks=() if name in KINDS else pytest.mark.exhaustive) for name in SIZES]


@pytest.mark.parametrize("name", each_size())
def test_a_size_is_that_of_the_network(name):
    with torch.device("meta"):
        counted = count(create_backbone(name), image_size=224)
    size = SIZES[name]
    assert counted == (size.parameters, size.macs, size.frozen)


def test_every_backbone_of_ours_has_its_size():
    ours = [name for name, entry in registry.listing(registry.BACKBONES).items() if entry.builtin]
    assert sorted(SIZES) == sorted(ours)
