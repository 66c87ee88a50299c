"""fit, validate, test and predict from end to end, on two batches of the digits."""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
import yaml
from command_line import (
    BEST,
    LAST,
    ONE_EPOCH,
    SHORT,
    TWO_EPOCHS,
    changed,
    contents,
    files,
    metric,
    printed,
    scalars,
    settings,
)
from golden.fill import official_name

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.backbones import create_backbone
from poolformer.checkpoint.reading import read
from poolformer.checkpoint.record import RECORD

MIXER = """
from torch import nn


class Mixer(nn.Module):
    '''A filter for each channel.'''

    def __init__(self, dim: int, kernel_size: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def forward(self, x):
        return self.conv(x)
"""


@pytest.fixture
def run_dir(trained, work) -> Path:
    """A copy of the trained run, as ``runs/own``; its config.yaml points there."""
    shutil.copytree(trained, work / "runs" / "own")
    config = work / "runs" / "own" / "config.yaml"
    config.write_text(config.read_text().replace(str(trained), "runs/own"))
    return Path("runs/own")


# ---- configurations


A, B = "{name: pooling, pool_size: 5}", "{name: attention}"
# What stands first in a file, what is said then, and what comes of it; a flag begins with --.
MERGES = [
    (A, B, {"name": "attention"}),
    (A, "attention", "attention"),
    (A, "[pooling, pooling, attention, identity]", ["pooling", "pooling", "attention", "identity"]),
    (A, f"[{A}, identity, {B}, identity]", [yaml.safe_load(A), "identity", {"name": "attention"}, "identity"]),
    (A, "--model.mixer=attention", "attention"),
    (A, "--model.mixer='{name: attention}'", {"name": "attention"}),
    (A, "--model.mixer=[pooling,pooling,attention,identity]", ["pooling", "pooling", "attention", "identity"]),
    (A, "--model.mixer.pool_size=7", {"name": "pooling", "pool_size": 7}),
    (B, "--model.mixer.head_dim=8", {"name": "attention", "head_dim": 8}),
    ("[pooling, pooling, attention, attention]", B, {"name": "attention"}),
    ("[pooling, pooling, attention, attention]", "--model.mixer=identity", "identity"),
    ("attention", A, {"name": "pooling", "pool_size": 5}),
    ("attention", "--model.mixer.head_dim=8", {"name": "attention", "head_dim": 8}),
    (A, "--model.mixer attention --model.mixer.head_dim 8", {"name": "attention", "head_dim": 8}),
]


@pytest.mark.parametrize(("first", "then", "expected"), MERGES)
def test_what_is_said_later_replaces_a_mixer_and_a_dotted_option_merges(call, work, first, then, expected):
    (work / "first.yaml").write_text(f"model:\n  mixer: {first}\n")
    (work / "then.yaml").write_text(f"model:\n  mixer: {then}\n")
    later = shlex.split(then) if then.startswith("--") else ["--config", "then.yaml"]
    done = call("fit", "--config", "digits", "--config", "first.yaml", *later, "--print_config")
    assert printed(done)["model"]["mixer"] == expected


def test_an_option_before_the_name_of_its_mixer_is_said_to_have_no_effect(call, work):
    (work / "first.yaml").write_text(f"model:\n  mixer: {A}\n")
    later = ["--model.mixer.pool_size", "7", "--model.mixer", "attention", "--print_config"]
    with pytest.warns(UserWarning, match=r"^--model\.mixer\.pool_size 7 has no effect, as --model\.mixer attention "):
        done = call("fit", "--config", "digits", "--config", "first.yaml", *later)
    assert printed(done)["model"]["mixer"] == "attention"


def test_options_merge_into_the_mixer_of_a_shipped_configuration(call):
    options = ["--model.mixer.pool_size", "5", "--print_config"]
    assert printed(call("fit", *options))["model"]["mixer"] == {"name": "pooling", "pool_size": 5}


def test_later_configurations_win_and_leave_the_rest(call, work):
    (work / "a.yaml").write_text("model: {lr: 0.5, mixup: 0.4}\ntrainer: {max_epochs: 3}\n")
    (work / "b.yaml").write_text("model: {lr: 0.7}\ndata: {init_args: {batch_size: 16}}\n")
    config = printed(call("fit", "--config", "digits", "--config", "a.yaml", "--config=b.yaml", "--print_config"))
    assert (config["model"]["lr"], config["model"]["mixup"], config["model"]["num_classes"]) == (0.7, 0.4, 10)
    assert (config["trainer"]["max_epochs"], config["trainer"]["log_every_n_steps"]) == (3, 10)
    assert config["data"]["init_args"]["batch_size"] == 16
    assert config["data"]["init_args"]["shift"] == 0.125


@pytest.mark.slow
def test_lists_of_later_configurations_replace_earlier_ones(call, work):
    for name, callback in (("a", "EarlyStopping\n      init_args: {monitor: val/loss}"), ("b", "RichProgressBar")):
        (work / f"{name}.yaml").write_text(f"trainer:\n  callbacks:\n    - class_path: {callback}\n")
    with pytest.warns(UserWarning, match="of 'b.yaml' replaces EarlyStopping of a file before it"):
        config = printed(call("fit", "--config", "a.yaml", "--config", "b.yaml", "--print_config"))
    (one,) = config["trainer"]["callbacks"]
    assert one["class_path"] == "lightning.pytorch.callbacks.RichProgressBar"


@pytest.mark.slow
def test_without_a_configuration_fit_is_the_digits(call):
    assert call("fit", "--print_config").out == call("fit", "--config", "digits", "--print_config").out


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_without_a_configuration_the_others_have_the_defaults_of_the_signatures(call, verb):
    config = printed(call(verb, "--print_config"))
    assert (config["model"]["backbone"], config["trainer"]["max_epochs"]) == ("poolformer_s12", 310)


@pytest.mark.slow
def test_the_command_may_stand_behind_its_options(call):
    usual = call("fit", "--config", "digits", "--model.lr", "1", "--print_config").out
    assert call("--config", "digits", "--model.lr", "1", "fit", "--print_config").out == usual


def test_flags_win_over_configurations(call, work):
    (work / "a.yaml").write_text("model: {lr: 0.5}\n")
    assert printed(call("fit", "--config", "a.yaml", "--model.lr", "0.9", "--print_config"))["model"]["lr"] == 0.9


@pytest.mark.parametrize("order", [["fit", "flag", "config"], ["flag", "fit", "config"]], ids=" ".join)
def test_flags_win_over_configurations_wherever_they_stand(call, work, order):
    (work / "a.yaml").write_text("model: {lr: 0.5}\n")
    words = {"fit": ["fit"], "flag": ["--model.lr", "0.9"], "config": ["--config", "a.yaml"]}
    arguments = [word for part in order for word in words[part]]
    assert printed(call(*arguments, "--print_config"))["model"]["lr"] == 0.9


OTHER_DATA = [
    (["--config", "s12"], ("FFCVData", 224, 128)),
    (["--config", "m36", "--data", "FolderData"], ("FolderData", 224, 128)),
    (["--data", "FolderData"], ("FolderData", 224, 128)),
    (["--config", "digits", "--data", "FFCVData", "--data.batch_size", "7"], ("FFCVData", 224, 7)),
    (["--config", "digits", "--config", "s12"], ("FFCVData", 224, 128)),
    (["--config", "s12", "--config", "digits"], ("DigitsData", 8, 128)),
    (["--config", "s12", "--config", "digits", "--data.image_size", "16"], ("DigitsData", 16, 128)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("said", "expected"), OTHER_DATA, ids=[" ".join(row[0]) for row in OTHER_DATA])
def test_another_data_module_has_its_own_defaults(call, said, expected):
    section = printed(call("fit", *said, "--print_config"))["data"]
    name, image_size, batch_size = expected
    assert section["class_path"] == f"poolformer.data.{name}"
    assert (section["init_args"]["image_size"], section["init_args"]["batch_size"]) == (image_size, batch_size)


@pytest.mark.slow
def test_what_files_say_of_the_data_goes_over_to_another_module(call):
    init_args = printed(call("fit", "--config", "m36", "--data", "FolderData", "--print_config"))["data"]["init_args"]
    assert init_args["crop_pct"] == 0.95


@pytest.mark.slow
def test_a_printed_configuration_is_read_to_the_same(call, work):
    options = ["--config", "digits", "--model.mixer", f"[pooling, {A}, attention, {B}]", "--model.lr", "1e-4"]
    first = call("fit", *options, "--trainer.callbacks", "RichProgressBar", "--print_config").out
    (work / "printed.yaml").write_text(first)
    assert call("fit", "--config", "printed.yaml", "--print_config").out == first


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ([], ["--data.shift", "Defaults: digits.yaml", "default: poolformer_tiny"]),
        (["--config", "s12"], ["--data.train", "Defaults: the paper's", "default: poolformer_s12"]),
        (["--config", "s12", "--data", "DigitsData"], ["--data.shift"]),
    ],
    ids=["digits", "s12", "digits over s12"],
)
def test_help_has_the_options_of_the_chosen_data_and_says_whose_defaults_it_shows(call, said, shown):
    out = " ".join(call("fit", *said, "--help").out.split())
    assert all(text in out for text in shown)


@pytest.mark.slow
def test_help_beside_a_checkpoint_has_the_options_of_its_data(call, work, trained):
    folders = {"_class_path": "poolformer.data.FolderData", "batch_size": 17, "train": "theirs", "val_share": 0.2}
    elsewhere = changed(trained, work / "folders.ckpt", datamodule_hyper_parameters=folders)
    assert "--data.val" in call("validate", "--ckpt_path", elsewhere, "--help").out
    done = call("validate", "--ckpt_path", elsewhere, "--data.val", "images", "--data.crop_pct=1", "--print_config")
    options = printed(done)["data"]
    assert options["class_path"] == "poolformer.data.FolderData"
    assert (options["init_args"]["val"], options["init_args"]["crop_pct"]) == ("images", 1.0)
    assert options["init_args"]["batch_size"] == 17
    assert (options["init_args"]["train"], options["init_args"]["val_share"]) == ("theirs", 0.2)
    packed = printed(call("validate", "--ckpt_path", elsewhere, "--data", "FFCVData", "--print_config"))["data"][
        "init_args"
    ]
    assert (packed["batch_size"], packed["train"], packed["val_share"]) == (17, None, None)  # a .beton is no folder


# ---- the directory of a run


@pytest.mark.slow
def test_a_run_lies_in_one_directory(call, work):
    done = call("fit", *ONE_EPOCH)
    assert done.code == 0
    written = ("config.yaml", "hparams.yaml", "metrics.csv", "summary.json", "events", LAST, BEST)
    assert files(work) == {f"runs/digits/{name}" for name in written}
    for said in (
        "run          runs/digits ",
        "tensorboard --logdir runs\n",
        "runs/digits/config.yaml --ckpt_path best",
    ):
        assert said in done.out


@pytest.mark.slow
def test_what_is_printed_at_the_end_is_what_was_measured(call, work):
    done = call("fit", *ONE_EPOCH)
    assert float(re.search(r"val/top1 ([\d.]+) after 1 epoch", done.out)[1]) == pytest.approx(
        scalars(work / "runs/digits")["val/top1"][-1][1], abs=5e-5
    )


@pytest.mark.slow
def test_the_best_epoch_is_said_beside_the_last(call, work):
    done = call("fit", *SHORT, "--trainer.max_epochs", "3", "--model.cooldown_epochs", "0")
    curve = [value for _, value in scalars(work / "runs/digits")["val/top1"]]
    assert f"val/top1 {curve[-1]:.4f} after 3 epochs, best {max(curve):.4f}\n" in done.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "other"),
    [
        ([], "identity"),
        (["--model.mixer", "identity"], "pooling"),
        (["--model.mixer", "[identity, identity, identity, pooling]"], "identity"),
        (["--model.backbone", "own_net:net"], None),
    ],
    ids=["pooling", "identity", "both", "none to choose"],
)
def test_the_next_mixer_to_try_is_another_in_a_directory_of_its_own(call, work, monkeypatch, options, other):
    (work / "own_net.py").write_text(
        "from torch import nn\n\n\ndef net(num_classes: int):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))\n"
    )
    monkeypatch.delitem(sys.modules, "own_net", raising=False)
    done = call("fit", *ONE_EPOCH, *options, "--model.drop_path_rate", "null", "--trainer.default_root_dir", "runs/a")
    assert done.code == 0, done.err
    suggested = re.findall(r"another mix .* --model.mixer (\w+) --trainer.default_root_dir (\S+)\n", done.out)
    assert suggested == ([(other, f"runs/a-{other}")] if other else [])


def test_tensorboard_has_the_tags_of_the_contract(trained):
    found = scalars(trained)
    tags = ["train/loss", "val/loss", "val/top1", "val/top5", "throughput/images_per_s", "lr/decay", "lr/no_decay"]
    assert set(tags) <= set(found)
    assert [step for step, _ in found["train/loss"]] == [0, 1]
    for tag in ("val/top1", "val/top5"):
        assert all(0 <= value <= 1 for _, value in found[tag])
    assert found["val/top1"][-1][1] <= found["val/top5"][-1][1]
    assert all(value > 0 for _, value in found["throughput/images_per_s"])


def test_checkpoints_are_data_and_say_what_they_are(trained):
    for name in (LAST, BEST):
        saved = read(trained / name)
        assert saved["epoch"] == 0
        assert saved["global_step"] == 2
        assert saved[RECORD]["backbone"] == "poolformer_tiny"
        assert list(saved[RECORD]["mixers"]) == ["depthwise"]
        assert saved[RECORD]["class_names"] == list("0123456789")
        assert saved["hyper_parameters"]["mixer"] == "depthwise"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("configs", "name"),
    [(["digits"], "digits"), (["digits", "a.yaml"], "digits-a"), (["digits", "sub/b.yaml", "a.yaml"], "digits-b-a")],
)
def test_a_run_is_named_after_its_configurations(call, work, configs, name):
    (work / "sub").mkdir()
    for file in ("a.yaml", "sub/b.yaml"):
        (work / file).write_text("model: {mixup: 0.0}\n")
    options = [word for config in configs for word in ("--config", config)]
    assert call("fit", *options, *ONE_EPOCH, "--trainer.logger", "false").code == 0
    assert [path.name for path in (work / "runs").iterdir()] == [name]


@pytest.mark.slow
def test_the_saved_configuration_runs_again_to_the_same(call, run_dir):
    before = (run_dir / "config.yaml").read_bytes()
    assert call("fit", "--config", run_dir / "config.yaml").code == 0
    assert (run_dir / "config.yaml").read_bytes() == before
    again, first = read(run_dir / LAST), read(run_dir / "previous/1" / LAST)
    assert all(torch.equal(again["state_dict"][name], weight) for name, weight in first["state_dict"].items())


@pytest.mark.slow
def test_a_second_run_moves_the_first_and_overwrites_nothing(call, run_dir):
    kept: dict[str, str] = {}
    for number in (1, 2):
        before = {name: content for name, content in contents(run_dir).items() if not name.startswith("previous/")}
        kept.update({f"previous/{number}/{name}": content for name, content in before.items()})
        assert call("fit", *ONE_EPOCH, "--trainer.default_root_dir", run_dir).code == 0
        now = contents(run_dir)
        assert {name: content for name, content in now.items() if name.startswith("previous/")} == kept
        assert {LAST, BEST, "config.yaml"} <= set(now)
    assert settings(run_dir)["model"]["lr"] != settings(run_dir / "previous/1")["model"]["lr"]


@pytest.mark.slow
def test_files_that_are_no_run_stay_where_they_are(call, work):
    (work / "mine").mkdir()
    (work / "mine" / "notes.txt").write_text("kept")
    assert call("fit", *ONE_EPOCH, "--trainer.default_root_dir", "mine").code == 0
    assert (work / "mine" / "notes.txt").read_text() == "kept"
    assert not (work / "mine" / "previous").exists()


@pytest.mark.slow
def test_fast_dev_run_leaves_nothing_behind(call, work):
    assert call("fit", *SHORT, "--trainer.fast_dev_run", "true").code == 0
    assert files(work) == set()


@pytest.mark.slow
def test_fast_dev_run_leaves_an_earlier_run_alone(call, run_dir):
    before = contents(run_dir)
    done = call("fit", "--config", run_dir / "config.yaml", "--trainer.fast_dev_run", "true")
    assert done.code == 0
    assert contents(run_dir) == before


@pytest.mark.slow
def test_a_run_without_a_logger_keeps_its_checkpoints(call, work):
    assert call("fit", *ONE_EPOCH, "--trainer.logger", "false").code == 0
    assert files(work / "runs/digits") == {"config.yaml", "metrics.csv", "summary.json", LAST, BEST}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [["--model.num_classes", "3"], ["--trainer.max_epochs", "-1"], ["--data", "FolderData"]],
    ids=" ".join,
)
def test_a_start_that_fails_leaves_the_earlier_run_as_it_was(call, run_dir, options):
    before = contents(run_dir)
    assert call("fit", *SHORT, "--trainer.default_root_dir", run_dir, *options).code == 2
    assert contents(run_dir) == before


# ---- going on


@pytest.mark.slow
@pytest.mark.parametrize("which", ["last", "best", "file"])
def test_a_run_goes_on_in_its_directory(call, run_dir, which):
    before, loss = contents(run_dir), scalars(run_dir)["train/loss"]
    ckpt_path = run_dir / LAST if which == "file" else which
    done = call("fit", "--config", run_dir / "config.yaml", "--ckpt_path", ckpt_path, "--trainer.max_epochs", "2")
    assert done.code == 0, done.err
    kept = (run_dir / "previous" / "1" / LAST).relative_to(run_dir).as_posix()
    assert contents(run_dir).get(kept) == (before[Path(LAST).as_posix()] if which == "best" else None)
    events = {name: content for name, content in before.items() if "tfevents" in name}
    assert events.items() <= contents(run_dir).items()  # the old file as it was, a new one beside it
    assert (read(run_dir / LAST)["epoch"], read(run_dir / LAST)["global_step"]) == (1, 4)
    assert scalars(run_dir)["train/loss"][:2] == loss
    assert [step for step, _ in scalars(run_dir)["train/loss"]] == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_finished_run_has_nothing_to_go_on_with(call, run_dir):
    before = contents(run_dir)
    done = call("fit", "--config", run_dir / "config.yaml", "--ckpt_path", "last")
    assert done.code == 0
    assert done.out == f"'{run_dir / LAST}' is at 1 epoch, 2 steps already: raise --trainer.max_epochs\n"
    assert contents(run_dir).items() >= before.items()


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("last", "the run in 'runs/digits' has no 'last' checkpoint; 'runs/digits/checkpoints' has no checkpoints"),
        ("best", "the run in 'runs/digits' has no 'best' checkpoint; 'runs/digits/checkpoints' has no checkpoints"),
        ("gone.ckpt", "no checkpoint at 'gone.ckpt'; '.' has no checkpoints"),
    ],
)
def test_a_missing_checkpoint_ends_it_and_nothing_starts_from_scratch(call, work, verb, name, message):
    done = call(verb, "--config", "digits", "--ckpt_path", name)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"poolformer: error: {message}\n"
    assert files(work) == set()


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", bytes(1000)], ids=["empty", "torn", "zeros"])
def test_a_torn_last_checkpoint_ends_it_and_is_kept(call, run_dir, content):
    (run_dir / LAST).write_bytes(content)
    before = contents(run_dir)
    done = call("fit", "--config", run_dir / "config.yaml", "--ckpt_path", "last")
    assert done.code == 2
    assert done.err.startswith(f"poolformer: error: '{run_dir / LAST}' is not a checkpoint that can be loaded as data:")
    assert str(run_dir / BEST) in done.err
    assert done.err.count("\n") == 1
    assert contents(run_dir) == before


@pytest.mark.slow
def test_going_on_from_another_run_does_not_overwrite_the_one_here(call, run_dir, trained):
    options = ["--config", run_dir / "config.yaml", *TWO_EPOCHS, "--trainer.default_root_dir", "runs/other"]
    assert call("fit", *options, "--model.mixer", "identity").code == 0
    before = contents(Path("runs/other"))
    assert call("fit", *options, "--ckpt_path", run_dir / LAST).code in (0, 2)
    kept = set(contents(Path("runs/other")).values())
    assert before[LAST] in kept
    assert before["config.yaml"] in kept


@pytest.mark.slow
def test_going_on_from_an_archived_run_moves_the_present_one(call, run_dir):
    again = ["--config", run_dir / "config.yaml", *ONE_EPOCH]
    assert call("fit", *again).code == 0
    present = contents(run_dir)[LAST]
    archived = run_dir / "previous" / "1" / LAST
    assert call("fit", "--config", run_dir / "config.yaml", *TWO_EPOCHS, "--ckpt_path", archived).code == 0
    assert contents(run_dir)[f"previous/2/{LAST}"] == present


@pytest.mark.slow
def test_the_configuration_of_a_run_that_went_on_runs_again(call, run_dir):
    config = ["--config", run_dir / "config.yaml"]
    assert call("fit", *config, "--ckpt_path", "last", "--trainer.max_epochs", "2").code == 0
    assert call("fit", *config, "--trainer.default_root_dir", "runs/again").code == 0


@pytest.mark.slow
def test_a_file_whose_name_reads_like_an_address_is_a_file(call, work, trained):
    shutil.copy(trained / LAST, work / "http.ckpt")
    done = call("validate", "--ckpt_path", "http.ckpt", "--trainer.limit_val_batches", "1")
    assert done.code == 0, done.err


@pytest.mark.slow
@pytest.mark.parametrize("path", ["local://{work}/mine", "{work}/runs/own/checkpoints/../../../mine"])
def test_going_on_from_a_stranger_s_checkpoint_deletes_nothing(call, work, run_dir, path):
    """Lightning would delete, with all that is in it, what a checkpoint calls the one before."""
    (work / "mine").mkdir()
    content = read(run_dir / LAST)
    for state in content["callbacks"].values():
        if "best_model_path" in state:
            del state["dirpath"]
            state["best_model_path"] = path.format(work=work)
    torch.save(content, run_dir / LAST)
    done = call("fit", "--config", run_dir / "config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert (work / "mine").is_dir()
    assert done.code == 2
    assert "which a resumed run could delete" in done.err


# ---- flags, configurations, the checkpoint, defaults


@pytest.mark.slow
def test_what_is_not_said_is_taken_from_the_checkpoint(call, trained):
    done = call("validate", "--ckpt_path", trained / LAST, "--trainer.limit_val_batches", "2")
    assert done.code == 0, done.err
    assert metric(done, "val/top1") == pytest.approx(scalars(trained)["val/top1"][-1][1], abs=1e-6)


# A line for each edge: what else is said, and the rate, the smoothing and the batch that come of it.
EDGES = [
    ([], (0.003, 0.2, 32)),
    (["--config", "a.yaml"], (0.5, 0.2, 32)),
    (["--model.lr", "0.9"], (0.9, 0.2, 32)),
    (["--config", "a.yaml", "--model.lr", "0.9"], (0.9, 0.2, 32)),
    (["--config", "a.yaml", "--data.batch_size", "16", "--model.label_smoothing", "0.1"], (0.5, 0.1, 16)),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the run is resumed with other options")
@pytest.mark.parametrize(("said", "expected"), EDGES)
def test_flags_beat_configurations_beat_the_checkpoint_beats_defaults(call, work, trained, said, expected):
    # The digits are what fit takes without a configuration, so one is given that says next to nothing.
    (work / "none.yaml").write_text("seed_everything: 42\n")
    (work / "a.yaml").write_text("model: {lr: 0.5}\n")
    options = ["--config", "none.yaml", *said, "--ckpt_path", trained / LAST, *TWO_EPOCHS]
    done = call("fit", *options, "--trainer.default_root_dir", "on", "--model.cooldown_epochs", "0")
    assert done.code == 0, done.err
    config = settings(work / "on")
    assert (config["model"]["lr"], config["model"]["label_smoothing"]) == expected[:2]
    assert config["data"]["init_args"]["batch_size"] == expected[2]
    assert (config["model"]["backbone"], config["model"]["mixer"]) == ("poolformer_tiny", "depthwise")
    assert config["model"]["weight_decay"] == 0.05  # the default, in the checkpoint too
    assert read(work / "on" / LAST)["hyper_parameters"]["lr"] == expected[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the checkpoint was trained with")
def test_the_default_configuration_does_not_beat_the_checkpoint(call, work, trained):
    done = call("fit", "--ckpt_path", trained / LAST, *TWO_EPOCHS, "--trainer.default_root_dir", "on")
    assert done.code == 0, done.err
    assert settings(work / "on")["model"]["mixer"] == "depthwise"


def test_a_printed_configuration_includes_the_checkpoint(call, trained):
    config = printed(call("validate", "--ckpt_path", trained / LAST, "--print_config"))
    assert (config["model"]["backbone"], config["model"]["mixer"]) == ("poolformer_tiny", "depthwise")


@pytest.mark.slow
def test_another_mixer_without_parameters_is_warned_of_and_used(call, run_dir):
    config = ["--config", run_dir / "config.yaml"]
    assert call("fit", *config, "--model.mixer", "pooling").code == 0
    with pytest.warns(UserWarning, match="was trained with token mixer 'pooling' .*, not 'identity'"):
        done = call("validate", *config, "--ckpt_path", "last", "--model.mixer", "identity")
    assert done.code == 0
    assert metric(done, "val/loss") != pytest.approx(scalars(run_dir)["val/loss"][-1][1], abs=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the checkpoint was trained with")
@pytest.mark.filterwarnings("ignore:the data has 10 classes and the model 11")
@pytest.mark.parametrize(
    "options",
    [["--model.mixer", "attention"], ["--model.num_classes", "11"], ["--model.backbone", "poolformer_s12"]],
    ids=" ".join,
)
def test_weights_that_do_not_fit_are_a_mistake_and_not_a_bug(call, trained, options):
    done = call("validate", "--ckpt_path", trained / LAST, *options)
    assert done.code == 2
    assert options[-1] in done.err
    assert f"error: '{trained / LAST}': the weights do not fit" in done.err
    assert f"; there is {(trained / LAST).with_name('best.ckpt')}" in done.err
    assert re.search(r" classes: \d+ tensors? (only in the|of another shape) .*\('[\w.]+'", done.err)
    assert len(done.err) < 700


def test_a_bare_state_dict_is_a_mistake_and_not_a_bug(call, work):
    torch.save({"stem.conv.weight": torch.zeros(2)}, work / "published.pth")
    assert call("validate", "--config", "digits", "--ckpt_path", "published.pth").code == 2


IMPORTED = [{"mixer": "beside_it:Mixer"}, {"mixer": ("beside_it:Mixer",) * 4}, {"backbone": "beside_it:Mixer"}]


@pytest.mark.slow
@pytest.mark.parametrize("hyper_parameters", IMPORTED, ids=str)
def test_a_checkpoint_cannot_have_a_module_imported(call, work, trained, hyper_parameters):
    (work / "beside_it.py").write_text(f"open('was-run', 'w').close()\n{MIXER}")
    evil = changed(trained, work / "evil.ckpt", hyper_parameters=hyper_parameters)
    try:
        done = call("validate", "--ckpt_path", evil)
    finally:
        sys.modules.pop("beside_it", None)
    assert not (work / "was-run").exists()
    assert done.code == 2
    assert "beside_it:Mixer, a module that you have to vouch for: add --model." in done.err


@pytest.mark.slow
@pytest.mark.parametrize("class_path", ["came_along.Data", "poolformer.data.folder.os", "subprocess.Popen"])
def test_a_checkpoint_cannot_name_a_data_module_that_is_not_ours(call, work, trained, class_path):
    (work / "came_along.py").write_text("open('was-run', 'w').close()\nclass Data: ...\n")
    evil = changed(trained, work / "evil.ckpt", datamodule_hyper_parameters={"_class_path": class_path})
    done = call("validate", "--ckpt_path", evil, "--trainer.limit_val_batches", "1")
    assert (done.code, done.out) == (2, "")
    assert f"was trained on {class_path}, a data module that you have to vouch for" in done.err
    assert not (work / "was-run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["hyper_parameters", "datamodule_hyper_parameters"])
def test_a_checkpoint_cannot_name_what_builds_its_classes(call, work, trained, part):
    evil = changed(trained, work / "evil.ckpt", **{part: {"_instantiator": "os.system"}})
    assert call("validate", "--ckpt_path", evil, "--trainer.limit_val_batches", "1").code == 0


@pytest.mark.slow
def test_arguments_that_the_model_no_longer_has_are_left_out(call, work, trained):
    old = changed(trained, work / "old.ckpt", hyper_parameters={"no_longer": 3})
    assert call("validate", "--ckpt_path", old, "--trainer.limit_val_batches", "1").code == 0


@pytest.mark.slow
def test_arguments_that_the_data_no_longer_has_are_left_out(call, work, trained):
    old = changed(trained, work / "old.ckpt", datamodule_hyper_parameters={"no_longer": 3})
    assert call("validate", "--ckpt_path", old, "--trainer.limit_val_batches", "1").code == 0


# ---- published weights


@pytest.fixture
def published(trained, work) -> Path:
    """The trained weights in the authors' names, as they publish theirs."""
    weights = {name.removeprefix("backbone."): value for name, value in read(trained / LAST)["state_dict"].items()}
    torch.save({official_name(name): value for name, value in weights.items()}, work / "published.pth.tar")
    return work / "published.pth.tar"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["validate", "test"])
def test_published_weights_are_evaluated_without_a_run(call, work, trained, published, verb):
    said = ["--model.mixer", "depthwise", "--data.batch_size", "32"]
    done = call(verb, "--config", "digits", "--model.pretrained", "published.pth.tar", *said)
    assert done.code == 0, done.err
    as_a_run = call(verb, "--config", "digits", "--ckpt_path", trained / LAST, *said)
    split = "val" if verb == "validate" else "test"
    assert metric(done, f"{split}/loss") == metric(as_a_run, f"{split}/loss")
    assert files(work) == {"published.pth.tar", f"runs/digits/{verb}-1.json"}


@pytest.mark.slow
def test_published_weights_predict(call, work, published):
    done = call(
        "predict", "--config", "digits", "--model.pretrained", "published.pth.tar", "--model.mixer", "depthwise"
    )
    assert done.code == 0, done.err
    assert files(work) == {"published.pth.tar", "runs/digits/predictions.csv"}


@pytest.mark.exhaustive
def test_a_run_that_started_from_published_weights_does_not_need_them_again(call, work, trained, published):
    options = ["--model.mixer", "depthwise", "--model.pretrained", "published.pth.tar"]
    still = ["--model.lr", "0", "--model.min_lr", "0", "--model.warmup_lr", "0"]  # to see what it started from
    assert call("fit", *options, *still, *ONE_EPOCH).code == 0
    run = Path("runs/digits")
    ours, theirs = (read(folder / LAST)["state_dict"] for folder in (run, trained))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert settings(run)["model"]["pretrained"] == "published.pth.tar"
    assert "pretrained" not in read(run / LAST)["hyper_parameters"]

    published.unlink()
    again = ["--config", run / "config.yaml", "--ckpt_path", "last"]
    assert call("validate", *again).code == 0
    assert call("validate", "--ckpt_path", run / LAST).code == 0
    assert call("fit", *again, *TWO_EPOCHS).code == 0
    assert read(run / LAST)["epoch"] == 1
    assert settings(run)["model"]["pretrained"] == "published.pth.tar"  # to run it again from the start
    before = contents(work)
    done = call("fit", "--config", run / "config.yaml")
    assert done.code == 2
    assert "error: no weights at 'published.pth.tar': pass a file" in done.err
    assert contents(work) == before


@pytest.mark.slow
def test_another_number_of_classes_is_said_at_the_terminal(call, published):
    fresh = pytest.warns(UserWarning, match="for 10 classes, the network for 12: the network's head is fresh")
    with fresh, pytest.warns(UserWarning, match="some of its logits have no images"):
        done = call(
            "fit",
            *("--model.mixer", "depthwise", "--model.pretrained", "published.pth.tar", "--model.num_classes", "12"),
            *("--trainer.fast_dev_run", "true", "--model.warmup_epochs", "0"),
        )
    assert done.code == 0, done.err


def test_published_weights_that_do_not_fit_are_one_line(call, work, published):
    done = call("fit", "--model.pretrained", "published.pth.tar")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert done.err.startswith(
        "poolformer: error: 'published.pth.tar' does not fit backbone poolformer_tiny: 10 tensors"
    )
    assert files(work) == {"published.pth.tar"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the run is resumed with other options")
def test_a_checkpoint_cannot_choose_published_weights(call, work, run_dir, published):
    evil = changed(run_dir, run_dir / "checkpoints/evil.ckpt", hyper_parameters={"pretrained": "timm/evil"})
    assert call("validate", "--ckpt_path", evil, "--trainer.limit_val_batches", "1").code == 0
    options = ["--model.mixer", "depthwise", *TWO_EPOCHS]
    assert call("fit", "--config", "digits", "--ckpt_path", evil, *options).code == 0
    assert settings(Path("runs/digits"))["model"]["pretrained"] is None


# ---- validate, test, predict


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluation_needs_weights(call, verb):
    done = call(verb, "--config", "digits")
    assert (done.code, done.out) == (2, "")
    message = (
        f"{verb} needs trained weights: pass --ckpt_path best, last, or a file of a run, "
        "or --model.pretrained with published ones"
    )
    assert done.err == f"poolformer: error: {message}\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["best", "last"])
def test_validating_gives_what_training_logged_and_writes_a_file_of_its_own(call, run_dir, name):
    before = contents(run_dir)
    done = call("validate", "--config", run_dir / "config.yaml", "--ckpt_path", name)
    assert done.code == 0, done.err
    for tag, points in scalars(run_dir).items():
        if tag.startswith("val/"):
            assert metric(done, tag) == pytest.approx(points[-1][1], abs=1e-5)
    assert_only_new(contents(run_dir), before, "validate-*.json")
    assert files(Path()) == {f"{run_dir}/{file}" for file in files(run_dir)}


def assert_only_new(now: dict[str, str], before: dict[str, str], pattern: str) -> None:
    """There is one more file, by a name like this, and all others are as they were."""
    (new,) = now.keys() - before.keys()
    assert fnmatch(new, pattern)
    assert {name: content for name, content in now.items() if name != new} == before


@pytest.mark.slow
def test_testing_writes_a_file_of_its_own(call, run_dir):
    before = contents(run_dir)
    done = call("test", "--config", run_dir / "config.yaml", "--ckpt_path", "last")
    assert done.code == 0, done.err
    assert 0 <= metric(done, "test/top1") <= metric(done, "test/top5") <= 1
    assert_only_new(contents(run_dir), before, "test-*.json")


@pytest.mark.slow
@pytest.mark.parametrize("said", ["run", "file"])
def test_predictions_lie_beside_the_run(call, run_dir, said):
    others = ["--config", run_dir / "config.yaml", "--ckpt_path", "last"] if said == "run" else []
    before = contents(run_dir)
    assert call("predict", *(others or ["--ckpt_path", run_dir / LAST])).code == 0
    new = contents(run_dir).keys() - before.keys()
    assert new == {"predictions.csv"}
    assert files(Path()) == {f"{run_dir}/{file}" for file in files(run_dir)}
    with (run_dir / "predictions.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:3] == ["image", "class_1", "probability_1"]
    assert header[-2:] == ["probability_5", "true"]
    assert [row[0] for row in rows] == [str(index) for index in range(360)]
    for row in rows:
        probabilities = [float(value) for value in row[2:-1:2]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert {*row[1::2]} <= set("0123456789")


@pytest.mark.slow
def test_predictions_lie_beside_the_run_wherever_it_is_called_from(call, run_dir, monkeypatch):
    monkeypatch.chdir(run_dir / "checkpoints")
    assert call("predict", "--ckpt_path", "last.ckpt").code == 0
    assert Path("../predictions.csv").is_file()


@pytest.mark.slow
def test_the_first_run_can_be_validated_as_shortly_as_it_was_trained(call):
    assert call("fit", *ONE_EPOCH).code == 0
    assert call("validate", "--ckpt_path", "best").code == 0


# ---- mixers of others


@pytest.mark.slow
def test_a_plugin_trains_goes_on_and_is_missed(call, work, fake_plugin, monkeypatch):
    fake_plugin(
        name="conv-dist", entry_points={"poolformer.mixers": {"conv1": "conv_one:Mixer"}}, modules={"conv_one": MIXER}
    )
    options = ["--model.mixer", "conv1", "--model.mixer", "{name: conv1, kernel_size: 5}"]
    assert call("fit", *options, *ONE_EPOCH).code == 0
    saved = read(work / "runs/digits" / LAST)
    assert saved[RECORD]["mixers"] == {"conv1": "conv-dist 1.0"}
    assert saved["state_dict"]["backbone.stages.0.blocks.0.token_mixer.conv.weight"].shape == (16, 1, 5, 5)
    assert call("fit", *options, *TWO_EPOCHS, "--ckpt_path", "last").code == 0
    validate = ["validate", "--ckpt_path", work / "runs/digits" / LAST, "--trainer.limit_val_batches", "1"]
    assert call(*validate).code == 0

    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", "1")
    done = call(*validate)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(
        "poolformer: error: this checkpoint was trained with token mixer 'conv1' of conv-dist 1.0, "
        "which is not installed here: pip install conv-dist==1.0 ("
    )
    assert done.err.count("\n") == 1


@pytest.mark.slow
def test_another_version_of_a_plugin_is_warned_of(call, work, fake_plugin):
    points = {"poolformer.mixers": {"conv1": "conv_one:Mixer"}}
    fake_plugin(name="conv-dist", version="1.0", entry_points=points, modules={"conv_one": MIXER})
    assert call("fit", "--model.mixer", "conv1", *ONE_EPOCH).code == 0
    fake_plugin(name="conv-dist", version="1.1", entry_points=points, modules={"conv_one": MIXER})
    with pytest.warns(UserWarning, match=r"token mixer 'conv1' of conv-dist 1\.0; here is conv-dist 1\.1"):
        assert call("validate", "--ckpt_path", work / "runs/digits" / LAST).code == 0


@pytest.mark.slow
def test_a_factory_in_the_current_directory_trains(call, work):
    (work / "of_today.py").write_text(MIXER)
    try:
        done = call("fit", "--model.mixer", "{name: 'of_today:Mixer', kernel_size: 1}", *ONE_EPOCH)
    finally:
        sys.modules.pop("of_today", None)
    assert done.code == 0, done.err
    assert read(work / "runs/digits" / LAST)[RECORD]["mixers"] == {"of_today:Mixer": ""}


@pytest.mark.slow
def test_each_stage_may_have_its_mixer(call, work):
    (work / "stages.yaml").write_text(
        "model:\n  mixer: [identity, {name: pooling, pool_size: 5}, depthwise, attention]\n"
    )
    assert call("fit", "--config", "digits", "--config", "stages.yaml", *ONE_EPOCH).code == 0
    saved = read(work / "runs/digits-stages" / LAST)
    assert list(saved[RECORD]["mixers"]) == ["identity", "pooling", "depthwise", "attention"]
    mixing = {name.split(".")[2] for name in saved["state_dict"] if "token_mixer" in name}
    assert mixing == {"2", "3"}


# ---- a process of its own


@pytest.mark.slow
def test_a_process_trains_and_another_continues_it(tmp_path):
    (tmp_path / "of_today.py").write_text(MIXER)
    command = ["-m", "poolformer", "fit", "--model.mixer", "of_today:Mixer", *SHORT]
    for epochs, more in (("1", []), ("2", ["--ckpt_path", "last"])):
        done = forked.run(*command, "--trainer.max_epochs", epochs, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"after {epochs} epoch" in done.stdout
        assert "Tip:" not in done.stderr
        assert "warning" not in done.stderr.lower()
    assert read(tmp_path / "runs/digits" / LAST)["epoch"] == 1


@pytest.mark.exhaustive
def test_a_process_starts_from_published_weights_and_others_go_on_without_them(tmp_path):
    def process(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
        return forked.run("-m", "poolformer", *arguments, cwd=tmp_path, env=environment)

    weights = create_backbone("poolformer_tiny", num_classes=10).state_dict()
    torch.save({official_name(name): value for name, value in weights.items()}, tmp_path / "poolformer_tiny.pth.tar")
    fit = ["fit", "--model.pretrained", "poolformer_tiny.pth.tar", *ONE_EPOCH]
    first = process(*fit)
    assert first.returncode == 0, first.stderr
    assert "Starts from the weights of 'poolformer_tiny.pth.tar'" in first.stderr
    assert "warning" not in first.stderr.lower()
    evaluation = ["validate", "--config", "digits", "--model.pretrained", "poolformer_tiny.pth.tar"]
    assert process(*evaluation).returncode == 0

    (tmp_path / "poolformer_tiny.pth.tar").unlink()
    second = process("fit", "--config", "runs/digits/config.yaml", "--ckpt_path", "last", *TWO_EPOCHS)
    assert second.returncode == 0, second.stderr
    assert "The weights come from --ckpt_path; 'poolformer_tiny.pth.tar' is not read" in second.stderr
    assert "after 2 epochs" in second.stdout

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "was-run"),)

    torch.save({"state_dict": weights, "more": Evil()}, tmp_path / "poolformer_tiny.pth.tar")
    for verb in ("fit", "validate", "test", "predict"):
        done = process(verb, "--config", "digits", "--model.pretrained", "poolformer_tiny.pth.tar")
        assert done.returncode == 2
        assert "error: 'poolformer_tiny.pth.tar' is not a checkpoint that can be loaded as data" in done.stderr
        assert "loading it would call posix.mkdir" in done.stderr
        assert not (tmp_path / "was-run").exists()


def test_ctrl_c_before_the_first_batch_says_that_nothing_was_trained(call, work, monkeypatch):
    monkeypatch.syspath_prepend(work)
    (work / "interrupting.py").write_text(
        "from lightning.pytorch.callbacks import Callback\n\n\n"
        "class Interrupt(Callback):\n"
        "    def on_fit_start(self, trainer, pl_module):\n"
        "        raise KeyboardInterrupt\n"
    )
    done = call("fit", *SHORT, "--trainer.callbacks", "interrupting.Interrupt")
    assert done.code == 130
    assert done.out.endswith("stopped by SIGINT before the first step\n")


@pytest.mark.exhaustive
def test_ctrl_c_says_how_to_go_on(tmp_path):
    process = forked.Started("-m", "poolformer", "fit", *SHORT, "--trainer.max_epochs", "10000", cwd=tmp_path)
    started_s = time.monotonic()
    while not (tmp_path / "runs/digits" / LAST).is_file() and time.monotonic() - started_s < 120:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    goes_on = "poolformer fit --config runs/digits/config.yaml --ckpt_path last"
    assert out.endswith(f"run     runs/digits\nresume  {goes_on}\n")
    reached = read(tmp_path / "runs/digits" / LAST)["epoch"]
    more = [*goes_on.split()[1:], "--trainer.max_epochs", str(reached + 2)]
    assert forked.run("-m", "poolformer", *more, cwd=tmp_path).returncode == 0
    assert read(tmp_path / "runs/digits" / LAST)["epoch"] == reached + 1


@pytest.mark.slow
def test_the_digits_are_learned(call, work):
    assert (
        call(
            "fit", "--trainer.max_epochs", "4", "--model.warmup_epochs", "1", "--trainer.enable_progress_bar", "false"
        ).code
        == 0
    )
    assert scalars(work / "runs/digits")["val/top1"][-1][1] > 0.8


# ---- counting over processes

COUNT = """
import json, sys
import poolformer.cli.training as training_cli
from poolformer.cli.quiet import quieten
options = ["--trainer.strategy", "ddp", "--trainer.devices", sys.argv[1], "--data.batch_size", sys.argv[2]]
cli = training_cli.run("validate", [*options, *sys.argv[4:]])
if cli.trainer.is_global_zero:
    values = {name: value.item() for name, value in cli.trainer.callback_metrics.items()}
    open(sys.argv[3], "w").write(json.dumps(values))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "batch_size"), [(2, 77), pytest.param(3, 64, marks=pytest.mark.exhaustive)])
def test_each_digit_counts_once_on_any_number_of_processes(trained, tmp_path, processes, batch_size):
    """360 digits: on three ranks in batches of 64 with a last one of 56, on two in batches of 77 with one of 26."""
    checkpoint = str(trained / LAST)
    found = {}
    for devices, size in ((1, 32), (processes, batch_size)):
        program, result = tmp_path / "count.py", tmp_path / f"{devices}.json"
        program.write_text(COUNT)
        arguments = [str(devices), str(size), str(result), "--ckpt_path", checkpoint, "--trainer.accelerator", "cpu"]
        done = forked.run(program, *arguments, cwd=tmp_path, ranks=True)
        assert done.returncode == 0, done.stderr
        found[devices] = json.loads(result.read_text())
    assert found[1]["val/images"] == 360
    assert found[processes] == pytest.approx(found[1], abs=1e-6)
