"""metrics.csv: a row an epoch, the same for a run that was stopped and resumed."""

import csv
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from runs import QUICK

from poolformer.cli.training import run
from poolformer.run.metrics_table import NAME, MetricsTable

EXTRA = ["--config", "digits", "--config", "extras/csv"]


def fit(run_dir, *options):
    return run("fit", [*QUICK, *EXTRA, "--trainer.default_root_dir", str(run_dir), *options])


def rows(run_dir):
    with (run_dir / NAME).open(newline="") as file:
        found = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if "throughput" not in name} for row in found]


@pytest.mark.slow
def test_each_epoch_is_a_row_and_a_resumed_run_has_those_before_it(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(whole, "--trainer.check_val_every_n_epoch", "2", "--model.mixup", "0", "--model.cutmix", "0")
    table = rows(whole)
    assert [(row["epoch"], row["step"]) for row in table] == [("0", "4"), ("1", "8"), ("2", "12")]
    assert [bool(row["val/top1"]) for row in table] == [False, True, False]
    assert all(float(row["train/loss"]) > 0 for row in table)
    assert float(table[0]["lr"]) == pytest.approx(1e-6)
    fit(parts)
    before = rows(parts)
    (parts / NAME).unlink()
    fit(parts, "--trainer.max_epochs", "4", "--ckpt_path", "last")
    assert rows(parts)[:3] == before
    assert len(rows(parts)) == 4


def test_a_row_has_what_others_log_at_the_end_of_the_epoch_and_of_validation_only_what_is_its_own(tmp_path):
    table, other, kept = MetricsTable(), Callback(), ModelCheckpoint(dirpath=tmp_path)
    trainer = pl.Trainer(callbacks=[table, other, kept], logger=False, default_root_dir=tmp_path, accelerator="cpu")
    table.setup(trainer, None, "fit")
    assert trainer.callbacks[-2:] == [table, kept]
    trainer = SimpleNamespace(current_epoch=0, global_step=1, sanity_checking=False, default_root_dir=tmp_path)
    trainer._results = SimpleNamespace(metrics=lambda on_step: {"callback": {"f1": 0.5}})
    trainer.callback_metrics = {"f1": 0.5, "mine": 1.0}
    table.on_validation_end(trainer, None)
    table.on_train_epoch_end(trainer, None)
    table.on_train_epoch_end(trainer, None)  # an epoch that is not validated
    assert [(row["f1"], row["mine"]) for row in rows(tmp_path)] == [("0.5", "1.0"), ("", "1.0")]


def test_a_table_that_cannot_be_written_ends_nothing(tmp_path):
    (tmp_path / NAME).mkdir()
    table = MetricsTable()
    table._rows = [{"epoch": 0}]
    with pytest.warns(UserWarning, match="cannot be written"):
        table._write(tmp_path / NAME)


@pytest.mark.slow
def test_another_run_moves_the_table_away_with_its_run(tmp_path):
    fit(tmp_path, "--trainer.max_epochs", "1", "--model.warmup_epochs", "0")
    before = rows(tmp_path)
    fit(tmp_path, "--trainer.max_epochs", "2")
    assert rows(tmp_path / "previous" / "1") == before
    assert len(rows(tmp_path)) == 2
