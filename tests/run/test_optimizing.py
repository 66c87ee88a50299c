"""What extras make of a run: layers that learn slower, frozen parts, averaged weights, clipped gradients."""

import csv

import pytest
import torch
from runs import QUICK, SHORT, assert_same_state, curves, last

from poolformer.backbones import create_backbone
from poolformer.classifier import ImageClassifier
from poolformer.cli import dispatch as cli
from poolformer.cli.training import run
from poolformer.errors import ConfigError
from poolformer.network.freezing import freeze, hold
from poolformer.recipe import EpochScheduler, Schedule, parameter_groups
from poolformer.run.optimizing import layer_groups


def test_layers_learn_slower_the_further_they_are_from_the_head():
    network = create_backbone("poolformer_tiny", num_classes=10)  # a stem, five blocks, a head
    groups = {group["name"]: group for group in layer_groups(network, 0.05, 0.5)}
    assert groups["decay_06"]["lr_scale"] == 1
    assert groups["decay_00"]["lr_scale"] == 0.5**6
    assert sum(len(group["params"]) for group in groups.values()) == len(list(network.parameters()))
    assert {group["weight_decay"] for name, group in groups.items() if name.startswith("no_")} == {0.0}
    optimizer = torch.optim.AdamW(groups.values(), lr=1.0)
    EpochScheduler(optimizer, Schedule(peak_lr=1.0, epochs=2, warmup_epochs=0, warmup_lr=0.0, min_lr=0.0))
    assert [group["lr"] for group in optimizer.param_groups] == [group["lr_scale"] for group in groups.values()]


def test_layers_of_timms_models_are_as_timm_says():
    groups = layer_groups(create_backbone("timm/resnet10t", num_classes=7), 0.05, 0.5)
    assert max(group["lr_scale"] for group in groups) == 1
    assert min(group["lr_scale"] for group in groups) < 0.1


def test_frozen_norms_do_not_move():
    model = ImageClassifier("poolformer_tiny", 10, norm="batch", image_size=8, freeze="backbone")
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model.train()
    hold(model._frozen)
    groups = parameter_groups(model.backbone, 0.05)
    assert [len(group["params"]) for group in groups] == [1, 1]
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())


@pytest.mark.parametrize(("given", "said"), [("stage.*", "matches no parameter"), ("*", "leaves nothing to train")])
def test_what_cannot_be_frozen_is_said(given, said):
    with pytest.raises(ConfigError, match=said):
        freeze(create_backbone("poolformer_tiny", num_classes=10), given)


def fit(run_dir, *options):
    return run("fit", [*QUICK, "--trainer.max_epochs", "2", "--trainer.default_root_dir", str(run_dir), *options])


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["ema", pytest.param("clip", marks=pytest.mark.exhaustive), "layer-decay"])
def test_a_run_with_an_extra_resumes_bitwise(extra, tmp_path, capfd):
    whole, parts, flags = tmp_path / "whole", tmp_path / "parts", ["--config", "digits", "--config", f"extras/{extra}"]
    if extra == "layer-decay":
        flags += ["--model.lr_interval", "step"]
    fit(whole, *flags)
    fit(parts, *flags, "--trainer.max_steps", "6")
    fit(parts, *flags, "--ckpt_path", "last")
    assert_same_state(whole, parts)
    if extra == "ema":
        saved = last(parts)
        averages, current = saved["state_dict"], saved["current_model_state"]
        assert not torch.equal(averages["backbone.head.fc.weight"], current["backbone.head.fc.weight"])
        said = capfd.readouterr().err
        assert "Validation, and the weights of checkpoints, are averages: EMAWeightAveraging" in said


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["freeze-backbone", "linear-probe"])
def test_a_run_with_frozen_parts_trains_the_last_layer_alone(extra, tmp_path, capsys):
    root = ["--trainer.default_root_dir", str(tmp_path), "--config", "digits", "--config", f"extras/{extra}"]
    fit(tmp_path, *root[2:], "--trainer.max_steps", "1", "--model.norm", "batch")
    before = last(tmp_path)["state_dict"]
    fit(tmp_path, *root[2:], "--ckpt_path", "last")
    changed = {name for name, value in last(tmp_path)["state_dict"].items() if not torch.equal(value, before[name])}
    assert changed == {"backbone.head.fc.weight", "backbone.head.fc.bias"}
    again = ["fit", *QUICK, *root, "--ckpt_path", "last", "--model.freeze", "null"]
    assert cli.main(again) == 2
    assert (
        "the run was trained with freeze backbone, and its optimizer's state does not fit None"
        in capsys.readouterr().err
    )


def logits_of(weights, images):
    model = ImageClassifier("poolformer_tiny", num_classes=10, image_size=8).eval()
    model.load_state_dict(
        {name: value for name, value in weights.items() if name.startswith("backbone.")}, strict=False
    )
    with torch.no_grad():
        return model(images)


@pytest.mark.slow
def test_what_is_validated_kept_predicted_and_exported_are_the_averages(tmp_path, capfd):
    run_dir, best = tmp_path / "run", tmp_path / "run" / "checkpoints" / "best.ckpt"
    flags = ["--config", "digits", "--config", "extras/ema", "--trainer.callbacks.decay", "0.9"]
    trained = fit(run_dir, *flags, "--trainer.max_epochs", "3", "--trainer.limit_val_batches", "1.0")
    tops = [value for _, value in curves(run_dir)["val/top1"]]
    assert max(tops) == pytest.approx(trained.trainer.checkpoint_callbacks[0].best_model_score.item())
    # best.ckpt is the epoch of the highest averaged top-1, and gives that again: its weights are those averages.
    saved, root = last(run_dir, "best"), ["--trainer.default_root_dir", str(tmp_path / "out"), *SHORT]
    assert saved["epoch"] == tops.index(max(tops))
    again = run("validate", ["--ckpt_path", str(best), *root])
    assert again.trainer.callback_metrics["val/top1"].item() == max(tops)
    averages, current = saved["state_dict"], saved["current_model_state"]
    assert not torch.equal(averages["backbone.head.fc.weight"], current["backbone.head.fc.weight"])
    capfd.readouterr()
    run("predict", ["--ckpt_path", str(best), *root])
    assert cli.main(["export", str(best), str(tmp_path / "net.safetensors")]) == 0
    assert capfd.readouterr().err.count("The checkpoint's weights are averages (EMA) over its steps") == 2
    with (tmp_path / "out" / "predictions.csv").open() as file:
        first = next(csv.DictReader(file))
    images = next(iter(again.trainer.val_dataloaders))[0]
    normalised = (images - again.model.mean.cpu()) / again.model.std.cpu()
    likeliest = logits_of(averages, normalised)[0].softmax(0)
    assert float(first["probability_1"]) == pytest.approx(likeliest.max().item(), abs=1e-5)
    from safetensors.torch import load_file

    exported = load_file(tmp_path / "net.safetensors")
    assert torch.equal(exported["head.fc.weight"], averages["backbone.head.fc.weight"])


@pytest.mark.slow
def test_four_batches_are_learnt_by_heart(tmp_path):
    flags = ["--config", "digits", "--config", "extras/overfit", "--data.batch_size", "32", *SHORT]
    trained = run("fit", [*flags, "--trainer.max_epochs", "50", "--trainer.default_root_dir", str(tmp_path)])
    assert trained.trainer.callback_metrics["train/top1"] > 0.95
    assert trained.trainer.global_step == 200


@pytest.mark.slow
def test_a_run_stops_where_the_accuracy_rises_no_more(tmp_path):
    flags = ["--config", "digits", "--config", "extras/early-stopping", "--trainer.callbacks.patience", "1"]
    flags += ["--trainer.max_epochs", "5"]
    trained = fit(tmp_path, *flags, "--model.lr", "0", "--model.warmup_lr", "0", "--model.min_lr", "0")
    assert trained.trainer.current_epoch == 2 < trained.trainer.max_epochs


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*number of training batches")
def test_a_profile_lies_in_the_runs_directory(tmp_path):
    quick = [*SHORT, "--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "1"]
    run(
        "fit", ["--config", "digits", "--config", "extras/profile", *quick, "--trainer.default_root_dir", str(tmp_path)]
    )
    assert "run_training_batch" in (tmp_path / "fit-profile.txt").read_text()
