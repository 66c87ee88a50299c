"""Words of `poolformer predict` become the options that they stand for; command lines with options stay as they are."""

import json

import pytest
import torch
from safetensors.torch import save_file

from poolformer.checkpoint.published import RECORD_IN_FILES
from poolformer.cli.predicted_words import as_options
from poolformer.errors import CheckpointError, ConfigError

OLD = [
    "",
    "--ckpt_path best",
    "--config s12 --ckpt_path last --data.predict photos --data FolderData",
    "--ckpt_path=runs/a/checkpoints/best.ckpt --trainer.limit_predict_batches 1",
    "--help",
    "--config digits --print_config",
    "resnet50 --config s12",
]


@pytest.mark.parametrize("line", OLD)
def test_command_lines_with_options_stay_as_they_are(line):
    assert sorted(as_options(line.split())) == sorted(line.split())


LOOSE = ["--data", "FolderData"]
SKIP = "--data.on_error=skip"
NEW = {
    "best.ckpt": ["--ckpt_path=best.ckpt"],
    "best.ckpt dog.jpg": ["--ckpt_path=best.ckpt", *LOOSE, "--data.predict=dog.jpg", SKIP],
    "best.ckpt a.png b/*.JPG": ["--ckpt_path=best.ckpt", *LOOSE, '--data.predict=["a.png", "b/*.JPG"]', SKIP],
    "--top_k 3 best.ckpt photos/": ["--top_k", "3", "--ckpt_path=best.ckpt", *LOOSE, "--data.predict=photos/", SKIP],
    "--ckpt_path last dog.jpg": ["--ckpt_path", "last", *LOOSE, "--data.predict=dog.jpg", SKIP],
    "best.ckpt val.beton": ["--ckpt_path=best.ckpt", "--data", "FFCVData", "--data.predict=val.beton", SKIP],
    "best.ckpt a.png --data.on_error fail": [
        *("--data.on_error", "fail", "--ckpt_path=best.ckpt", *LOOSE, "--data.predict=a.png")
    ],
}

OF_WEIGHTS = {
    "poolformer_s12.pth.tar dog.jpg": ["poolformer_s12", "poolformer_s12.pth.tar", 224, 0.9],
    "caformer_s18 dog.jpg": ["caformer_s18", "timm/caformer_s18", 224, 1.0],
    "hf-hub:a/caformer_s18_384 dog.jpg": ["caformer_s18", "hf-hub:a/caformer_s18_384", 384, 1.0],
}


@pytest.mark.parametrize("line", OF_WEIGHTS)
def test_published_weights_bring_their_network_and_how_to_feed_it(line):
    backbone, source, size, crop = OF_WEIGHTS[line]
    assert as_options(line.split()) == [
        *(*LOOSE, "--data.predict=dog.jpg", SKIP, f"--model.backbone={backbone}", f"--model.pretrained={source}"),
        *(f"--data.image_size={size}", f"--data.crop_pct={crop}"),
    ]


def test_what_is_said_beside_published_weights_counts():
    found = as_options(["mine.pth", "dog.jpg", "--model.backbone", "poolformer_s12", "--data.crop_pct", "1"])
    assert found[-2:] == ["--model.pretrained=mine.pth", "--data.image_size=224"]


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"backbone": "payload:run"}, "--model.backbone"),
        ({"backbone": "poolformer_tiny", "frame": {"mixer": {"name": "payload:run"}}}, "--model.mixer"),
    ],
)
def test_a_file_of_weights_does_not_choose_what_is_imported(tmp_path, record, named):
    file = str(tmp_path / "evil.safetensors")
    save_file({"x": torch.zeros(1)}, file, metadata={RECORD_IN_FILES: json.dumps(record)})
    with pytest.raises(CheckpointError, match="was trained with payload:run, a module that you have to vouch for"):
        as_options([file, "dog.jpg"])
    found = as_options([file, "dog.jpg", named, "poolformer_tiny" if named == "--model.backbone" else "pooling"])
    assert not any("payload" in option for option in found)


def test_a_file_of_weights_says_the_frame_and_nothing_else_of_the_model(tmp_path):
    record = {"backbone": "poolformer_tiny", "frame": {"act": "relu", "teacher": "secret", "optimizer": "os.system"}}
    file = str(tmp_path / "some.safetensors")
    save_file({"x": torch.zeros(1)}, file, metadata={RECORD_IN_FILES: json.dumps(record)})
    found = as_options([file, "dog.jpg"])
    assert "--model.act=relu" in found
    assert not any(option.startswith(("--model.teacher", "--model.optimizer")) for option in found)


@pytest.mark.parametrize("line", NEW)
def test_words_become_options(line):
    assert as_options(line.split()) == NEW[line]


MISTAKES = {
    "net.onnx dog.jpg": "'net.onnx' is an exported network: predict expects the checkpoint",
    "best.ckpt a.png b.beton": "'b.beton' is a .beton file and 'a.png' is none",
    "best.ckpt a.png --data FolderData": "'a.png' and --data are both given: images are given as words, or by",
    "best.ckpt a.png --data.predict=b": "'a.png' and --data.predict are both given",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_what_cannot_be_meant_is_refused(line):
    with pytest.raises(ConfigError, match=MISTAKES[line]):
        as_options(line.split())
