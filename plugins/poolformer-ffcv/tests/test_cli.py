"""The data module as a user meets it: `--data ffcv`, its options in YAML, mistakes as a line with exit code 2."""

import os
import re
import signal

import pytest
import yaml

from poolformer.cli import main

SHORT = """
--model.backbone poolformer_tiny --model.num_classes 3 --model.warmup_epochs 0 --model.cooldown_epochs 0
--trainer.max_epochs 1 --trainer.accelerator cpu --trainer.log_every_n_steps 1 --data.image_size 16 --data.batch_size 4
--data.num_workers 1
"""
STOCK = """
data:
  class_path: ffcv
  init_args:
    pipelines:
      image:
        - class_path: ffcv.fields.rgb_image.RandomResizedCropRGBImageDecoder
          init_args: {output_size: [16, 16]}
        - ffcv.transforms.RandomHorizontalFlip
        - class_path: ffcv.transforms.Cutout
          init_args: {crop_size: 4, fill: [124, 116, 104]}
        - ToTensor
        - ToTorchImage
"""
RAISES = """
import torch


class Raises(torch.nn.Module):
    def forward(self, images):
        raise ValueError("boom")
"""


@pytest.fixture
def fit(tmp_path, monkeypatch, beton, capsys):
    """Call a verb in an empty directory on the small file: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*words, verb="fit"):
        files = ["--data.train", beton, "--data.val", beton]
        try:
            code = main([verb, *words, *SHORT.split(), *files])
        except SystemExit as left:
            code = left.code
        return code, *capsys.readouterr()

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


def test_it_is_listed(capsys):
    assert main(["data"]) == 0
    assert re.search(
        r"^ffcv +poolformer-ffcv 0\.1\.0 +poolformer_ffcv\.data:FFCVLoaderData$", capsys.readouterr().out, re.M
    )
    assert main(["data", "ffcv"]) == 0
    assert "os_cache: bool = True" in capsys.readouterr().out


def test_it_trains_with_pipelines_of_a_file_and_again_from_the_config_of_the_run(fit, tmp_path):
    (tmp_path / "mine.yaml").write_text(STOCK)
    code, _, err = fit("--config", "mine.yaml", "--trainer.default_root_dir", "run")
    assert code == 0, err
    saved = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["data"]
    assert saved["class_path"] == "poolformer_ffcv.data.FFCVLoaderData"
    assert saved["init_args"]["pipelines"] == yaml.safe_load(STOCK)["data"]["init_args"]["pipelines"]
    code, out, err = fit("--config", "run/config.yaml", "--ckpt_path", "run/checkpoints/last.ckpt", verb="validate")
    assert code == 0, err
    assert "11 images, 3 classes" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--data.pipelines {image:[ToTensr]}", "--data.pipelines.image, operation 1: there is no operation 'ToTensr'"),
        ("--data.pipelines {image:[]}", "--data.pipelines.image is empty"),
        ("--data.pipelines {imge:[ToTensor]}", "--data.pipelines names 'imge', but .* Did you mean 'image'"),
        ("--data.val_pipelines {image:[CROP,ToTensor,ToTorchImage,mine.Raises]}", "ValueError: boom .mine.py, line 7"),
        ("--data.val_pipelines {image:[CROP,ToTensor]}", r"images are uint8 \(4, 16, 16, 3\); expected are uint8"),
        ("--data.order pages", "--data.order got 'pages', but expects random or quasi_random or sequential"),
        ("--data.ordr random", r"has no option 'ordr'\. Did you mean 'order'"),
        ("--data.batches_ahead 0", "--data.batches_ahead got '0', but expects an integer from 1 up"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_line(fit, tmp_path, options, message):
    (tmp_path / "mine.py").write_text(RAISES)
    crop = "{class_path: CenterCropRGBImageDecoder, init_args: {output_size: [16, 16], ratio: 1}}"
    option, _, value = options.partition(" ")
    code, _, err = fit("--data", "ffcv", option, value.replace("CROP", crop).replace("[", " [").replace(",", ", "))
    lines = [line for line in err.splitlines() if line.startswith("poolformer: error: ")]
    assert (code, len(lines)) == (2, 1), err
    assert re.search(message, lines[0]), lines[0]
    assert "Traceback" not in err
