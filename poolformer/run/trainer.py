"""The trainer of a verb: Lightning's, with what keeps a run in one directory and lets it end anywhere."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, LearningRateMonitor, RichProgressBar
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.plugins.environments import ClusterEnvironment
from lightning.pytorch.profilers import PassThroughProfiler

from ..checkpoint.writing import SafeCheckpointIO
from ..errors import ConfigError
from ..option_words import LogParts, WhenSavingFails
from . import callback_rules, directory, sharding
from .callbacks import Throughput
from .dry_save import DrySave
from .epoch_lines import EpochLines, has_bar
from .evaluated_data import EvaluatedData
from .evaluation_lines import EvaluationLines
from .event_log import SafeTensorBoardLogger
from .guards import DiskSpace, FiniteTraining
from .launch import Launch, cluster_environment, launched, launches_itself
from .lightning_internals import Bar, begin_as_told
from .log_parts import log_callbacks
from .metrics_table import MetricsTable
from .monitors import WatchedMetrics
from .other_weights import AveragesOnDevice
from .predictions import PredictionWriter
from .profiling import NoProfiler
from .resume import Resume
from .run_summary import RunSummary
from .same_run import SameRun
from .stopping import StopAfterSteps, StopOnSignal, WholeSteps
from .summary_file import EvaluationFile, SummaryFile


@dataclass(frozen=True)
class RunOptions:
    """What a verb is to do, as far as its trainer depends on it.

    Attributes:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        options: Of Lightning's trainer, as given; ``default_root_dir`` is the run's directory.
        resume: The checkpoint to start from; None without one.
        is_auto: Whether the directory is this run's own, with or without a checkpoint.
        top_k: Of `PredictionWriter`.
        out: Of `PredictionWriter`.
        sheet: Of `PredictionWriter`.
        save_config: Writes ``config.yaml`` to a path.
        save_every_n_steps: Steps after which ``last.ckpt`` is written inside an epoch too.
        if_saving_fails: What training does when a checkpoint or the log cannot be written.
        log_without: Parts of the log that are left out.
    """

    verb: str
    options: dict[str, Any]
    resume: Resume | None
    save_config: Callable[[Path], None]
    save_every_n_steps: int | None = None
    if_saving_fails: WhenSavingFails = "stop"
    is_auto: bool = False
    log_without: LogParts = None
    top_k: int | None = None
    out: str | None = None
    sheet: str | None = None

    @property
    def run_dir(self) -> Path:
        return Path(self.options["default_root_dir"])

    @property
    def keeps_a_run(self) -> bool:
        """Whether a directory is to hold what is trained."""
        return self.verb == "fit" and not self.options["fast_dev_run"] and not self.options["barebones"]

    @property
    def resumes_here(self) -> bool:
        """Whether the run in this very directory is resumed, or begun again before its first checkpoint."""
        return self.is_auto or (self.resume is not None and self.resume.same_run)

    @property
    def purge_step(self) -> int | None:
        """Step after which the curves in the directory are logged anew; None where they are another run's."""
        if self.resume is not None:
            return self.resume.purge_step
        return 0 if self.is_auto else None


def build(run: RunOptions, instantiate: Callable[[dict[str, Any], list[Callback]], pl.Trainer]) -> pl.Trainer:
    """Build the trainer of a verb.

    Args:
        run: What it is for.
        instantiate: Makes a trainer of its options and of callbacks beside those that the options name.

    Raises:
        ConfigError: A callback cannot keep what it promises, or there are more processes than cores.
    """
    options = dict(run.options)
    launch = None if launches_itself(options["plugins"]) else launched()
    if launch is not None:
        options |= launch.devices(options)
    callback_rules.check(options["callbacks"] or [])
    shown = has_bar(options)
    if shown is not None:
        options["enable_progress_bar"] = shown
    options["strategy"] = sharding.strategy_of(options)
    asked = options["precision"]
    options["precision"] = asked or default_precision(options["accelerator"])
    if options["logger"] in (None, True):
        options["logger"] = run.keeps_a_run and _tensorboard(run)
    if options["barebones"]:
        options |= {"logger": False, "log_every_n_steps": None}
    extra: list[Callback] = [
        EvaluatedData(),
        EvaluationLines(),
        *([PredictionWriter(run.top_k, run.out, run.sheet)] if run.verb == "predict" else []),
        *([EvaluationFile()] if run.verb in ("validate", "test") else []),
    ]
    options["plugins"] = plugins(options["plugins"], run.if_saving_fails if run.keeps_a_run else None, launch)
    if run.keeps_a_run:
        extra += callbacks_of_a_run(run, logs=bool(options["logger"]))
        if options["max_steps"] != -1:
            extra.insert(0, StopAfterSteps(options["max_steps"]))
            options["max_steps"] = -1
    else:
        extra.append(StopOnSignal())
    own = [id(each) for each in (*_in_list(options["callbacks"]), *extra)]
    trainer = instantiate(options, extra)
    begin_as_told(trainer)
    if shown:
        _have_bar_count_from_1(trainer, own)
    _tune(trainer)
    if trainer.strategy.root_device.type == "cuda":
        _use_tf32(asked)
    cores = os.cpu_count() or 1
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > max(8, 2 * cores):
        raise ConfigError(
            f"--trainer.devices {trainer.num_devices}: on a CPU each is a process, and there are {cores} cores"
        )
    next(each for each in extra if isinstance(each, StopOnSignal)).attach(trainer)
    return trainer


def callbacks_of_a_run(run: RunOptions, *, logs: bool) -> list[Callback]:
    """Return what guards, saves and describes a run, in the order in which it is called.

    Args:
        run: What the run is.
        logs: Whether it has a logger.
    """
    folder, saves = run.run_dir / "checkpoints", run.options["enable_checkpointing"] is not False
    keeper = directory.RunDirectory(
        run.run_dir,
        resumes=run.resumes_here,
        from_last=run.resume is not None and run.resume.from_last,
        save_config=run.save_config,
    )
    saving = [DiskSpace(folder, resumes=run.resumes_here), DrySave()] if saves else []
    same = [SameRun(run.resume.step if run.resume else None)] if run.is_auto else []
    extra: list[Callback] = [WatchedMetrics(), WholeSteps(), FiniteTraining(folder), *saving, *same, keeper]
    if saves:
        extra += directory.checkpoints(run.run_dir, run.save_every_n_steps)
    throughput = Throughput()
    extra += [throughput, EpochLines(throughput, run.options["max_steps"])]
    if not any(isinstance(each, MetricsTable) for each in _in_list(run.options["callbacks"])):
        extra.append(MetricsTable())
    extra += [AveragesOnDevice(), RunSummary(), SummaryFile(), StopOnSignal(folder / "last.ckpt" if saves else None)]
    return [*extra, *log_callbacks(run.log_without), LearningRateMonitor()] if logs else extra


def _tensorboard(run: RunOptions) -> SafeTensorBoardLogger:
    # Empty name and version: the events are in the run's directory itself. What was logged after the
    # checkpoint is logged again, so TensorBoard leaves it out.
    return SafeTensorBoardLogger(
        run.run_dir,
        if_saving_fails=run.if_saving_fails,
        name="",
        version="",
        default_hp_metric=False,
        purge_step=run.purge_step,
    )


def plugins(given: Any, if_saving_fails: WhenSavingFails | None, launch: Launch | None = None) -> list[Any]:
    """Return the trainer's plugins: those that are given, and ours where none of theirs does the same.

    Args:
        given: What the options name.
        if_saving_fails: What training does when a checkpoint cannot be written; None where nothing is saved.
        launch: The processes that a launcher has started.
    """
    found = _in_list(given)
    if if_saving_fails is not None and not any(isinstance(plugin, CheckpointIO) for plugin in found):
        found.append(SafeCheckpointIO(if_saving_fails))
    if not any(isinstance(plugin, ClusterEnvironment) for plugin in found):
        found.append(cluster_environment(launch))
    return found


def _in_list(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list) else [given] if given else []


def _have_bar_count_from_1(trainer: Any, own: list[int]) -> None:
    """Put ours in the place of the bar that Lightning has added; one of somebody's own stays."""
    trainer.callbacks[:] = [
        Bar() if type(each) is RichProgressBar and id(each) not in own else each for each in trainer.callbacks
    ]


def _tune(trainer: Any) -> None:  # its attributes are declared nowhere
    # Behind all that may end training with a step, of which there is a point too; Lightning adds a Timer by itself.
    # The lines come after what they are about, and a checkpoint after all.
    order = (Throughput, EpochLines, Checkpoint)
    trainer.callbacks.sort(
        key=lambda each: next((1 + place for place, kind in enumerate(order) if isinstance(each, kind)), 0)
    )
    if type(trainer.profiler) is PassThroughProfiler:
        trainer.profiler = NoProfiler()


def _use_tf32(precision: Any) -> None:
    """Have a GPU compute in TF32 what is left in fp32, unless that or more is what was asked for."""
    exact = precision is not None and str(precision).split("-")[0] in ("32", "64")
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact


def default_precision(accelerator: Any) -> str:
    """Return bf16 where the hardware has it; fp16 made PoolFormer diverge (sail-sg/poolformer#22)."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
