"""Options of the frame: the backbone's own where nothing is asked, and refused where it has none."""

import pytest

from poolformer.errors import OptionsError
from poolformer.network.frame_options import asked_for, built_options, own_options, takes_mixer, without_unasked


def test_what_is_not_asked_is_the_backbone_s_own():
    built = built_options("poolformer_s12", {"norm": None, "act": "relu", "lr": 3})
    assert (built["mixer"], built["norm"], built["act"]) == ({"name": "pooling"}, "group", "relu")
    assert "lr" not in built


def test_an_option_that_is_fixed_can_be_asked_for_as_it_is_and_no_other():
    assert not takes_mixer("identityformer_s12")
    assert built_options("identityformer_s12", {"mixer": "identity"})
    assert "mixer" not in asked_for("identityformer_s12", {"mixer": "identity"})
    with pytest.raises(OptionsError, match="has mixer 'identity' and takes no other, not 'pooling'"):
        built_options("identityformer_s12", {"mixer": "pooling"})


def test_timm_s_networks_have_their_own_frame():
    assert own_options("timm/resnet18") == {}
    assert asked_for("timm/resnet18", {"drop_path_rate": 0.1, "norm": None}) == {"drop_path_rate": 0.1}
    with pytest.raises(OptionsError, match="is timm's own network and does not take norm"):
        built_options("timm/resnet18", {"norm": "layer"})


def test_what_earlier_checkpoints_did_not_ask_for_is_left_out():
    options = {"mixer": {"name": "pooling"}, "norm": "layer", "act": "gelu", "lr": 1}
    assert without_unasked(options) == {"norm": "layer", "lr": 1}
