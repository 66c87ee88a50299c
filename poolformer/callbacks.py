"""What Lightning lacks for a run: throughput, the run's summary in TensorBoard, predictions as a file."""

import copy
import csv
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import BasePredictionWriter, Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from .checkpoint_io import existing_folder, has_saved, probe
from .complexity import Complexity, count
from .errors import ConfigError

HEADLINE = "val/top1"


def checkpoints(run_dir: Path, save_every_n_steps: int | None = None) -> list[ModelCheckpoint]:
    """Return the callbacks that keep ``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt`` of a run.

    Two of them: one alone writes ``last`` only in epochs that are among the best, so that a kill can
    cost everything since the last improvement.

    Args:
        run_dir: The run's directory.
        save_every_n_steps: Steps after which ``last`` is written inside an epoch, besides its end.
    """
    options = {
        "dirpath": run_dir / "checkpoints",  # wherever a logger of the user's writes
        "save_top_k": 1,
        "auto_insert_metric_name": False,
        "enable_version_counter": False,
    }
    best = BestCheckpoint(filename="best", monitor=HEADLINE, mode="max", **options)
    last = ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **options)
    if save_every_n_steps is None:
        return [best, last]
    return [best, last, StepCheckpoint(filename="last", every_n_train_steps=save_every_n_steps, **options)]


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, which does not take a checkpoint for the best that could not be written."""

    _KEPT = (
        "current_score",
        "best_k_models",
        "kth_best_model_path",
        "kth_value",
        "best_model_path",
        "best_model_score",
    )

    def _update_best_and_save(
        self, current: Tensor, trainer: pl.Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        before = {name: copy.copy(getattr(self, name)) for name in self._KEPT}
        super()._update_best_and_save(current, trainer, monitor_candidates)
        if not has_saved(trainer):
            vars(self).update(before)


class StepCheckpoint(ModelCheckpoint):
    """Lightning's, which does not save again at the first batch of a run that goes on.

    Where several batches make a step, that would be a checkpoint without the gradients gathered so far.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved = trainer.global_step


class RunDirectory(Callback):
    """Keeps one run in its directory: moves an earlier one to ``previous/<n>``, then saves ``config.yaml``.

    The directory is locked while the run lasts; the system lets go of it when the process ends, however it does.

    It waits until the first batch is due: data, model and checkpoint are loaded and fit, so that a start
    that fails changes nothing.

    Args:
        run_dir: The run's directory; what lies there now is the earlier run.
        goes_on: Whether this run continues the one that lies there.
        from_last: Whether it does so from ``last.ckpt``; otherwise that one is moved away too, and not overwritten.
        save_config: Writes the configuration to a path.

    Raises:
        ConfigError: Nothing can be written there, or another run is writing there now.
    """

    def __init__(self, run_dir: Path, *, goes_on: bool, from_last: bool = True, save_config: Callable[[Path], None]):
        self.run_dir, self.goes_on, self.from_last, self.save_config = run_dir, goes_on, from_last, save_config
        self._lock: int | None = None
        self.started = False
        self.earlier = [path for path in _children(run_dir) if path.name != "previous"]
        existing = existing_folder(run_dir)
        try:
            probe(existing)
        except OSError as error:
            raise ConfigError(
                f"the run cannot be written to '{run_dir}': '{existing}' is no folder to write in ({error.strerror})"
            ) from error

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        free = self._take() if trainer.is_global_zero else True
        if not trainer.strategy.broadcast(free):
            raise ConfigError(
                f"another run is writing to '{self.run_dir}': wait for it, stop it, or choose another "
                "--trainer.default_root_dir"
            )

    def _take(self) -> bool:
        if fcntl is None or self._lock is not None or not self.run_dir.is_dir():
            return True
        self._lock = os.open(self.run_dir, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
        return True

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = True
        held_a_run = any(path.name in ("checkpoints", "config.yaml") for path in self.earlier)
        if held_a_run and not self.goes_on:
            target = self._set_aside(self.earlier)
            rank_zero_info(f"'{self.run_dir}' held a run; it is now in '{target}'")
        last = self.run_dir / "checkpoints" / "last.ckpt"
        if self.goes_on and not self.from_last and last.is_file():
            target = self._set_aside([last])
            rank_zero_info(f"The run goes on from another checkpoint than last.ckpt, which is now in '{target}'")
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self._take()
        self.save_config(self.run_dir / "config.yaml")

    def _set_aside(self, paths: list[Path]) -> Path:
        previous = self.run_dir / "previous"
        taken = [int(path.name) for path in _children(previous) if path.name.isdigit()]
        target = previous / str(max(taken, default=0) + 1)
        for path in paths:
            place = target / path.relative_to(self.run_dir)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, place)
        return target

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a run whose directory was moved know its best epoch still, or the next one would replace it."""
        if self.goes_on:
            folder = str((self.run_dir / "checkpoints").resolve())
            for state in checkpoint["callbacks"].values():
                if "best_k_models" in state:
                    _move(state, folder)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Have the curves on the disk up to each checkpoint: they go on from there after a kill."""
        for logger in trainer.loggers:
            logger.save()

    @rank_zero_only
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove what the logger wrote for a run that did not start."""
        self._release()
        if self.started:
            return
        for path in _children(self.run_dir):
            if path not in self.earlier and path.name.startswith(("events.out.tfevents", "hparams.yaml")):
                path.unlink()
        if self.run_dir.is_dir() and not _children(self.run_dir):
            self.run_dir.rmdir()


def _move(state: dict[str, Any], folder: str) -> None:
    """Have the state of a `ModelCheckpoint` point into another folder."""

    def moved(path: str) -> str:
        return path and os.path.join(folder, os.path.basename(path))

    state["dirpath"] = folder
    state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
    for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
        state[name] = moved(state[name])


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


class Throughput(Callback):
    """Logs ``throughput/images_per_s``: training images of all devices a second, loading included.

    Taken over windows of ``log_every_n_steps`` batches inside an epoch; evaluation does not count.

    Attributes:
        images: Training images of the whole run, restarts included: checkpoints keep the count.
        steps_s: Seconds that their steps took, loading included.
    """

    def __init__(self) -> None:
        self.images, self.steps_s = 0, 0.0
        self._before_s = 0.0  # of training, before this start
        self._started_s: float | None = None
        self._ended_s: float | None = None

    @property
    def train_s(self) -> float:
        """Seconds of training, evaluation and checkpoints included, restarts added up."""
        if self._started_s is None:
            return self._before_s
        return self._before_s + (self._ended_s or time.perf_counter()) - self._started_s

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images, "steps_s": self.steps_s, "train_s": self.train_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images, self.steps_s = state_dict["images"], state_dict["steps_s"]
        self._before_s = state_dict["train_s"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started_s = time.perf_counter()
        self._restart()  # a run that goes on inside an epoch does not start one

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ended_s = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now_s, images = time.perf_counter(), len(batch[0]) * trainer.world_size
        self.images += images
        self.steps_s += now_s - self._last_s
        self._last_s = now_s
        self._batches += 1
        self._window += images
        pl_module.log("throughput/images_per_s", self._window / (now_s - self._window_s), batch_size=len(batch[0]))
        if self._batches >= trainer.log_every_n_steps:
            self._restart()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart()

    def _restart(self) -> None:
        self._batches, self._window = 0, 0
        self._window_s = self._last_s = time.perf_counter()


class RunSummary(Callback):
    """Says what is trained, in the log and in TensorBoard: size, cost, hyper-parameters."""

    @rank_zero_only
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Counting runs the network, here on one rank alone: it must not be sharded over several yet.
        self._complexity = count(pl_module.backbone, image_size=pl_module.hparams.image_size)

    @rank_zero_only
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        size, complexity = pl_module.hparams.image_size, self._complexity
        name = pl_module.hparams.backbone
        rank_zero_info(
            f"{name}: {complexity.parameters:,} parameters, {complexity.macs / 1e6:,.1f} M MACs at {size} x {size}"
        )
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                _write_text(logger, pl_module, complexity)
                _write_hyper_parameters(logger, {**pl_module.hparams, **getattr(trainer.datamodule, "hparams", {})})


def _write_text(logger: TensorBoardLogger, pl_module: pl.LightningModule, complexity: Complexity) -> None:
    hparams = pl_module.hparams
    facts = [
        ("backbone", hparams.backbone),
        ("mixer", str(hparams.mixer)),
        ("parameters", f"{complexity.parameters:,}"),
        ("MACs", f"{complexity.macs:,} at {hparams.image_size} x {hparams.image_size}"),
    ]
    layers = [
        (f"`{name}`", type(layer).__name__, f"{sum(parameter.numel() for parameter in layer.parameters()):,}")
        for name, layer in pl_module.backbone.named_modules()
        if name and name.count(".") < 4
    ]
    text = _table(("", ""), facts) + "\n\n" + _table(("layer", "type", "parameters"), layers)
    logger.experiment.add_text("model", text)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _write_hyper_parameters(logger: TensorBoardLogger, hyper_parameters: dict[str, Any]) -> None:
    # Not through the logger: it would also write a made-up first point into the curve of the metric.
    from torch.utils.tensorboard.summary import hparams

    plain = {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in hyper_parameters.items()
        if not name.startswith("_")
    }
    for summary in hparams(plain, {HEADLINE: 0.0}):
        logger.experiment.file_writer.add_summary(summary)


class PredictionWriter(BasePredictionWriter):
    """Writes ``predictions.csv`` in the run's directory: image, then the likeliest classes.

    It appears when it is complete; until then an earlier one stays. With several devices each writes a file of its
    own, with its rank in the name.

    Args:
        top_k: Classes an image, likeliest first.
    """

    def __init__(self, top_k: int = 5):
        super().__init__(write_interval="batch")
        self.top_k = top_k
        self._file: IO[str] | None = None

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rank = f"-{trainer.global_rank}" if trainer.world_size > 1 else ""
        self.path = Path(trainer.default_root_dir) / f"predictions{rank}.csv"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = self.path.with_name(f"{self.path.name}.partial")
        self._file = self._partial.open("w", newline="")
        self._rows = csv.writer(self._file)
        top_k = range(1, min(self.top_k, pl_module.hparams.num_classes) + 1)
        self._rows.writerow(["image", *(f"{column}_{k}" for k in top_k for column in ("class", "probability"))])

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        images = getattr(trainer.datamodule, "predict_names", None)
        if not batch_indices:  # Lightning knows them of PyTorch's own loader only
            batch_indices = trainer.predict_dataloaders.batch_indices(batch_idx)
        top = prediction.topk(min(self.top_k, prediction.shape[1]))
        for index, values, labels in zip(batch_indices, top.values.tolist(), top.indices.tolist(), strict=True):
            row = [images[index] if images else index]
            for value, label in zip(values, labels, strict=True):
                row += [pl_module.class_name(label), f"{value:.6f}"]
            self._rows.writerow(row)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._file.close()
        os.replace(self._partial, self.path)
        rank_zero_info(f"Predictions: {self.path}")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._file is not None:
            try:
                self._file.close()
            finally:
                self._partial.unlink(missing_ok=True)
