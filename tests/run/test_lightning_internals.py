"""Lightning's private names that this package uses: an upgrade that changes one fails here, by name."""

import ast
import contextlib
import inspect
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from jsonargparse import ArgumentParser
from jsonargparse._parameter_resolvers import get_signature_parameters
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint, RichProgressBar, WeightAveraging
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.prediction_loop import _PredictionLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.tuner import lr_finder

import poolformer
from poolformer.run.lightning_internals import begin_as_told

ROOT = Path(poolformer.__file__).parent
SIGNATURES = [
    (LightningCLI._parse_ckpt_path, ["self"]),
    (LightningCLI._add_instantiators, ["self"]),
    (LightningCLI._prepare_subcommand_kwargs, ["self", "subcommand"]),
    (LightningCLI._run_subcommand, ["self", "subcommand"]),
    (LightningCLI._set_seed, ["self"]),
    (LightningCLI._instantiate_trainer, ["self", "config", "callbacks"]),
    (LightningCLI._get, ["self", "config", "key", "default"]),
    (_FitLoop, ["trainer", "min_epochs", "max_epochs"]),
    (_TrainingEpochLoop, ["trainer", "min_steps", "max_steps"]),
    (_EvaluationLoop, ["trainer", "trainer_fn", "stage", "verbose", "inference_mode"]),
    (_TrainingEpochLoop.advance, ["self", "data_fetcher"]),
    (_TrainingEpochLoop.on_advance_end, ["self", "data_fetcher"]),
    (_TrainingEpochLoop._should_check_val_fx, ["self", "data_fetcher"]),
    (_TrainingEpochLoop._should_accumulate, ["self"]),
    (_TrainingEpochLoop._broadcast_sigterm_tensor, ["self"]),
    (_TrainingEpochLoop._num_ready_batches_reached, ["self"]),
    (_TrainingEpochLoop._on_before_fetch, ["self"]),
    (_TrainingEpochLoop._on_after_fetch, ["self"]),
    (_EvaluationLoop._on_before_fetch, ["self"]),
    (_EvaluationLoop._on_after_fetch, ["self"]),
    (RichProgressBar._get_train_description, ["self", "current_epoch"]),
    (_CheckpointConnector.dump_checkpoint, ["self", "weights_only"]),
    (_CheckpointConnector._parse_ckpt_path, ["self", "state_fn", "ckpt_path", "model_provided", "model_connected"]),
    (
        lr_finder._LRCallback,
        ["num_training", "early_stop_threshold", "progress_bar_refresh_rate", "beta"],
    ),
    (lr_finder._LRCallback.on_train_batch_end, ["self", "trainer", "pl_module", "outputs", "batch", "batch_idx"]),
    (ModelCheckpoint._update_best_and_save, ["self", "current", "trainer", "monitor_candidates"]),
]


@pytest.mark.parametrize(("function", "parameters"), SIGNATURES, ids=lambda each: getattr(each, "__qualname__", ""))
def test_a_private_function_is_called_as_it_is_defined(function, parameters):
    assert [*inspect.signature(function).parameters] == parameters


OVERRIDDEN = [
    (_FitLoop, ("run", "on_run_start", "on_advance_start", "on_advance_end", "state_dict")),
    (
        _TrainingEpochLoop,
        ("reset", "advance", "on_advance_end", "state_dict", "restarted_on_train_batch_end", "update_restart_stage"),
    ),
    (_EvaluationLoop, ("run",)),
    (_PredictionLoop, ("run", "_on_before_fetch", "_on_after_fetch")),
]


@pytest.mark.parametrize(("loop", "names"), OVERRIDDEN)
def test_loops_have_what_is_overridden(loop, names):
    assert [name for name in names if not hasattr(loop, name)] == []


def test_private_attributes_are_there(tmp_path):
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False, accelerator="cpu")
    assert trainer._checkpoint_connector.trainer is trainer
    assert trainer._checkpoint_connector._hpc_resume_path is None
    assert trainer._val_check_time_interval is None
    assert "trainer._last_val_time" in inspect.getsource(_TrainingEpochLoop._should_check_val_fx)
    loop = trainer.fit_loop
    assert isinstance(loop, _FitLoop)
    assert isinstance(loop.epoch_loop, _TrainingEpochLoop)
    assert isinstance(loop.epoch_loop.val_loop, _EvaluationLoop)
    assert isinstance(_FitLoop._can_stop_early, property)
    assert loop._data_fetcher is None
    assert loop.epoch_loop._skip_next_val is False
    assert loop.epoch_loop._batches_that_stepped == 0
    assert loop.epoch_loop._results == {}
    assert trainer._results is None
    metrics = loop.epoch_loop._results.metrics(on_step=False)
    assert (metrics["callback"], metrics["pbar"]) == ({}, {})
    assert isinstance(type(trainer._logger_connector).should_update_logs, property)
    assert DDPStrategy(static_graph=True)._ddp_kwargs == {"static_graph": True}
    assert DDPStrategy()._layer_sync is None
    assert pl.LightningModule()._trainer is None
    logger = TensorBoardLogger(tmp_path, purge_step=3)
    assert (logger._experiment, logger._kwargs) == (None, {"purge_step": 3})
    assert (WeightAveraging()._average_model, WeightAveraging()._device) == (None, None)
    search = lr_finder._LRCallback(1)
    assert (search.beta, search.avg_loss, search.losses) == (0.98, 0.0, [])
    # It is by these names of the module that a search makes its callback, and that its bar.
    assert "_LRCallback(" in inspect.getsource(lr_finder.__dict__["__lr_finder_reset_params"])
    assert "= tqdm(" in inspect.getsource(lr_finder._LRCallback.on_train_batch_start)
    checkpoint = ModelCheckpoint()
    assert checkpoint._last_global_step_saved == 0


@pytest.mark.slow
def test_private_names_of_lightning_are_used_in_two_files():
    """What is private there and not defined here can only be Lightning's."""
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False, accelerator="cpu")
    loops = [trainer.fit_loop, trainer.fit_loop.epoch_loop]
    owners = [LightningCLI, trainer, *loops, ModelCheckpoint(), WeightAveraging(), pl.LightningModule()]
    private = {name for owner in owners for name in dir(owner)} | {"_subcommand_parsers", "_instantiators", "_kwargs"}
    private = {name for name in private if name.startswith("_") and not name.startswith("__")}
    found = set()
    for file in ROOT.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        own |= {node.attr for node in nodes if isinstance(node.ctx, ast.Store)}
        if {node.attr for node in nodes} & private - own:
            found.add(file.relative_to(ROOT).as_posix())
    assert found == {"run/lightning_internals.py", "cli/lightning_internals.py"}


def test_a_training_that_is_given_no_checkpoint_begins_from_none(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"of the run before")
    callbacks = [OnExceptionCheckpoint(tmp_path), ModelCheckpoint(tmp_path, save_last=True)]
    trainer = pl.Trainer(callbacks=callbacks, logger=False, enable_model_summary=False, accelerator="cpu")

    trainer.state.fn = TrainerFn.FITTING

    def begins_from(given: str | None) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = {"model_provided": True, "model_connected": True}
            return trainer._checkpoint_connector._parse_ckpt_path(TrainerFn.FITTING, given, **model)

    assert Path(begins_from(None)).name == "last.ckpt"  # what Lightning does
    begin_as_told(trainer)
    assert begins_from(None) is None
    assert begins_from("a.ckpt") == "a.ckpt"


def test_what_is_used_of_jsonargparse_is_there():
    assert [*inspect.signature(get_signature_parameters).parameters][-1] == "logger"
    assert "NOT_ACCEPTED" in inspect.getsource(sys.modules[get_signature_parameters.__module__])
    parser = ArgumentParser()
    assert [name for name in ("_actions", "_instantiators", "_subcommands_action") if not hasattr(parser, name)] == []
    with pytest.raises(SystemExit), contextlib.redirect_stderr(io.StringIO()) as said:
        parser.parse_args(["--nothing", "1"])
    assert "unrecognized arguments: --nothing" in " ".join(said.getvalue().split()).lower()
