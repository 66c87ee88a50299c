"""Names by other people; whole networks of each spelling are in test_pretrained.py and test_golden_follow_up.py."""

import pytest
import timm
import torch

from poolformer.backbones import create_backbone
from poolformer.checkpoint.pretrained import load_pretrained
from poolformer.checkpoint.spellings import as_convolutions, in_our_names, without_prefixes
from poolformer.errors import CheckpointError


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("downsample_layers.0.conv.weight", "stem.conv.weight"),
        ("downsample_layers.0.post_norm.weight", "stem.norm.weight"),
        ("downsample_layers.2.conv.bias", "stages.2.downsample.conv.bias"),
        ("downsample_layers.2.pre_norm.weight", "stages.2.downsample.norm.weight"),
        ("stages.2.11.token_mixer.dwconv.weight", "stages.2.blocks.11.token_mixer.dwconv.weight"),
        ("stages.3.0.res_scale1.scale", "stages.3.blocks.0.res_scale1.scale"),
        ("norm.weight", "head.norm.weight"),
        ("head.norm.weight", "head.fc.norm.weight"),
        ("head.fc2.bias", "head.fc.fc2.bias"),
        ("head.weight", "head.fc.weight"),
    ],
)
def test_names_of_the_authors_later_code_are_translated(theirs, ours):
    weights = {"downsample_layers.1.conv.bias": torch.zeros(1), theirs: torch.ones(1)}
    found, notes = in_our_names(weights, "file")
    assert found[ours] == 1
    assert notes == []


def test_linear_layers_become_convolutions_where_the_network_has_them():
    network = {"fc1": torch.empty(8, 4, 1, 1), "qkv": torch.empty(8, 4)}
    found = as_convolutions({"fc1": torch.ones(8, 4), "qkv": torch.ones(8, 4), "other": torch.ones(2, 2)}, network)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "fc1": (8, 4, 1, 1),
        "qkv": (8, 4),
        "other": (2, 2),
    }


def test_prefixes_that_hide_one_name_twice_are_refused():
    with pytest.raises(CheckpointError, match="two tensors of one name"):
        without_prefixes({"module.a": torch.ones(1), "a": torch.ones(1)}, {"a"}, "file")


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module._orig_mod.", "net."])
@pytest.mark.parametrize("own", ["", "net.", "model."])
def test_prefixes_are_taken_away_but_not_the_network_s_own(own, prefix):
    network = [f"{own}0.weight", f"{own}1.weight"]
    found = without_prefixes({f"{prefix}{name}": torch.ones(1) for name in network}, network, "file")
    assert list(found) == network
    of_another = f"{own}2.weight"  # as a head that is not asked for
    assert list(without_prefixes({f"module.{of_another}": torch.ones(1)}, network, "file")) == [of_another]


@pytest.mark.slow
def test_a_head_for_other_classes_leaves_its_first_layer_as_published(tmp_path):
    theirs = create_backbone("convformer_s18", num_classes=4)
    torch.save(theirs.state_dict(), tmp_path / "convformer_s18.pth")
    ours = create_backbone("convformer_s18", num_classes=3)
    notes = load_pretrained(ours, tmp_path / "convformer_s18.pth", name="convformer_s18", mixer="separable_conv")
    assert [note.partition(": ")[2] for note in notes] == [
        "it is for 4 classes, the network for 3: the network's head is fresh and has to be trained"
    ]
    assert torch.equal(ours.head.fc.fc1.weight, theirs.head.fc.fc1.weight)


@pytest.mark.slow
def test_timms_linear_layers_beside_attention_are_taken_under_names_that_are_ours(tmp_path):
    theirs = timm.create_model("caformer_s18", num_classes=3).eval()
    theirs.head.fc.norm.eps = 1e-5
    assert theirs.stages[3].blocks[0].mlp.fc1.weight.ndim == 2
    torch.save(theirs.state_dict(), tmp_path / "caformer_s18.pth")
    ours = create_backbone("caformer_s18", num_classes=3).eval()
    load_pretrained(ours, tmp_path / "caformer_s18.pth", name="caformer_s18", mixer=None)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
