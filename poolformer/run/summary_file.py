"""What came of a run, as a file: ``summary.json`` of a training, ``validate-1.json`` and the like of an evaluation."""

import json
import math
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from ..errors import describe
from ..files.atomic_write import atomic_write
from ..files.shell import quoted
from ..files.shown import shown
from .callbacks import Throughput
from .directory import BestCheckpoint
from .files import is_taken
from .hyper_parameters import hyper_parameters
from .metrics import numbers
from .run_summary import RunSummary
from .surroundings import data_facts, made_by

NAME = "summary.json"
_STOPPED = (KeyboardInterrupt, SystemExit)


class SummaryFile(Callback):
    """Writes ``summary.json`` in the run's directory when a training ends, by itself, by a signal or by an error.

    It has how the run ended, its numbers, the best checkpoint, what was built, the data, and what it was made by. While
    a run is trained there is none. A file that cannot be written is warned of, and ends nothing.
    """

    def __init__(self) -> None:
        self._begun: datetime | None = None

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        path = Path(trainer.default_root_dir) / NAME
        if is_taken(path):
            rank_zero_warn(f"'{path}' is not a run's summary, and stays: this run writes none")
            return
        self._begun = datetime.now(timezone.utc)
        try:
            path.unlink(missing_ok=True)  # what a resumed run had come to
        except OSError as error:
            rank_zero_warn(f"'{path}' cannot be removed ({describe(error)})")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer, pl_module, "finished")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._write(trainer, pl_module, "stopped" if isinstance(exception, _STOPPED) else "failed")

    @rank_zero_only
    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule, ended: str) -> None:
        if self._begun is None:  # no batch was due: the directory may hold another run
            return
        content = {
            "verb": "fit",
            "status": ended,
            "started": self._begun.isoformat(timespec="seconds"),
            "ended": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            **_pace(trainer),
            "best": _best(trainer),
            "metrics": numbers(trainer.callback_metrics),
            **_size(trainer),
            "hyper_parameters": hyper_parameters(trainer, pl_module),
            **_facts(trainer, pl_module),
        }
        self._begun = None
        path = Path(trainer.default_root_dir) / NAME
        try:
            with atomic_write(path, "w", encoding="utf-8") as file:
                file.write(as_json(content))
        except OSError as error:
            rank_zero_warn(f"'{path}' cannot be written ({describe(error)})")


class EvaluationFile(Callback):
    """Writes what `validate` or `test` has measured as ``validate-1.json``, beside those of earlier evaluations.

    Under the next number that is free: an evaluation of other data, or with other options, replaces nothing.
    """

    def __init__(self) -> None:
        self._begun_s = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._begun_s = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "validate":
            self._write(trainer, pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer, pl_module)

    @rank_zero_only
    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        verb = str(trainer.state.fn.value if trainer.state.fn else "")
        if trainer.fast_dev_run or not trainer.callback_metrics:
            return
        content = {
            "verb": verb,
            "ended": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._begun_s, 1),
            "checkpoint": trainer.ckpt_path and str(trainer.ckpt_path),
            "metrics": numbers(trainer.callback_metrics),
            **_size(trainer),
            **_facts(trainer, pl_module),
        }
        folder = Path(trainer.default_root_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = _write_new(folder, verb, as_json(content))
        except OSError as error:
            rank_zero_warn(f"what {verb} has measured cannot be written to '{folder}' ({describe(error)})")
            return
        rank_zero_info(f"Measured: {quoted(path)}")


def _write_new(folder: Path, verb: str, text: str) -> Path:
    number = 1
    while True:
        path = folder / f"{verb}-{number}.json"
        try:
            with path.open("x", encoding="utf-8") as file:  # two evaluations at once take two numbers
                file.write(text)
            return path
        except FileExistsError:
            number += 1


def as_json(content: Mapping[str, Any]) -> str:
    """Return JSON for people: indented; what is no number, such as a diverged loss, is null."""
    return shown(json.dumps(_plain(content), indent=2, ensure_ascii=False)) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)


def _pace(trainer: pl.Trainer) -> dict[str, Any]:
    throughput = next((each for each in trainer.callbacks if isinstance(each, Throughput)), None)
    if throughput is None:
        return {}
    rate = throughput.images / throughput.steps_s if throughput.steps_s else None
    return {
        "train_s": round(throughput.train_s, 1),
        "images": throughput.images,
        "images_per_s": rate and round(rate, 1),
    }


def _best(trainer: pl.Trainer) -> dict[str, Any] | None:
    kept = next((each for each in trainer.checkpoint_callbacks if isinstance(each, BestCheckpoint)), None)
    if kept is None or kept.best_model_score is None:
        return None
    path, folder = Path(kept.best_model_path), Path(trainer.default_root_dir).resolve()
    inside = path.relative_to(folder) if path.is_relative_to(folder) else path  # the directory may be moved
    return {str(kept.monitor): float(kept.best_model_score), "checkpoint": str(inside)}


def _size(trainer: pl.Trainer) -> dict[str, Any]:
    summary = next((each for each in trainer.callbacks if isinstance(each, RunSummary)), None)
    complexity = summary.complexity if summary else None
    return {"parameters": complexity.parameters, "macs": complexity.macs} if complexity else {}


def _facts(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
    names = getattr(pl_module, "class_names", None)
    return {"data": data_facts(trainer, class_names=names), "made_by": made_by(trainer)}
