"""A report is measured part by part; what fails costs its own figures alone, and a restart measures what is missing."""

import json

import pytest

from poolformer.cli.dispatch import main

SMALL = ["--device", "cpu", "--backbones", "poolformer_tiny", "--variants", "channels_last", "--precision", "fp32"]
SMALL += ["--batch_size", "4", "--image_size", "32", "--rounds", "1"]


@pytest.mark.exhaustive
def test_a_report_has_networks_training_and_a_profile(tmp_path, capfd):
    out = tmp_path / "report"
    assert main(["bench", "report", "--out", str(out), *SMALL, "--parts", "train", "fit", "profile", "host"]) == 0
    assert {path.stem for path in out.glob("*.json")} >= {"train-poolformer_tiny", "fit", "profile", "host"}
    [page] = out.glob("speed-*.md")
    text = page.read_text()
    assert "| poolformer_tiny:channels_last |" in text
    assert "aten::convolution" in text
    assert "separate " in text
    assert float(json.loads((out / "fit.json").read_text())["images_per_s"]) > 0
    assert page.read_text() in capfd.readouterr().out


@pytest.mark.slow
def test_a_part_that_fails_is_named_and_measured_again(tmp_path, capsys):
    out = tmp_path / "report"
    out.mkdir()
    (out / "fit.json").write_text('{"seconds": 1, "images_per_s": 1234.0}')
    words = [*SMALL, "--parts", "model", "--backbones", "nonsense"]
    assert main(["bench", "report", "--out", str(out), *words]) == 0
    printed = capsys.readouterr().out
    assert "model-nonsense: poolformer: error: no backbone is called 'nonsense'" in printed
    assert "1,234 images/s" in printed
    assert not (out / "model-nonsense.json").exists()
