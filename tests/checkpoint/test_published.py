"""Which network published weights are of: by the names that people's files have, and by the record of an export."""

import json

import pytest
import torch
from safetensors.torch import save_file

from poolformer.checkpoint.published import is_published, published, without_ending
from poolformer.errors import CheckpointError

# What the authors, mmpretrain, timm and the hub call them.
NAMES = {
    "poolformer_s12.pth.tar": ("poolformer_s12", 224, 0.9),
    "poolformer_m48.pth.tar": ("poolformer_m48", 224, 0.95),
    "poolformerv2_s12.pth": ("poolformerv2_s12", 224, 1.0),
    "downloads/caformer_s18_384_in21ft1k.pth": ("caformer_s18", 384, 1.0),
    "poolformer-s36_3rdparty_32xb128_in1k_20220414-d78ff3e8.pth": ("poolformer_s36", 224, 0.9),
    "timm/convformer_b36.sail_in22k_ft_in1k_384": ("convformer_b36", 384, 1.0),
    "hf-hub:sail/poolformer_s24": ("poolformer_s24", 224, 0.9),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_the_backbone_the_side_and_the_crop(name):
    assert is_published(name)
    found = published(name)
    assert (found.model, found.image_size, found.crop_pct) == ({"backbone": NAMES[name][0]}, *NAMES[name][1:])
    assert found.source == name


def test_the_name_of_a_backbone_is_what_timm_downloads():
    assert is_published("poolformer_s12")
    assert published("poolformer_s12").source == "timm/poolformer_s12"


@pytest.mark.parametrize("word", ["best.ckpt", "runs/s12/checkpoints/last.ckpt", "dog.jpg", "last", "s12.onnx"])
def test_other_words_are_none(word):
    assert not is_published(word)


def test_a_file_in_the_way_of_a_name_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "poolformer_s12").mkdir()
    assert not is_published("poolformer_s12")


def test_models_of_timm_alone_bring_what_timm_knows():
    found = published("timm/vit_tiny_patch16_384")
    assert found.model == {"backbone": "timm/vit_tiny_patch16_384", "mean": [0.5] * 3, "std": [0.5] * 3}
    assert (found.image_size, found.crop_pct) == (384, 1.0)


def test_a_missing_file_is_said_before_its_backbone_is_asked_for():
    with pytest.raises(CheckpointError, match=r"no weights at 'nothere\.pth\.tar': pass a file"):
        published("nothere.pth.tar")
    with pytest.raises(CheckpointError, match=r"weights come from a file: download 'https://a\.org/b\.pth'"):
        published("https://a.org/b.pth")


def test_a_name_that_says_nothing_needs_the_backbone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pth").touch()
    with pytest.raises(CheckpointError, match=r"'mine\.pth' does not say which backbone its weights are of: pass --b"):
        published("mine.pth")
    assert published("mine.pth", "poolformer_xs12").model == {"backbone": "poolformer_xs12"}


def test_an_export_says_all_of_it(tmp_path):
    record = {
        "backbone": "poolformer_tiny",
        "frame": {"mixer": {"name": "identity"}},
        "class_names": ["cat", "dog"],
        **{"mean": [0.5], "std": [0.2], "image_size": 32, "crop_pct": 1.0, "orient": True},
    }
    file = tmp_path / "mine.safetensors"
    save_file({"w": torch.zeros(1)}, file, {"poolformer": json.dumps(record)})
    found = published(str(file))
    assert found.model["mixer"] == {"name": "identity"}
    assert found.model["in_chans"] == 1
    assert (found.image_size, found.crop_pct, found.orient, found.class_names) == (32, 1.0, True, ["cat", "dog"])


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("a/poolformer_s12.pth.tar", "a/poolformer_s12"),
        ("runs/a/checkpoints/best.ckpt", "runs/a/checkpoints/best"),
        ("s3://bucket/run/best.ckpt", "best"),
        ("hf-hub:user/repo", "repo"),
        ("timm/caformer_s18.sail_in1k", "caformer_s18.sail_in1k"),
    ],
)
def test_what_is_made_of_weights_is_called_after_them(word, stem):
    assert without_ending(word).removesuffix(".ckpt") == stem
