"""metrics.csv: a row an epoch, the same for a run that was stopped and resumed."""

import csv
import warnings
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger
from runs import QUICK

from poolformer.cli.training import run
from poolformer.run.metrics_table import NAME, MetricsTable

DIGITS = ["--config", "digits"]


def fit(run_dir, *options):
    return run("fit", [*QUICK, *DIGITS, "--trainer.default_root_dir", str(run_dir), *options])


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


class Logs(Callback):
    """Logs at the end of a validation and at that of an epoch."""

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("f1", 0.5 + trainer.current_epoch)

    def on_train_epoch_end(self, trainer, pl_module):
        pl_module.log("mine", 1.0 + trainer.current_epoch)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_row_has_what_others_log_at_the_end_of_the_epoch_and_of_validation_only_what_is_its_own(tmp_path):
    table, kept = MetricsTable(), ModelCheckpoint(dirpath=tmp_path)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    few = {"max_epochs": 3, "limit_train_batches": 1, "limit_val_batches": 1, "check_val_every_n_epoch": 2}
    trainer = pl.Trainer(callbacks=[table, Logs(), kept], default_root_dir=tmp_path, **few, **quiet)
    trainer.fit(BoringModel())
    assert trainer.callbacks[-2:] == [table, kept]
    assert [(row["f1"], row["mine"]) for row in rows(tmp_path)] == [("", "1.0"), ("1.5", "2.0"), ("", "3.0")]


def test_a_table_that_cannot_be_written_ends_nothing(tmp_path):
    table = MetricsTable()
    table._rows = [{"epoch": 0}]
    with pytest.warns(UserWarning, match="cannot be written"):
        table._write(tmp_path / "missing" / NAME)


def test_a_table_and_a_summary_of_somebody_else_stay_and_are_warned_of_once(tmp_path, recwarn):
    for name in (NAME, "summary.json"):
        (tmp_path / name).write_text("mine")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        fit(tmp_path, "--trainer.max_epochs", "2", "--model.warmup_epochs", "0")
    told = [str(each.message) for each in recwarn if "stays: this run writes none" in str(each.message)]
    assert sorted(text.split("' is not")[0].rpartition("/")[2] for text in told) == [NAME, "summary.json"]
    assert {(tmp_path / name).read_text() for name in (NAME, "summary.json")} == {"mine"}


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:Experiment logs directory")
@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_csv_logger_has_its_own_file_in_the_directory_and_does_no_harm_elsewhere(tmp_path, where):
    place = tmp_path if where == "here" else tmp_path / "other"
    logger = CSVLogger(place, name="", version="", flush_logs_every_n_steps=2)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    few = {"max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 0, "log_every_n_steps": 1}
    trainer = pl.Trainer(callbacks=[MetricsTable(), Logs()], logger=logger, default_root_dir=tmp_path, **few, **quiet)
    trainer.fit(BoringModel())
    logged = (place / NAME).read_text()
    assert "mine" in logged
    assert (tmp_path / NAME).read_text().startswith("epoch,step,lr,mine") == (where == "elsewhere")


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_table_of_epochs_without_metrics_is_still_the_run_s_and_metrics_of_several_values_stay_out(tmp_path):
    class Vector(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            trainer.callback_metrics["by_class"] = torch.zeros(3)

    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    few = {"max_epochs": 2, "limit_train_batches": 1, "limit_val_batches": 0, "enable_checkpointing": False}
    for _ in range(2):
        trainer = pl.Trainer(callbacks=[Vector(), MetricsTable()], default_root_dir=tmp_path, **few, **quiet)
        trainer.fit(BoringModel())
        assert [(row["epoch"], len(row)) for row in rows(tmp_path)] == [("0", 3), ("1", 3)]


def test_checkpoints_stay_behind_the_table_wherever_others_stand(tmp_path):
    table, kept = MetricsTable(), ModelCheckpoint(dirpath=tmp_path)
    trainer = SimpleNamespace(callbacks=[table, kept, Logs()])
    table.setup(trainer, None, "fit")
    assert [type(each) for each in trainer.callbacks] == [Logs, MetricsTable, ModelCheckpoint]


@pytest.mark.slow
def test_a_run_has_one_table_also_where_its_options_name_it(tmp_path):
    fit(tmp_path, "--config", "extras/csv", "--trainer.max_epochs", "1", "--model.warmup_epochs", "0")
    assert len(rows(tmp_path)) == 1


@pytest.mark.slow
def test_a_run_that_stopped_within_an_epoch_has_one_row_of_it(tmp_path):
    fit(tmp_path, "--trainer.max_steps", "6")
    assert [row["step"] for row in rows(tmp_path)] == ["4", "6"]
    fit(tmp_path, "--ckpt_path", "last", "--trainer.max_steps", "-1")
    assert [row["step"] for row in rows(tmp_path)] == ["4", "8", "12"]


@pytest.mark.slow
def test_another_run_moves_the_table_away_with_its_run(tmp_path):
    fit(tmp_path, "--trainer.max_epochs", "1", "--model.warmup_epochs", "0")
    before = rows(tmp_path)
    fit(tmp_path, "--trainer.max_epochs", "2")
    assert rows(tmp_path / "previous" / "1") == before
    assert len(rows(tmp_path)) == 2
