"""``plugins/poolformer-pvt`` as a user meets it: the proof that a whole backbone can come from another package."""

import json
import re

import forked
import pytest
import torch
from conftest import PLUGINS

from poolformer.backbones import create_backbone
from poolformer.cli.dispatch import main
from poolformer.errors import BrokenPluginError, OptionsError
from poolformer.testing import check_mixer

# arXiv 2102.12122, table 2, and arXiv 2111.11418, table 2: parameters in millions and MACs in G at 224 pixels.
PUBLISHED = {"pvt_tiny": (13.2, 1.9), "pvt_small": (24.5, 3.8), "pvt_medium": (44.2, 6.7), "pvt_large": (61.4, 9.8)}


@pytest.fixture(autouse=True)
def installed(shipped_plugin):
    return shipped_plugin("poolformer-pvt")


@pytest.mark.slow
def test_sizes_are_listed_with_their_package_and_published_costs(capsys):
    assert main(["models", *PUBLISHED, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["origin"] for row in rows} == dict.fromkeys(PUBLISHED, "poolformer-pvt 0.1.0")
    costs = {row["name"]: (round(row["parameters"] / 1e6, 1), round(row["macs"] / 1e9, 1)) for row in rows}
    assert costs == PUBLISHED
    readme = (PLUGINS / "poolformer-pvt" / "README.md").read_text()
    for row in rows:
        assert f"| `{row['name']}` | {row['parameters']:,} | {row['macs'] / 1e9:.3f} G |" in readme


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"mixer": "identity"},
            OptionsError,
            "backbone 'pvt_tiny' of poolformer-pvt 0.1.0 (poolformer_pvt.backbone:pvt_tiny) has no option 'mixer'. "
            "It takes: ",
        ),
        (
            {"image_size": 8},
            BrokenPluginError,
            "backbone 'pvt_tiny' of poolformer-pvt 0.1.0 (poolformer_pvt.backbone:pvt_tiny) cannot be built with "
            "{'num_classes': 10, 'image_size': 8}: ValueError: PVT needs images of 32 pixels or more, "
            "got image_size=8",
        ),
    ],
    ids=["mixer", "image_size"],
)
def test_what_it_cannot_do_is_said_in_one_line(options, error, message):
    with pytest.raises(error, match=re.escape(message)) as caught:
        create_backbone("pvt_tiny", num_classes=10, **options)
    assert "\n" not in str(caught.value)


def test_image_size_and_drop_path_rate_arrive():
    backbone = create_backbone("pvt_tiny", num_classes=10, image_size=64, drop_path_rate=0.2)
    assert backbone(torch.zeros(2, 3, 64, 64)).shape == (2, 10)
    assert backbone.block4[-1].drop_path_rate == pytest.approx(0.2)


@pytest.mark.slow
def test_its_attention_mixes_in_the_frame():
    check_mixer("spatial_reduction_attention", head_dim=16, sr_ratio=2)
    mixer = [{"name": "spatial_reduction_attention", "sr_ratio": ratio} for ratio in (8, 4, 2, 1)]
    backbone = create_backbone("poolformer_tiny", num_classes=10, mixer=mixer)
    assert [stage.blocks[0].token_mixer.sr_ratio for stage in backbone.stages] == [8, 4, 2, 1]
    assert backbone(torch.zeros(2, 3, 40, 40)).shape == (2, 10)


@pytest.mark.exhaustive
def test_it_trains_and_is_evaluated_in_a_process_of_its_own(installed, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(installed))

    def run(words):
        short = ["--trainer.accelerator", "cpu", "--trainer.limit_val_batches", "1"]
        return forked.run("-m", "poolformer", *words.split(), *short, cwd=tmp_path)

    steps = "--trainer.max_epochs 1 --trainer.limit_train_batches 2 --model.warmup_epochs 0"
    fit = run(f"fit --model.backbone pvt_tiny --data.image_size 32 {steps}")
    assert fit.returncode == 0, fit.stderr
    assert re.search(r"val/top1 0\.\d+ after 1 epoch", fit.stdout)
    last = torch.load(tmp_path / "runs" / "digits" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["poolformer"]["backbone"] == "pvt_tiny"
    assert last["global_step"] == 2
    # The checkpoint knows the backbone; images of another size resample its position embeddings.
    validate = run("validate --ckpt_path runs/digits/checkpoints/last.ckpt --data.image_size 64")
    assert validate.returncode == 0, validate.stderr
