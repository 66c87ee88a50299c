"""The trainer is assembled in the open: which callbacks, loggers and plugins a verb gets, and which it does not."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO

from poolformer.checkpoint.writing import SafeCheckpointIO
from poolformer.errors import ConfigError
from poolformer.run.directory import RunDirectory
from poolformer.run.event_log import SafeTensorBoardLogger
from poolformer.run.predictions import PredictionWriter
from poolformer.run.stopping import StopAfterSteps, StopOnSignal
from poolformer.run.trainer import RunOptions, build, callbacks_of_a_run, plugins

DEFAULTS = {
    "accelerator": "cpu",
    "strategy": "auto",
    "devices": 1,
    "callbacks": None,
    "logger": None,
    "precision": None,
    "plugins": None,
    "max_epochs": 1,
    "max_steps": -1,
    "fast_dev_run": False,
    "barebones": False,
    "enable_checkpointing": None,
    "enable_model_summary": False,
    "enable_progress_bar": False,
}


def plan_of(run_dir: Path, verb: str = "fit", **options: Any) -> RunOptions:
    options = {**DEFAULTS, "default_root_dir": str(run_dir), **options}
    return RunOptions(verb, options, resume=None, save_config=lambda path: None)


def instantiate(options: dict[str, Any], callbacks: list[pl.Callback]) -> pl.Trainer:
    return pl.Trainer(**{**options, "callbacks": [*(options["callbacks"] or []), *callbacks]})


def kinds(trainer: pl.Trainer) -> set[type]:
    return {type(callback) for callback in trainer.callbacks}


def test_a_run_has_a_directory_two_checkpoints_and_a_log(tmp_path):
    trainer = build(plan_of(tmp_path / "run"), instantiate)
    assert kinds(trainer) >= {RunDirectory, StopOnSignal, LearningRateMonitor}
    assert sorted(each.filename for each in trainer.callbacks if isinstance(each, ModelCheckpoint)) == ["best", "last"]
    assert [type(logger) for logger in trainer.loggers] == [SafeTensorBoardLogger]
    assert isinstance(trainer.strategy.checkpoint_io, SafeCheckpointIO)
    assert trainer.precision == "32-true"


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluation_keeps_no_run_and_stops_on_signals(tmp_path, verb):
    trainer = build(plan_of(tmp_path / "run", verb), instantiate)
    assert RunDirectory not in kinds(trainer)
    assert StopOnSignal in kinds(trainer)
    assert (PredictionWriter in kinds(trainer)) == (verb == "predict")
    assert trainer.loggers == []


def test_steps_are_counted_from_the_first_by_a_callback(tmp_path):
    trainer = build(plan_of(tmp_path / "run", max_steps=7), instantiate)
    assert StopAfterSteps in kinds(trainer)
    assert trainer.max_steps == -1


def test_a_run_may_keep_no_checkpoints(tmp_path):
    plan = plan_of(tmp_path / "run", enable_checkpointing=False)
    found = callbacks_of_a_run(plan, logs=False)
    assert not [each for each in found if isinstance(each, ModelCheckpoint | LearningRateMonitor)]


def test_a_checkpoint_io_of_the_user_stays_the_only_one():
    assert [type(each) for each in plugins(TorchCheckpointIO(), "stop")] == [TorchCheckpointIO, LightningEnvironment]
    assert [type(each) for each in plugins([], "stop")] == [SafeCheckpointIO, LightningEnvironment]
    assert [type(each) for each in plugins(SLURMEnvironment(), None)] == [SLURMEnvironment]


def test_more_processes_than_cores_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--trainer\.devices 999: on a CPU each is a process"):
        build(plan_of(tmp_path / "run", devices=999), instantiate)
