"""Weights for three channels in networks of others: as timm loads them, whoever the network is of."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from poolformer.backbones import create_backbone
from poolformer.checkpoint.first_layer import fit_channels
from poolformer.checkpoint.pretrained import load_pretrained
from poolformer.errors import MisfitError, OptionsError


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_the_weights_are_those_that_timm_loads(tmp_path, channels):
    file = tmp_path / "resnet.safetensors"
    save_file(timm.create_model("resnet10t").state_dict(), file)
    theirs = timm.create_model(
        "resnet10t", in_chans=channels, pretrained=True, pretrained_cfg_overlay={"file": str(file)}
    )
    with pytest.warns(UserWarning, match=f"of 3 channels and the network of {channels}: the weights of conv1.0 are"):
        ours = create_backbone("timm/resnet10t", in_chans=channels, pretrained=str(file))
    found, expected = ours.state_dict(), theirs.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_depthwise_convolution_is_not_taken_for_the_first_one():
    network = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 3, groups=6))
    network.in_chans = 1
    weights = {"0.weight": torch.ones(6, 3, 3, 3), "1.weight": torch.ones(6, 3, 3, 3)}
    [note] = fit_channels(weights, network)
    assert "the weights of 0 are summed" in note
    assert torch.equal(weights["0.weight"], torch.full((6, 1, 3, 3), 3.0))
    assert weights["1.weight"].shape == (6, 3, 3, 3)


def test_weights_of_as_many_channels_stay_and_nothing_is_said():
    network = create_backbone("poolformer_tiny")
    weights = network.state_dict()
    assert fit_channels(weights, network) == []


def test_a_patch_of_another_size_is_refused_as_ever(tmp_path):
    save_file(create_backbone("poolformer_xs12", num_classes=4).state_dict(), tmp_path / "weights.safetensors")
    network = create_backbone("poolformer_tiny", num_classes=4, in_chans=1)
    with pytest.raises(MisfitError):
        load_pretrained(network, tmp_path / "weights.safetensors", name="poolformer_tiny")


def test_a_backbone_without_the_option_says_so(monkeypatch):
    from poolformer import registry

    monkeypatch.setattr(registry.Entry, "load", lambda self: lambda *, num_classes: nn.Linear(1, num_classes))
    with pytest.raises(OptionsError, match="has no option in_chans: its images are not of 4 channels"):
        create_backbone("poolformer_tiny", in_chans=4)


@pytest.mark.parametrize(
    "name", ["poolformer_s12", "identityformer_s12", "caformer_s18", "resmlp_b24", "timm/resnet10t"]
)
def test_every_backbone_of_ours_takes_images_of_other_channels(name):
    with torch.device("meta"):
        network = create_backbone(name, in_chans=4, num_classes=2).eval()
        assert network(torch.empty(1, 4, 224, 224)).shape == (1, 2)
    assert network.in_chans == 4
