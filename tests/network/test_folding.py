"""The inference form has the outputs of the network it was made from."""

import copy

import pytest
import torch
from torch import nn

from poolformer.backbones import create_backbone
from poolformer.errors import OptionsError
from poolformer.network.folding import fold
from poolformer.network.layers import Scale


def drawn(name: str = "poolformer_tiny", **options) -> nn.Module:
    """A network in evaluation mode whose scales, norms and biases are far from where they start."""
    network = create_backbone(name, num_classes=10, image_size=32, **options).eval()
    for key, tensor in network.state_dict().items():
        if "scale" in key or key.endswith("running_var"):
            tensor.uniform_(0.2, 1.5)
        elif "norm" in key and key.endswith("weight"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.ndim == 1:
            tensor.normal_(0, 0.3)
    return network


def largest_difference(found, expected) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("norm", ["group", "layer", "batch", "none"])
@pytest.mark.parametrize(
    "mixer", ["pooling", "identity", "depthwise", "attention", "random_matrix", "spatial_fc", "separable_conv"]
)
@torch.no_grad()
def test_outputs_stay_the_same(mixer, norm):
    network, images = drawn(mixer=mixer, norm=norm).double(), torch.randn(2, 3, 32, 32).double()
    expected = network(images)
    assert largest_difference(fold(network)(images), expected) < 1e-13
    assert torch.equal(network(images), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"residual": False},
        {"channel_mlp": False},
        {"layer_scale_init": 0.0},
        {"act": "silu"},
        {"name": "poolformerv2_s12"},
        {"name": "caformer_s18"},
        {"name": "identityformer_s12"},
        {"name": "poolformerv2_s12", "norm": "batch"},
        {"name": "poolformerv2_s12", "norm": "group"},
        {"mixer": ["pooling", "pooling", "attention", "attention"], "norm": "layer", "position_embedding": 3},
    ],
    ids=str,
)
@torch.no_grad()
def test_outputs_stay_the_same_in_other_frames(options):
    network, images = drawn(**options).double(), torch.randn(2, 3, 32, 32).double()
    assert largest_difference(fold(network)(images), network(images)) < 1e-12


@pytest.mark.slow
@torch.no_grad()
def test_rounding_is_no_worse_than_the_networks_own():
    network, images = drawn("poolformer_s12"), torch.randn(2, 3, 64, 64)
    exact = copy.deepcopy(network).double()(images.double())
    assert largest_difference(fold(network)(images), exact) < 2e-6


def test_norms_and_scales_are_gone():
    folded = fold(drawn())
    assert not any(isinstance(module, Scale) for module in folded.modules())
    names = {name for name, _ in folded.named_parameters() if "norm" in name}
    assert names == {name for name in names if "norm1" in name}
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_a_mixer_with_a_bias_keeps_its_scale():
    scales = [name for name, module in fold(drawn(mixer="depthwise")).named_modules() if isinstance(module, Scale)]
    assert scales
    assert all(name.endswith("layer_scale1") for name in scales)


def test_a_network_in_training_is_refused():
    with pytest.raises(OptionsError, match=r"call eval\(\) first"):
        fold(drawn().train())


@torch.no_grad()
def test_another_network_is_copied():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)).eval()
    folded = fold(network)
    assert folded is not network
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(folded(images), network(images))
