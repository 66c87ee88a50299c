"""Weights into a network with other mixers: what is loaded, what starts fresh, what is left out is said."""

import re
import warnings

import pytest
import torch
from safetensors.torch import save_file

from poolformer.backbones import create_backbone
from poolformer.checkpoint.pretrained import load_pretrained
from poolformer.checkpoint.record import RECORD, record
from poolformer.checkpoint.skipping import patterns_of
from poolformer.classifier import ImageClassifier
from poolformer.errors import CheckpointError, MisfitError, OptionsError

TINY = "poolformer_tiny"


def network(mixer="pooling", num_classes=10):
    torch.manual_seed(1)
    return create_backbone(TINY, num_classes=num_classes, mixer=mixer, image_size=8)


@pytest.fixture(params=["run", "state dict", "safetensors"])
def file(request, tmp_path):
    """Weights of a network with depthwise convolutions, as three kinds of files hold them."""
    torch.manual_seed(0)
    backbone = create_backbone(TINY, num_classes=10, mixer="depthwise", image_size=8)
    if request.param == "safetensors":
        save_file(backbone.state_dict(), tmp_path / "w.safetensors")
        return tmp_path / "w.safetensors", backbone.state_dict()
    weights, path = backbone.state_dict(), tmp_path / "w.pth"
    if request.param == "run":
        of_run = {f"backbone.{name}": value for name, value in weights.items()}
        said = record(backbone=TINY, mixer="depthwise", class_names=[*"abcdefghij"])
        torch.save({"state_dict": of_run, RECORD: said}, path)
    else:
        torch.save(weights, path)
    return path, weights


@pytest.mark.parametrize("mixer", ["attention", "identity"])
def test_mixers_start_fresh_and_all_else_is_loaded(file, mixer):
    path, weights = file
    model, fresh = network(mixer), network(mixer).state_dict()
    notes = load_pretrained(model, path, name=TINY, mixer=mixer, image_size=8, skip="mixers")
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh[name] if ".token_mixer." in name else weights[name]), name
    said = "\n".join(notes)
    assert re.search(r"\d+ tensors are loaded", said)
    assert ("start fresh (stages.0.blocks.0.token_mixer" in said) == (mixer == "attention")
    assert re.search(r"\d+ are left out \(stages.0.blocks.0.token_mixer", said)
    assert "trained with token mixer" not in said


def test_without_it_the_error_names_the_option(file):
    with pytest.raises(MisfitError, match=r"; --model.pretrained_skip mixers loads the rest and starts them fresh$"):
        load_pretrained(network("attention"), file[0], name=TINY, mixer="attention", image_size=8)


def test_patterns_skip_whatever_they_match_on_either_side(tmp_path):
    torch.save(network().state_dict(), tmp_path / "w.pth")
    torch.manual_seed(7)
    model = create_backbone(TINY, num_classes=10, mixer="pooling", image_size=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_pretrained(model, tmp_path / "w.pth", name=TINY, image_size=8, skip=["stages.3.*", "head.fc.*"])
    kept = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert {"head.fc.weight", "stages.3.downsample.conv.weight", "stages.3.blocks.0.mlp.fc1.weight"} <= kept
    assert "stem.conv.weight" not in kept
    assert patterns_of("mixers, head.*") == ("mixers", "head.*")


@pytest.mark.parametrize("skip", ["*.attn.*", "token_mixer", ["mixers", "hed.*"]])
def test_a_skip_that_matches_nothing_is_refused(tmp_path, skip):
    torch.save(network().state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        CheckpointError, match=r"--model.pretrained_skip \S+ matches no tensor of '.*w.pth' and none of"
    ):
        load_pretrained(network(), tmp_path / "w.pth", name=TINY, image_size=8, skip=skip)


def test_a_skip_needs_weights_and_is_no_option_of_a_checkpoint(tmp_path):
    with pytest.raises(OptionsError, match=r"says what to leave out of --model\.pretrained FILE"):
        ImageClassifier(TINY, 10, image_size=8, pretrained_skip="mixers")
    torch.save(network("depthwise").state_dict(), tmp_path / "w.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ImageClassifier(
            TINY, 10, image_size=8, mixer="attention", pretrained=str(tmp_path / "w.pth"), pretrained_skip="mixers"
        )
    assert "pretrained_skip" not in model.hparams
