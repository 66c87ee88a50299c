"""`poolformer export`: what it writes gives the network's logits, elsewhere and at other sizes."""

import errno
import json
import math
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from poolformer.backbones import create_backbone
from poolformer.classifier import ImageClassifier
from poolformer.cli.dispatch import main
from poolformer.commands import export
from poolformer.data.pixels.orientation import as_exif
from poolformer.errors import CheckpointError, ConfigError, PoolformerError
from poolformer.network.example import rolled
from poolformer.network.mixers import Identity
from poolformer.trained import load_classifier, predict

SIDE = 64


def saved(folder, backbone="poolformer_tiny", num_classes=3, image_size=SIDE, **options) -> str:
    if backbone == "poolformer_tiny":
        options = {"layer_scale_init": 0.5, **options}
    classifier = ImageClassifier(backbone, num_classes=num_classes, image_size=image_size, **options)
    classifier.class_names = ["cat", "dog", "newt"]
    content = {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": classifier.state_dict(),
        "hyper_parameters": dict(classifier.hparams),
    }
    classifier.on_save_checkpoint(content)
    torch.save(content, folder / "best.ckpt")
    return str(folder / "best.ckpt")


@pytest.fixture
def checkpoint(tmp_path) -> str:
    return saved(tmp_path)


@torch.no_grad()
def logits(checkpoint: str, images: torch.Tensor) -> torch.Tensor:
    return load_classifier(checkpoint)(images)


@pytest.mark.slow
def test_onnx(checkpoint, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert main(["export", checkpoint]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "best.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "best.onnx", providers=["CPUExecutionProvider"])
    for shape in ((1, 3, SIDE, SIDE), (5, 3, 96, 160)):
        images = torch.randn(shape)
        (found,) = session.run(["logits"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), logits(checkpoint, images), rtol=0, atol=1e-5)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["poolformer"])
    assert facts["class_names"] == ["cat", "dog", "newt"]
    assert facts["mean"] == [0.485, 0.456, 0.406]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "best.onnx", "best.onnx.json"]


def the_document_s_lines() -> str:
    """The lines of docs/deploying.md that run an exported file without this package."""
    text = (Path(__file__).parents[2] / "docs" / "deploying.md").read_text(encoding="utf-8")
    (lines,) = [block for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S) if "onnxruntime" in block]
    return lines


def test_the_document_s_lines_need_no_package_but_those_they_name():
    imported = {line.split()[1].partition(".")[0] for line in the_document_s_lines().splitlines() if "import " in line}
    assert imported == {"json", "numpy", "onnxruntime", "PIL"}


@pytest.mark.slow
def test_the_document_s_lines_give_the_numbers_of_predict(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    content = torch.load(saved(tmp_path), weights_only=True)
    torch.nn.init.normal_(content["state_dict"]["backbone.head.fc.weight"], generator=torch.Generator().manual_seed(0))
    torch.save({**content, "datamodule_hyper_parameters": {"crop_pct": 0.8, "orient": True}}, "best.ckpt")
    assert main(["export", "best.ckpt", "s12.onnx"]) == 0
    classifier = load_classifier("best.ckpt")
    for (width, height), turned in (((97, 71), 1), ((71, 130), 1), ((97, 71), 6)):
        pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save("dog.jpg", exif=as_exif(turned))
        names: dict = {}
        exec(the_document_s_lines(), names)
        found = dict(zip(names["facts"]["class_names"], names["probabilities"].tolist(), strict=True))
        [guesses] = predict(classifier, "dog.jpg")
        assert found == pytest.approx(dict(guesses), abs=1e-4)
        assert max(found.values()) - min(found.values()) > 0.01  # a network that tells classes apart
    assert json.loads(Path("s12.onnx.json").read_text()) == names["facts"]


@pytest.mark.slow
def test_torch_export(checkpoint, tmp_path):
    assert main(["export", checkpoint, str(tmp_path / "net.pt2")]) == 0
    extra = {"poolformer": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()
    for shape in ((1, 3, SIDE, SIDE), (5, 3, 96, 160)):
        images = torch.randn(shape)
        torch.testing.assert_close(program(images), logits(checkpoint, images), rtol=0, atol=1e-5)
    facts = json.loads(extra["poolformer"])
    assert (facts["backbone"], facts["resize"], facts["crop_pct"]) == ("poolformer_tiny", 71, 0.9)
    assert json.loads((tmp_path / "net.pt2.json").read_text()) == facts


@pytest.mark.parametrize("values", [[0.0, float("nan")], [float("nan"), 0.0]])
def test_no_difference_hides_behind_another(values):
    found = [torch.tensor([1.0, 2.0 + value]) for value in values]
    assert math.isnan(export._difference(found, [torch.tensor([1.0, 2.0])] * 2))


def test_onnx_in_two_files_does_not_appear(checkpoint, tmp_path, monkeypatch):
    def in_two(classifier, path, options):
        path.write_text("graph")
        path.with_name("weights").write_text("data")
        yield "takes anything"

    monkeypatch.setitem(export._FORMATS, ".onnx", in_two)
    with pytest.raises(PoolformerError, match=r"so many weights in one file: write a \.pt2 file"):
        export.main([checkpoint])
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


@pytest.mark.slow
def test_what_cannot_be_converted_is_said_in_a_line(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(Identity, "forward", lambda self, x: x * torch.linalg.eigvalsh(x @ x.mT)[..., :1, None])
    monkeypatch.setattr(Identity, "linear_by_channel", False)
    assert main(["export", saved(tmp_path, mixer="identity"), "--fixed_size"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("poolformer: error: ONNX cannot express this network: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("record", ["v1", "[]", "false", "[" * 100_000, "9" * 6000, '{"backbone": 3}'])
def test_a_foreign_record_is_refused(tmp_path, record):
    weights = create_backbone("poolformer_tiny", num_classes=3).state_dict()
    weights = {name: tensor.contiguous() for name, tensor in weights.items()}
    safetensors.torch.save_file(weights, tmp_path / "net.safetensors", {"poolformer": record})
    with pytest.raises(CheckpointError, match="record is not one"):
        create_backbone("poolformer_tiny", num_classes=3, pretrained=tmp_path / "net.safetensors")


def test_options_that_are_tuples_stay_the_same(tmp_path, fake_plugin, recwarn):
    source = "from torch import nn\nclass Mixer(nn.Conv2d):\n    linear_by_channel = False\n"
    source += "    def __init__(self, dim, kernel: tuple[int, int] = (3, 3)):\n"
    source += "        super().__init__(dim, dim, kernel, padding='same', groups=dim)\n"
    fake_plugin(entry_points={"poolformer.mixers": {"tall": "tall_plugin:Mixer"}}, modules={"tall_plugin": source})
    mixer = {"name": "tall", "kernel": (5, 3)}
    assert main(["export", saved(tmp_path, mixer=mixer), f"{tmp_path}/net.safetensors"]) == 0
    ImageClassifier(
        "poolformer_tiny", num_classes=3, image_size=SIDE, mixer=mixer, pretrained=f"{tmp_path}/net.safetensors"
    )
    assert [str(warning.message) for warning in recwarn if "trained with" in str(warning.message)] == []


SMALL = """
from torch import nn

def net(channels, num_classes):
    body = nn.Sequential(nn.Conv2d(channels, 8, 7, 4, 2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(body, nn.Linear(8, num_classes))

def colour(num_classes: int):
    return net(3, num_classes)

def grey(num_classes: int):
    return net(1, num_classes)
"""


@pytest.fixture
def small(fake_plugin) -> None:
    """Install two backbones that are compiled in seconds: small_colour, and small_grey of one channel."""
    points = {"small_colour": "small_plugin:colour", "small_grey": "small_plugin:grey"}
    fake_plugin(entry_points={"poolformer.backbones": points}, modules={"small_plugin": SMALL})


def layouts(channels: int = 3, height: int = 32, width: int = 32) -> dict[str, torch.Tensor]:
    """Images (4, C, H, W) as they may lie in memory."""
    images = torch.randn(4, channels, height, width)
    return {
        "contiguous": images,
        "channels last": images.to(memory_format=torch.channels_last),
        "turned": torch.randn(4, channels, width, height).transpose(2, 3),
        "behind others": torch.randn(4 * images[0].numel() + 7)[7:].view(images.shape),
        "last of a batch": torch.randn(9, channels, height, width)[5:],
        "every other row": torch.randn(4, channels, 2 * height, width)[:, :, ::2],
        "every other image": torch.randn(8, channels, height, width)[::2],
        "crop": torch.randn(4, channels, height + 8, width + 8)[:, :, 3 : 3 + height, 5 : 5 + width],
        "one image for all": torch.randn(1, channels, height, width).expand(4, -1, -1, -1),
        "one channel for all": torch.randn(4, 1, height, width).expand(-1, channels, -1, -1),
        "channels reversed": images.flip(1),
        "of numpy, channels last": torch.from_numpy(images.permute(0, 2, 3, 1).numpy().copy()).permute(0, 3, 1, 2),
        "one": images[:1],
        "none": images[:0],
        "with a gradient": images.clone().requires_grad_(),
    }


def others(channels: int = 3, side: int = 32) -> dict[str, torch.Tensor]:
    """What is no batch of float32 images of this number of channels."""
    images = torch.ones(4, channels, side, side)
    types = (torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int64, torch.bool)
    return {
        **{str(dtype): images.to(dtype) for dtype in types},
        "a channel less": torch.ones(4, channels - 1, side, side),
        "a channel more": torch.ones(4, channels + 1, side, side),
        "no batch": images[0],
        "a dimension more": images[..., None],
        "channels at the end": torch.ones(4, side, side, channels),
    }


def is_refused(program, images: torch.Tensor) -> bool:
    try:
        program(images)
    except Exception:
        return True
    return False


EXHAUSTIVE = pytest.mark.exhaustive
COMPILES = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of inductor
]


def exported(checkpoint: str, file, *options: str):
    """Export and return what runs the file."""
    assert main(["export", checkpoint, str(file), *options]) == 0
    if "--compile" in options:
        return torch._inductor.aoti_load_package(str(file))
    if file.suffix == ".pt2":
        return torch.export.load(file).module()
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.detach().numpy()})[0])


WAYS = [
    pytest.param("net.pt2", ["--fixed_size"], id="pt2 of one size"),
    pytest.param("net.pt2", [], id="pt2 of any size"),
    pytest.param("net.pt2", ["--compile", "--fixed_size"], id="compiled of one size", marks=[*COMPILES, EXHAUSTIVE]),
    pytest.param("net.pt2", ["--compile"], id="compiled of any size", marks=COMPILES),
    pytest.param("net.onnx", [], id="onnx of any size", marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), WAYS)
def test_images_may_lie_in_memory_as_they_like_and_nothing_else_is_taken_for_them(small, tmp_path, name, options):
    checkpoint = saved(tmp_path, "small_colour", image_size=32)
    program = exported(checkpoint, tmp_path / name, *options)
    batches = layouts() | ({} if options[-1:] == ["--fixed_size"] else layouts(height=48, width=40))
    for which, images in batches.items():
        expected = logits(checkpoint, images)
        torch.testing.assert_close(program(images).detach(), expected, rtol=0, atol=1e-5, msg=which)
    wrong = others()
    if "--fixed_size" in options:
        wrong |= {"larger": torch.ones(4, 3, 64, 32), "smaller": torch.ones(4, 3, 32, 24)}
    assert [which for which, images in wrong.items() if not is_refused(program, images)] == []


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "options"), WAYS[1:])
def test_a_network_of_one_channel_is_exported(small, tmp_path, name, options):
    checkpoint = saved(tmp_path, "small_grey", image_size=64)
    program = exported(checkpoint, tmp_path / name, *options)
    for images in (torch.randn(4, 1, 64, 64), torch.randn(2, 1, 64, 64).to(memory_format=torch.channels_last)):
        torch.testing.assert_close(program(images).detach(), logits(checkpoint, images), rtol=0, atol=1e-5)
    assert is_refused(program, torch.randn(4, 3, 64, 64))


@pytest.mark.exhaustive
@pytest.mark.parametrize("side", [8, 64])
@pytest.mark.parametrize("name", ["net.pt2", "net.onnx"])
def test_a_network_without_a_classifier_gives_its_features(tmp_path, name, side):
    checkpoint = saved(tmp_path, num_classes=0, image_size=side)
    images = torch.randn(2, 3, side, side)
    found = exported(checkpoint, tmp_path / name)(images).detach()
    torch.testing.assert_close(found, logits(checkpoint, images), rtol=0, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of inductor
def test_compiled(checkpoint, tmp_path):
    program = exported(checkpoint, tmp_path / "net.pt2", "--compile", "--fixed_size")
    for images in layouts(height=SIDE, width=SIDE).values():
        torch.testing.assert_close(program(images).detach(), logits(checkpoint, images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["folder", "device", "fifo", "link to a device"])
def test_what_is_no_regular_file_is_not_replaced(tmp_path, kind):
    target = tmp_path / "net.pt2"
    if kind == "folder":
        target.mkdir()
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        target.symlink_to("/dev/full" if kind == "device" else "/dev/null")
    with pytest.raises(ConfigError, match="this is no regular file"):
        export.main(["missing.ckpt", str(target)])


def test_a_full_disk_is_a_line_and_leaves_nothing(checkpoint, tmp_path, monkeypatch, capsys):
    def full(classifier, path, options):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield

    monkeypatch.setitem(export._FORMATS, ".onnx", full)
    assert main(["export", checkpoint]) == 2
    said = capsys.readouterr().err
    assert said == f"poolformer: error: '{tmp_path}/best.onnx' cannot be written: No space left on device\n"
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


def test_a_checkpoint_without_a_record_gets_one(tmp_path):
    content = torch.load(saved(tmp_path), weights_only=True)
    del content["poolformer"]
    torch.save(content, tmp_path / "plain.ckpt")
    with pytest.warns(UserWarning, match="does not say which backbone"):
        assert main(["export", f"{tmp_path}/plain.ckpt", f"{tmp_path}/net.safetensors"]) == 0
    create_backbone("poolformer_tiny", num_classes=3, pretrained=tmp_path / "net.safetensors")


def test_safetensors_start_another_run(checkpoint, tmp_path):
    assert main(["export", checkpoint, str(tmp_path / "net.safetensors")]) == 0
    other = ImageClassifier("poolformer_tiny", num_classes=3, image_size=SIDE, pretrained=f"{tmp_path}/net.safetensors")
    images = torch.randn(2, 3, SIDE, SIDE)
    assert torch.equal(other.eval()(images), logits(checkpoint, images))
    with safetensors.safe_open(tmp_path / "net.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["poolformer"])
    assert (facts["image_size"], facts["interpolation"], facts["class_names"]) == (
        SIDE,
        "bicubic",
        ["cat", "dog", "newt"],
    )
    assert json.loads((tmp_path / "net.safetensors.json").read_text()) == facts


@pytest.mark.parametrize("content", ["mine", "[]", '{"mean": 3}'])
def test_a_foreign_file_in_the_place_of_the_description_is_kept(tmp_path, content):
    (tmp_path / "net.safetensors.json").write_text(content)
    with pytest.raises(
        ConfigError, match=r"net\.safetensors\.json' is already there and describes no exported network"
    ):
        export.main(["missing.ckpt", str(tmp_path / "net.safetensors")])
    assert [path.read_text() for path in tmp_path.iterdir()] == [content]


def test_an_export_is_written_again_with_its_description(checkpoint, tmp_path):
    for _ in range(2):
        assert main(["export", checkpoint, str(tmp_path / "net.safetensors")]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt", "net.safetensors", "net.safetensors.json"}


@pytest.mark.slow
def test_a_mixer_of_one_size_fixes_the_size(tmp_path):
    checkpoint = saved(tmp_path, mixer="spatial_fc")
    assert main(["export", checkpoint, str(tmp_path / "net.pt2"), "--batch_size", "2"]) == 0
    program, images = torch.export.load(tmp_path / "net.pt2").module(), torch.randn(2, 3, SIDE, SIDE)
    torch.testing.assert_close(program(images), logits(checkpoint, images), rtol=0, atol=1e-5)
    with pytest.raises(AssertionError):
        program(torch.randn(2, 3, SIDE, SIDE + 32))


@pytest.mark.slow
def test_a_file_that_differs_does_not_appear(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_difference", lambda found, expected: float("nan"))
    with pytest.raises(PoolformerError, match=r"differs from the network by nan .*--tolerance is 0.0001"):
        export.main([checkpoint, str(tmp_path / "net.pt2")])
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.tflite"], "the name ends in one of .onnx, .pt2, .safetensors"),
        (["net.onnx", "--compile"], "--compile makes a .pt2 file"),
        (["net.onnx", "--batch_size", "0"], "--batch_size 0: at least 1"),
        (["net.safetensors", "--fixed_size"], "weights alone fit any batch"),
        (["nowhere/net.onnx"], "'nowhere/net.onnx' cannot be written: there is no such folder"),
    ],
    ids=lambda words: words[-1] if isinstance(words, list) else "",
)
def test_mistakes_are_answered_before_the_checkpoint_is_read(words, message):
    with pytest.raises(ConfigError, match=message):
        export.main(["missing.ckpt", *words])


class Tokens(torch.nn.Embedding):
    """Numbers of tokens (B, L) to logits (B, K), by where they stand."""

    def example_input(self) -> torch.Tensor:
        return torch.arange(6)[None]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens).cumsum(1).mean(1)


def test_what_takes_no_images_is_traced_on_its_own_example():
    hparams = SimpleNamespace(image_size=32, mean=(0.5,), backbone="tokens")
    classifier = SimpleNamespace(backbone=Tokens(300, 3).eval(), hparams=hparams)
    exported = export._export(classifier, export._parser().parse_args(["best.ckpt"]))
    assert exported.said[0] == "takes int64 (any, 6)"
    texts = torch.randint(300, (5, 6))
    torch.testing.assert_close(exported.program.module()(texts), classifier.backbone(texts))
    example = classifier.backbone.example_input()
    assert [batch.tolist() for batch in exported.images] == [rolled(example, count).tolist() for count in (2, 3)]
    with pytest.raises(PoolformerError, match="the file differs from the network"):  # as it mixes the samples
        export._check(lambda batch: classifier.backbone(batch.flip(0)), exported, "file", 1e-4)
    with pytest.raises(ConfigError, match="--compile: tokens takes something else than images"):
        export._export(classifier, export._parser().parse_args(["best.ckpt", "--compile"]))
