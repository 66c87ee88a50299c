"""Weights in shards over two processes: the same training, and checkpoints that any number of processes can use."""

import io
import os
import shutil
import signal
from pathlib import Path

import forked
import pytest
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from runs import QUICK, QUICK_STEPS, assert_same_state, curves, last

from poolformer.checkpoint.record import METRICS
from poolformer.cli import training as training_cli
from poolformer.errors import ConfigError
from poolformer.run.sharding import ShardedStrategy, strategy_of
from poolformer.trained import load_classifier

TWO = [*QUICK, "--trainer.devices", "2", "--trainer.limit_val_batches", "1.0", "--num_threads", "1"]
TWO += ["--trainer.max_epochs", "2"]


class KillInSave(Callback):
    """Kills this process in the middle of the first checkpoint that is written after a step."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.is_global_zero and trainer.global_step == self.step:
            torch.save = _die_in_mid_write


_save = torch.save


def _die_in_mid_write(checkpoint, file, **options):
    if isinstance(file, io.BytesIO):  # saved to see whether it can be, and not to a disk
        return _save(checkpoint, file, **options)
    file.write(b"PK\x03\x04 and no more")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def fit(run_dir, *options, strategy="fsdp"):
    homes = [Path(__file__).parent, Path(__file__).parents[1]]
    place = ["--trainer.strategy", strategy, "--trainer.default_root_dir", run_dir]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, homes))}
    return forked.run(
        "-m", "poolformer", "fit", *TWO, *place, *options, cwd=run_dir.parent, env=environment, ranks=True
    )


def calling(callback, **arguments):
    options = [word for name, value in arguments.items() for word in (f"--trainer.callbacks.{name}", value)]
    return ["--trainer.callbacks+", callback, *options]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run in shards that nothing stopped."""
    run_dir = tmp_path_factory.mktemp("sharded") / "whole"
    done = fit(run_dir)
    assert done.returncode == 0, done.stderr
    return run_dir


@pytest.mark.slow
def test_all_processes_evaluate_with_the_running_statistics_that_are_saved(tmp_path):
    network = ["--model.backbone", "timm/test_resnet", "--model.drop_path_rate", "0", "--trainer.max_epochs", "1"]
    done = fit(tmp_path / "run", *network)
    assert done.returncode == 0, done.stderr
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    alone = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    measured = training_cli.run("validate", ["--ckpt_path", str(checkpoint), *alone]).trainer.callback_metrics
    assert measured["val/loss"].item() == pytest.approx(last(tmp_path / "run")[METRICS]["val/loss"], rel=1e-5)


@pytest.mark.slow
def test_a_run_in_shards_evaluates_and_goes_on_in_one_process(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved, checkpoint = last(whole), whole / "checkpoints" / "last.ckpt"
    shutil.copytree(whole, tmp_path / "run")
    alone = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    measured = training_cli.run("validate", ["--ckpt_path", str(checkpoint), *alone]).trainer.callback_metrics
    assert measured["val/images"] == 360
    assert measured["val/loss"].item() == pytest.approx(saved[METRICS]["val/loss"], rel=1e-5)
    classifier = load_classifier(checkpoint)
    assert list(classifier.state_dict()) == list(saved["state_dict"])
    for name, weights in classifier.state_dict().items():
        assert torch.equal(weights, saved["state_dict"][name])
    more = [
        *QUICK,
        "--trainer.limit_val_batches",
        "1.0",
        "--trainer.max_epochs",
        "3",
        "--trainer.default_root_dir",
        str(tmp_path / "run"),
    ]
    with pytest.warns(UserWarning, match=r"resumed with other options: devices 1 \(was 2\)"):
        trainer = training_cli.run("fit", [*more, "--ckpt_path", "last"]).trainer
    assert trainer.global_step == 3 * QUICK_STEPS
    steps = {state["step"].item() for state in trainer.optimizers[0].state.values()}
    assert steps == {3 * QUICK_STEPS}


@pytest.mark.slow
def test_a_run_in_shards_that_is_stopped_then_killed_while_it_saves_is_the_whole_run(whole, tmp_path):
    run_dir = tmp_path / "run"
    stopped = fit(run_dir, *calling("runs.SignalAt", hook="training", step="5", signum="15"))
    assert stopped.returncode == 143, stopped.stderr
    before = last(run_dir)["global_step"]
    assert QUICK_STEPS < before < 2 * QUICK_STEPS
    killed = fit(run_dir, "--ckpt_path", "last", *calling("test_sharding.KillInSave", step=str(before + 1)))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list((run_dir / "checkpoints").glob(".*.tmp"))
    assert last(run_dir)["global_step"] == before
    resumed = fit(run_dir, "--ckpt_path", "last")
    assert resumed.returncode == 0, resumed.stderr
    assert not list((run_dir / "checkpoints").glob(".*.tmp"))
    assert_same_state(whole, run_dir)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_losses_in_shards_are_those_of_ddp(whole, tmp_path):
    done = fit(tmp_path / "ddp", strategy="ddp")
    assert done.returncode == 0, done.stderr
    one, other = curves(whole), curves(tmp_path / "ddp")
    for tag in ("train/loss", "val/loss"):
        assert [step for step, _ in one[tag]] == [step for step, _ in other[tag]]
        assert [value for _, value in one[tag]] == pytest.approx([value for _, value in other[tag]], rel=1e-4)


def options(**given):
    return {"strategy": "fsdp", "callbacks": None, "precision": None, "sync_batchnorm": False, **given}


def test_fsdp_is_the_strategy_with_one_file_a_checkpoint():
    assert isinstance(strategy_of(options()), ShardedStrategy)
    assert strategy_of(options(strategy="ddp", precision="16-true")) == "ddp"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"callbacks": [WeightAveraging()]}, "--trainer.callbacks WeightAveraging: "),
        ({"precision": "16-mixed"}, "--trainer.precision 16-mixed: choose 32-true or bf16-mixed"),
        ({"sync_batchnorm": True}, "--trainer.sync_batchnorm true: "),
    ],
)
def test_what_does_not_go_with_shards_is_refused(given, said):
    with pytest.raises(ConfigError, match=f"^--trainer.strategy fsdp does not go with {said}"):
        strategy_of(options(**given))


def test_a_strategy_that_saves_folders_is_refused():
    with pytest.raises(ConfigError, match=r"ModelParallelStrategy: .*: pass --trainer.strategy fsdp"):
        strategy_of(options(strategy=ModelParallelStrategy()))
