"""A checkpoint that asks for a network of another size than its weights is refused before that is built."""

from pathlib import Path
from typing import Any

import pytest
import torch
from bounds import little_memory_and_time

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.backbones import create_backbone
from poolformer.checkpoint.record import RECORD, record
from poolformer.claims import Outline, check_claims, head_classes
from poolformer.classifier import ImageClassifier
from poolformer.cli import dispatch as cli
from poolformer.errors import CheckpointError, MisfitError
from poolformer.trained import load_classifier

TINY = {"backbone": "poolformer_tiny", "num_classes": 10, "image_size": 8}


def a_checkpoint(path: Path, *, state_dict: Any = None, pixels: int = 8, **claimed: Any) -> Path:
    network = ImageClassifier(**TINY)
    content = {
        "epoch": 1,
        "global_step": 1,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": state_dict or network.state_dict(),
        "hyper_parameters": {**TINY, **claimed},
        "datamodule_hyper_parameters": {"_class_path": "poolformer.data.DigitsData", "image_size": pixels},
        RECORD: record(backbone=TINY["backbone"], mixer="pooling", class_names=None),
    }
    torch.save(content, path)
    return path


CLAIMS = {
    "matrices of tokens": {"mixer": "random_matrix", "image_size": 256},
    "at many pixels": {"mixer": "random_matrix", "image_size": 4096},
    "more than can be counted": {"mixer": "random_matrix", "image_size": 10**7},
    "in one stage": {"mixer": ["pooling", "spatial_fc", "pooling", "pooling"], "image_size": 1024},
    "a huge filter": {"mixer": {"name": "depthwise", "kernel_size": 10**4 + 1}},
    "a huge position embedding": {"position_embedding": 1, "image_size": 20_000},
    "many classes": {"num_classes": 10**9},
    "another backbone": {"backbone": "poolformer_m48"},
    "a large one of timm": {"backbone": "timm/vit_giant_patch14_224"},
}


@pytest.mark.parametrize("claimed", CLAIMS.values(), ids=CLAIMS)
def test_a_network_larger_than_the_weights_is_refused_before_it_is_built(tmp_path, claimed):
    path = a_checkpoint(tmp_path / "x.ckpt", **claimed)
    __import__("timm") if "timm" in str(claimed) else None  # 4 s, whatever is asked of it
    with little_memory_and_time(), pytest.raises((CheckpointError, ValueError)) as caught:
        load_classifier(path)
    assert "\n" not in str(caught.value)


def test_it_is_said_which_tensors_do_not_fit(tmp_path):
    with pytest.raises(MisfitError) as caught:
        load_classifier(a_checkpoint(tmp_path / "x.ckpt", backbone="poolformer_m48"))
    assert "the weights do not fit backbone poolformer_m48" in str(caught.value)
    assert "it has depths [1, 1, 2, 1] and dims [16, 32, 64, 128], the network depths [8, 8, " in str(caught.value)
    assert caught.value.missing


def test_weights_that_only_repeat_a_number_vouch_for_nothing(tmp_path):
    huge = {"backbone.head.fc.weight": torch.zeros(1).expand(10**7, 128), "backbone.head.fc.bias": torch.zeros(10**7)}
    path = a_checkpoint(
        tmp_path / "x.ckpt", state_dict={**ImageClassifier(**TINY).state_dict(), **huge}, num_classes=10**7
    )
    with little_memory_and_time(), pytest.raises(CheckpointError, match="the weights do not fit"):
        load_classifier(path)


@pytest.mark.parametrize("verb", ["fit", "validate"])
@pytest.mark.parametrize("claimed", [{"mixer": "random_matrix", "pixels": 256}, {"num_classes": 10**9}], ids=str)
def test_no_verb_builds_what_a_checkpoint_claims(tmp_path, monkeypatch, capsys, verb, claimed):
    monkeypatch.chdir(tmp_path)
    a_checkpoint(tmp_path / "x.ckpt", **claimed)
    with little_memory_and_time():
        code = cli.main([verb, "--ckpt_path", "x.ckpt"])
    assert code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(said) == 1
    assert ("do not fit" if "pixels" in claimed else "1000000000 classes") in said[0]


DEEP = """
from torch import nn


class Deep(nn.Module):
    def __init__(self, dim: int, depth: int = 1):
        super().__init__()
        self.layers = nn.ModuleList(nn.Identity() for _ in range(depth))

    def forward(self, x):
        return x


class Table(nn.Module):
    def __init__(self, dim: int, side: int = 1):
        super().__init__()
        self.register_buffer("table", __import__("torch").zeros(side, side), persistent=False)

    def forward(self, x):
        return x


class LooksAtValues(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.scale = float(__import__("torch").rand(()).item())

    def forward(self, x):
        return self.scale * x
"""


@pytest.fixture
def plugin(fake_plugin):
    points = {"deep": "deep_mixer:Deep", "table": "deep_mixer:Table", "looks": "deep_mixer:LooksAtValues"}
    return fake_plugin(entry_points={"poolformer.mixers": points}, modules={"deep_mixer": DEEP})


@pytest.mark.parametrize(
    ("mixer", "said"),
    [
        ({"name": "deep", "depth": 10**9}, r"more than \d+ modules"),
        ({"name": "table", "side": 10**5}, r"tables of \d+ MiB"),
    ],
    ids=str,
)
def test_an_option_of_a_plugin_does_not_fill_the_memory(plugin, mixer, said):
    outline = Outline(ImageClassifier(**TINY).state_dict())
    with little_memory_and_time(), pytest.raises(CheckpointError, match=said):
        check_claims(outline, {**TINY, "mixer": mixer})


def test_a_network_that_looks_at_values_is_left_to_be_built(plugin):
    options = {**TINY, "mixer": "looks"}
    check_claims(Outline(ImageClassifier(**options).state_dict()), options)


SOUND = [
    {"backbone": "poolformer_m36", "num_classes": 1000},
    {"backbone": "randformer_s12", "num_classes": 10},
    {"mixer": "spatial_fc", "image_size": 32},
    {"mixer": ["pooling", "attention", "depthwise", "identity"], "position_embedding": 2},
    {"backbone": "timm/resnet18"},
    {"num_classes": 100_001},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", SOUND, ids=str)
def test_sound_weights_vouch_for_their_network(options, dtype):
    options = {**TINY, **options}
    with torch.device("meta"):
        weights = ImageClassifier(**options).to(dtype).state_dict()
    check_claims(Outline(weights), options)


def test_nothing_stays_counted():
    check_claims(Outline(ImageClassifier(**TINY).state_dict()), TINY)
    assert not torch.nn.modules.module._global_module_registration_hooks


@pytest.mark.parametrize(
    ("head", "asked", "expected"),
    [(7, {}, 7), (1, {}, 1), (0, {}, None), (7, {"backbone": "poolformer_xs12"}, None), (7, {"mixer": "none"}, None)],
    ids=["seven", "one", "no head", "of another network", "of none"],
)
def test_how_many_classes_published_weights_are_for(tmp_path, head, asked, expected):
    torch.save(create_backbone("poolformer_tiny", num_classes=head).state_dict(), tmp_path / "x.pth")
    assert head_classes(str(tmp_path / "x.pth"), {**TINY, **asked}) == expected


def test_timm_knows_the_classes_of_its_weights_without_a_download():
    assert head_classes("timm/resnetv2_50x1_bit.goog_in21k", {}) == 21843
    assert head_classes("timm/no_such_model", {}) is None
