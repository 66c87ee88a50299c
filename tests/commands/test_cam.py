"""Grad-CAM: the maps lie where a network was taught to look, for backbones of every layout."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from poolformer.classifier import ImageClassifier
from poolformer.cli.dispatch import main
from poolformer.commands.cam import _label, class_activation_map
from poolformer.errors import CheckpointError, ConfigError
from poolformer.trained import evaluation_pixels, load_classifier

SIDE = 32
NAMES = ["left", "right", "neither"]


def bars(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a bright bar in the left or the right third, or none: uint8 (B, 3, S, S) and labels (B,)."""
    images = torch.randint(0, 60, (count, 3, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.arange(count) % 3
    images[labels == 0, :, :, 4:10] += 190
    images[labels == 1, :, :, 22:28] += 190
    return images, labels


def taught(backbone: str, **options) -> ImageClassifier:
    torch.manual_seed(0)
    classifier = ImageClassifier(backbone, num_classes=3, image_size=SIDE, mixup=0, cutmix=0, erase_prob=0, **options)
    classifier.class_names = NAMES
    optimizer = torch.optim.AdamW(classifier.parameters(), 1e-3)
    for _ in range(40):
        images, labels = bars(18)
        loss = torch.nn.functional.cross_entropy(classifier((images - classifier.mean) / classifier.std), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    return classifier.eval()


@pytest.fixture(scope="module")
def classifier():
    return taught("poolformer_tiny")


@pytest.fixture
def checkpoint(classifier, tmp_path):
    return save(classifier, tmp_path / "runs" / "bars" / "checkpoints" / "best.ckpt")


def save(classifier, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": classifier.state_dict(),
        "hyper_parameters": dict(classifier.hparams),
    }
    classifier.on_save_checkpoint(content)
    torch.save(content, path)
    return path


def warmth(heat) -> list[float]:
    """Red minus blue in the left and the right half: where the map is hot."""
    difference = heat[..., 0].astype(float) - heat[..., 2]
    return [difference[:, : SIDE // 2].mean(), difference[:, SIDE // 2 :].mean()]


@pytest.mark.slow
def test_an_image_is_cropped_as_the_run_evaluated(classifier, tmp_path):
    image = Image.new("RGB", (SIDE, SIDE))
    image.paste("white", (0, 0, SIDE // 4, SIDE))
    image.save(tmp_path / "edge.png")
    content = torch.load(save(classifier, tmp_path / "a.ckpt"), weights_only=True)
    pixels, edge = {}, str(tmp_path / "edge.png")
    for crop_pct in (1.0, 0.5, None, "no share"):
        torch.save({**content, "datamodule_hyper_parameters": {"crop_pct": crop_pct}}, tmp_path / "b.ckpt")
        pixels[crop_pct] = evaluation_pixels(edge, load_classifier(tmp_path / "b.ckpt"))
    whole, half = (pixels[crop_pct].float().mean() for crop_pct in (1.0, 0.5))
    assert whole > 50 > 10 > half  # a white quarter, which half of the image leaves out
    assert torch.equal(pixels[None], evaluation_pixels(edge, classifier, 0.9))
    assert torch.equal(pixels[None], pixels["no share"])


@pytest.mark.parametrize("label", [0, 1])
def test_the_map_is_hot_where_the_class_is(classifier, label):
    images, _ = bars(3)
    found, probability, heat = class_activation_map(classifier, images[label])
    assert (found, heat.shape, str(heat.dtype)) == (label, (SIDE, SIDE, 3), "uint8")
    assert probability > 0.9
    halves = warmth(heat)
    assert halves[label] > halves[1 - label] + 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone", ["timm/resnet10t", "timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224"]
)
def test_backbones_of_every_layout_have_a_map(backbone):
    classifier = ImageClassifier(backbone, num_classes=2, image_size=64).eval()
    _, _, heat = class_activation_map(classifier, torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8), label=1)
    assert heat.shape == (64, 64, 3)


@pytest.mark.slow
def test_the_command_writes_a_row_an_image_and_a_column_a_checkpoint(classifier, checkpoint, tmp_path, capsys):
    other = save(classifier, tmp_path / "runs" / "other" / "checkpoints" / "last.ckpt")
    images = []
    for name, pixels in zip(NAMES[:2], bars(2)[0], strict=True):
        images.append(tmp_path / f"{name}.png")
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(images[-1])
    out = tmp_path / "pictures" / "cam.png"
    assert (
        main(["cam", str(checkpoint), *map(str, images), "--beside", str(other), "--out", str(out), "--dpi", "50"]) == 0
    )
    assert capsys.readouterr().out == f"{out}\n"
    with Image.open(out) as picture:
        assert picture.size == (3 * 150, 2 * 160)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--class", "lefft"], "there is no such class. Did you mean 'left'?"),
        (["--class", "3"], "or a number below 3"),
        (["--layer", "stages.9"], "which layer? there is no 'stages.9'; pass --layer with one of stem, "),
        (["--layer", "head.fc"], "the layer's output (1, 3) is no map"),
        (["--out", "cam.foo"], "--out cam.foo: the name ends in one of ."),
        (["--dpi", "0"], "--dpi 0: at least 1"),
        (["--beside", "nowhere.ckpt"], "no checkpoint at 'nowhere.ckpt'"),
        (["nowhere.png"], "no image at 'nowhere.png'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(checkpoint, tmp_path, monkeypatch, capsys, extra, message):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (SIDE, SIDE)).save("some.png")
    assert main(["cam", str(checkpoint), "some.png", *extra]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_loaded_classifier_is_the_saved_one(classifier, checkpoint):
    loaded, images = load_classifier(checkpoint), torch.randn(2, 3, SIDE, SIDE)
    assert not loaded.training
    assert loaded.class_names == NAMES
    assert torch.equal(loaded(images), classifier(images))


def test_a_checkpoint_does_not_choose_what_is_imported(classifier, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "their_mixer.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["mixer"] = ["pooling", "pooling", "pooling", "their_mixer:Mixer"]
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointError, match="with their_mixer:Mixer, a module that you have to vouch for: --trust"):
        load_classifier(checkpoint)


def test_a_checkpoint_does_not_choose_which_weights_are_read(classifier, checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["pretrained"] = "timm/hf-hub:someone/else"
    torch.save(content, checkpoint)
    images = torch.randn(2, 3, SIDE, SIDE)
    assert torch.equal(load_classifier(checkpoint)(images), classifier(images))


def test_a_network_without_a_named_map_asks_for_the_layer(classifier):
    model = ImageClassifier("poolformer_tiny", num_classes=2, image_size=SIDE).eval()
    del model.backbone.feature_info
    with pytest.raises(ConfigError, match=r"which layer\? pass --layer with one of stem"):
        class_activation_map(model, bars(1)[0][0])


def test_a_frozen_network_has_the_map_of_another(classifier):
    pixels = torch.randint(256, (3, SIDE, SIDE), dtype=torch.uint8)
    _, _, expected = class_activation_map(classifier, pixels, label=1)
    frozen = copy.deepcopy(classifier).requires_grad_(False)
    assert np.array_equal(class_activation_map(frozen, pixels, label=1)[2], expected)


def test_a_network_of_grey_images_has_a_map():
    grey = ImageClassifier("poolformer_tiny", 3, image_size=SIDE, in_chans=1).eval()
    pixels = torch.randint(256, (3, SIDE, SIDE), dtype=torch.uint8)
    assert class_activation_map(grey, pixels)[2].shape == (SIDE, SIDE, 3)


def test_a_class_of_imagenet_is_told_in_words(classifier, monkeypatch):
    monkeypatch.setattr(classifier, "class_names", ["n02012849", "n02099601", "n03126707"])
    assert _label(classifier, "golden retriever") == 1
    with pytest.raises(ConfigError, match="--class crane: n02012849 and n03126707 are called so"):
        _label(classifier, "crane")
    with pytest.raises(ConfigError, match="Did you mean 'golden retriever'"):
        _label(classifier, "golden retreiver")


def test_what_takes_no_images_is_refused():
    backbone = torch.nn.Identity()
    backbone.example_input = lambda: torch.zeros(1, 6)
    of_texts = SimpleNamespace(backbone=backbone, hparams=SimpleNamespace(backbone="byte_former"))
    with pytest.raises(ConfigError, match="cam looks at images, and byte_former takes something else"):
        class_activation_map(of_texts, torch.zeros(3, 8, 8, dtype=torch.uint8))
