"""`poolformer export`: what it writes gives the network's logits, elsewhere and at other sizes."""

import json
import shutil

import pytest
import torch

from poolformer.classifier import ImageClassifier, load_classifier
from poolformer.cli import main
from poolformer.commands import export
from poolformer.errors import ConfigError, PoolformerError

SIDE = 64


def saved(folder, **options) -> str:
    classifier = ImageClassifier("poolformer_tiny", num_classes=3, image_size=SIDE, layer_scale_init=0.5, **options)
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "best.onnx"]


@pytest.mark.slow
def test_torch_export(checkpoint, tmp_path):
    assert main(["export", checkpoint, str(tmp_path / "net.pt2")]) == 0
    extra = {"poolformer": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()
    for shape in ((1, 3, SIDE, SIDE), (5, 3, 96, 160)):
        images = torch.randn(shape)
        torch.testing.assert_close(program(images), logits(checkpoint, images), rtol=0, atol=1e-5)
    assert json.loads(extra["poolformer"])["backbone"] == "poolformer_tiny"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of inductor
def test_compiled(checkpoint, tmp_path):
    assert main(["export", checkpoint, str(tmp_path / "net.pt2"), "--compile", "--fixed_size"]) == 0
    program, images = torch._inductor.aoti_load_package(str(tmp_path / "net.pt2")), torch.randn(4, 3, SIDE, SIDE)
    torch.testing.assert_close(program(images), logits(checkpoint, images), rtol=0, atol=1e-5)


def test_safetensors_start_another_run(checkpoint, tmp_path):
    assert main(["export", checkpoint, str(tmp_path / "net.safetensors")]) == 0
    other = ImageClassifier("poolformer_tiny", num_classes=3, image_size=SIDE, pretrained=f"{tmp_path}/net.safetensors")
    images = torch.randn(2, 3, SIDE, SIDE)
    assert torch.equal(other.eval()(images), logits(checkpoint, images))


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
        (["nowhere/net.onnx"], "there is no folder 'nowhere'"),
    ],
    ids=lambda words: words[-1] if isinstance(words, list) else "",
)
def test_mistakes_are_answered_before_the_checkpoint_is_read(words, message):
    with pytest.raises(ConfigError, match=message):
        export.main(["missing.ckpt", *words])
