"""``extras/lr-finder``: what it says, what it writes, and that it trains nothing; and ``extras/wandb`` beside it."""

import math
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from command_line import LAST, SHORT
from lightning.pytorch.tuner import lr_finder

from poolformer.cli.training import run
from poolformer.data.soft_labels import SoftLabelsWriter
from poolformer.errors import ConfigError
from poolformer.run.lightning_internals import searching
from poolformer.run.rate_finder import _steepest

FLAGS = ["--config", "digits", "--config", "extras/lr-finder", "--trainer.callbacks.num_training_steps", "16"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*number of training batches")
def test_a_rate_is_said_for_the_batch_that_lr_is_meant_for_and_nothing_is_trained(tmp_path, capsys):
    flags = [*FLAGS, "--trainer.enable_progress_bar", "false", "--model.lr_batch_size", "128"]
    flags += ["--trainer.default_root_dir", str(tmp_path), "--trainer.callbacks.min_lr", "1e-5"]
    # Of a run of fewer batches than the search takes.
    flags += ["--model.warmup_epochs", "0", "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "5"]
    searched = run("fit", [*flags, "--trainer.callbacks.max_lr", "1e-2"])
    out = capsys.readouterr().out
    heading, *rows = (tmp_path / "lr-finder.csv").read_text().splitlines()
    rates, losses = zip(*(map(float, row.split(",")) for row in rows), strict=True)
    assert (heading, len(rows)) == ("lr,train/loss", 16)
    assert all(math.isfinite(loss) for loss in losses)
    assert list(rates) == sorted(rates)
    # Batches of 64 have half of the rate that is meant for 128.
    assert rates[0] == pytest.approx(2e-5)
    said = float(out.partition("--model.lr ")[2].split()[0])
    assert min(abs(math.log(said / rate)) for rate in rates) < 0.05
    assert not (tmp_path / LAST).exists()
    assert not list(tmp_path.glob(".lr_find*"))
    assert searched.trainer.global_step == 0


def averages_of(losses, *, threshold=None):
    """What a search keeps of losses, a batch each, until it stops."""
    trainer = SimpleNamespace(fit_loop=SimpleNamespace(batch_idx=0, max_epochs=1), accumulate_grad_batches=1)
    trainer.should_stop, trainer.strategy = False, SimpleNamespace(broadcast=lambda value: value)
    with searching(trainer, shown=False):
        callback = lr_finder._LRCallback(len(losses), early_stop_threshold=threshold)
    for step, loss in enumerate(losses, start=1):
        trainer.global_step = step
        callback.on_train_batch_end(trainer, None, {"loss": torch.tensor(loss)}, None, 0)
        if trainer.should_stop:
            break
    return callback.losses


def test_the_rate_is_that_of_the_fall_and_not_of_the_smallest_noise():
    wobble = [2.3 + 0.03 * (-1) ** batch for batch in range(60)]
    losses = averages_of([*wobble, *(2.3 - 0.05 * batch for batch in range(20))])
    assert losses[0] == pytest.approx(2.33)
    assert losses[1] == pytest.approx(2.3, abs=1e-3)
    assert 70 <= _steepest(losses) < 80
    assert min(losses) == losses[-1]
    assert _steepest([*losses[:30], math.nan]) is not None
    assert _steepest(losses[:12]) is None
    assert _steepest([math.nan] * 40) is None


def test_a_search_averages_as_is_meant_and_stops_at_so_many_times_the_smallest():
    losses = [2.0, *(8.5 + batch for batch in range(20))]
    weights = [0.98**age for age in range(len(losses))]
    meant = [np.average(losses[: n + 1], weights=weights[n::-1]) for n in range(len(losses))]
    assert averages_of(losses) == pytest.approx(meant, rel=1e-5)
    kept = averages_of(losses, threshold=4)
    assert kept[-2] <= 4 * 2.0 < kept[-1]
    assert len(averages_of([2.0, *[3.9] * 60], threshold=2)) == 61


def test_a_search_leaves_lightning_as_it_was_and_has_no_bar_in_a_log(capsys):
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    own = lr_finder._LRCallback, lr_finder.tqdm
    with searching(trainer, shown=False):
        lr_finder.tqdm(total=2).update()
    assert (lr_finder._LRCallback, lr_finder.tqdm, trainer.max_epochs) == (*own, 1)
    assert capsys.readouterr().err == ""


def test_layers_with_rates_of_their_own_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="one rate for all layers"):
        run("fit", [*FLAGS, "--model.layer_decay", "0.8", "--trainer.default_root_dir", str(tmp_path)])


def test_a_teacher_is_refused_before_its_epochs_end_in_mid_search(tmp_path):
    with SoftLabelsWriter(tmp_path / "labels", {}, epochs=1, samples=1, top=1) as file:
        file.add(np.zeros((1, 2, 1), "uint16"))
        file.publish()
    flags = [*FLAGS, "--model.teacher", str(tmp_path / "labels"), "--trainer.default_root_dir", str(tmp_path / "run")]
    with pytest.raises(ConfigError, match=r"leave --model\.teacher out"):
        run("fit", flags)


def test_lightnings_own_is_refused_with_the_way_to_ours(tmp_path):
    with pytest.raises(ConfigError, match="extras/lr-finder says which"):
        run("fit", ["--config", "digits", "--trainer.callbacks", "LearningRateFinder"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_a_run_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="no wandb here: pip install wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    trained = run("fit", ["--config", "digits", "--config", "extras/wandb", *SHORT, "--trainer.max_epochs", "1"])
    wandb.finish()  # what is logged is written by another process
    [kept] = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert b"val/top1" in kept.read_bytes()
    assert (tmp_path / "runs" / "digits-wandb" / LAST).exists()
    assert torch.isfinite(trained.trainer.callback_metrics["val/loss"])
