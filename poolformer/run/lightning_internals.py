"""Lightning's private names that this package uses; those of its command line are in ``cli/lightning_internals.py``.

An upgrade that changes one fails in `tests/run/test_lightning_internals.py`, by name.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import OnExceptionCheckpoint, RichProgressBar, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.tuner import lr_finder
from lightning.pytorch.tuner.lr_finder import _LRCallback
from torch.nn.parallel import DistributedDataParallel

from ..data.order import Order

EvaluationLoop = _EvaluationLoop
FitLoop = _FitLoop
TrainingEpochLoop = _TrainingEpochLoop


def checkpoint_connector(trainer: pl.Trainer) -> Any:
    """Return what makes a trainer's checkpoints, by ``dump_checkpoint(weights_only)``."""
    return trainer._checkpoint_connector


def begin_as_told(trainer: pl.Trainer) -> None:
    """Have a training that is given no checkpoint begin from none.

    Beside an `OnExceptionCheckpoint` Lightning has it begin from the last that lies there, of the run before. What it
    does in a job that SLURM requeues for it stays.
    """
    if any(isinstance(callback, OnExceptionCheckpoint) for callback in trainer.callbacks):
        connector = checkpoint_connector(trainer)
        connector._parse_ckpt_path = partial(_as_given, connector)


def _as_given(connector: Any, state_fn: Any, ckpt_path: Any, **options: bool) -> Any:
    if ckpt_path is None and connector._hpc_resume_path is None:
        return None
    return type(connector)._parse_ckpt_path(connector, state_fn, ckpt_path, **options)


def is_compiled(module: torch.nn.Module) -> bool:
    """Return whether a module runs through torch.compile; the name is PyTorch's, and private there."""
    return module._compiled_call_impl is not None


def trainer_of(module: pl.LightningModule) -> pl.Trainer | None:
    """Return a module's trainer; None where it has none, of which the public name makes an error."""
    return module._trainer


def averages_of(trainer: pl.Trainer) -> pl.LightningModule | None:
    """Return the module that holds averaged weights, None where none are: while a validation runs, it holds the others.

    Lightning validates the averages, and gives training its own weights back at the end of the validation.
    """
    found = [each._average_model for each in trainer.callbacks if isinstance(each, WeightAveraging)]
    module: Any = found[0].module if found and found[0] is not None else None
    return module


def move_averages(trainer: pl.Trainer, device: torch.device) -> None:
    """Move averaged weights to a device, unless the callback that has them was given another one.

    Lightning 2.6 makes them in `setup`, before the strategy moves the model: they would stay on the CPU, and every step
    would copy all weights over the bus, while the GPU waits.
    """
    for each in trainer.callbacks:
        if isinstance(each, WeightAveraging) and each._average_model is not None and each._device is None:
            each._average_model.to(device)
            module: Any = each._average_model.module
            module.to(device)  # what its `device` says


def current_batch_idx(trainer: pl.Trainer) -> int:
    """Return the number in its epoch of the batch that is prepared or trained on.

    While it is prepared, ``fit_loop.batch_idx`` is that of the batch before.
    """
    processed: int = trainer.fit_loop.epoch_loop.batch_progress.current.processed
    return processed


def take_length(fit_loop: _FitLoop) -> None:
    """Have an epoch end where its loader does, whose length is another in an epoch that is resumed by other batches."""
    trainer, combined, fetcher = fit_loop.trainer, fit_loop._combined_loader, fit_loop._data_fetcher
    limit = trainer.limit_train_batches
    loaders = [loader for loader in combined.flattened if isinstance(loader, Order)] if combined is not None else []
    for loader in loaders:
        loader.follow(trainer)
    if combined is None or fetcher is None or trainer.overfit_batches > 0 or trainer.fast_dev_run:
        return
    batches = [len(loader) for loader in loaders]
    lengths = [min(limit, each) if isinstance(limit, int) else int(limit * each) for each in batches]
    if len(combined.flattened) != 1 or lengths in ([], [fit_loop.max_batches]):
        return
    combined.limits, fit_loop.max_batches = list(lengths), lengths[0]
    if isinstance(trainer.val_check_interval, float) and trainer.val_check_batch is not None:
        trainer.val_check_batch = max(1, int(lengths[0] * trainer.val_check_interval))
    if loaders[0].begins_another_epoch and fit_loop.restarting:
        _end_epoch(fit_loop.epoch_loop)
    iter(fetcher)


def _end_epoch(epoch_loop: _TrainingEpochLoop) -> None:
    """Have the batches that were restored be those of an epoch that has ended, however many this one has."""
    done = epoch_loop.batch_progress.current
    unfinished = done.processed - done.completed
    done.ready = done.started = done.processed = int(epoch_loop.trainer.num_training_batches)
    done.completed = done.processed - unfinished


def forget_last_validation(trainer: pl.Trainer) -> None:
    """Have a validation that is due at intervals of time be due now."""
    if trainer._val_check_time_interval is not None:
        trainer._last_val_time = float("-inf")


def val_check_time_s(trainer: pl.Trainer) -> float | None:
    """Return after how many seconds there is a validation; None where they are counted in batches."""
    return trainer._val_check_time_interval


def validated(trainer: pl.Trainer, kind: Literal["callback", "pbar"]) -> dict[str, Any]:
    """Return what the validation that ends now has logged, all or for the progress bar; all ranks have to ask."""
    results = trainer._results
    return dict(results.metrics(on_step=False)[kind]) if results else {}


class _Averages(_LRCallback):
    """What a search for a rate keeps, and stops by: averages of losses, each by the weights of those that it has.

    Lightning 2.6 divides by the weights of one loss more: the first average is half of the first loss, for any network
    the smallest; all rise from there, and twice the first loss counts as four times the smallest.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept, self.beta = self.beta, 0.0  # Lightning is given averages, and takes them as they are

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if outputs:
            share = (1 - self._kept) / (1 - self._kept ** (len(self.losses) + 1))
            outputs = {"loss": self.avg_loss + share * (outputs["loss"].float() - self.avg_loss)}
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


@contextmanager
def searching(trainer: pl.Trainer, *, shown: bool) -> Iterator[None]:
    """Have Lightning's search for a rate take all its batches in a run of few epochs, too; with its bar or without."""
    epochs, bar, callback = trainer.fit_loop.max_epochs, lr_finder.tqdm, lr_finder._LRCallback
    trainer.fit_loop.max_epochs, lr_finder.tqdm = -1, partial(bar, disable=not shown)
    lr_finder._LRCallback = _Averages  # type: ignore[misc]
    try:
        yield
    finally:
        trainer.fit_loop.max_epochs, lr_finder.tqdm, lr_finder._LRCallback = epochs, bar, callback  # type: ignore[misc]


class Bar(RichProgressBar):
    """Lightning's progress bar, which counts epochs from 1 as all else that is printed."""

    def _get_train_description(self, current_epoch: int) -> str:
        text, last = super()._get_train_description(current_epoch + 1), self.trainer.max_epochs
        return text if last is None else text.replace(f"/{last - 1}", f"/{last}")


def can_stop_early(fit_loop: _FitLoop) -> bool:
    """Return whether ``should_stop`` holds: the least numbers of epochs and steps are reached."""
    return fit_loop._can_stop_early


def is_at_end_of_epoch(epoch_loop: _TrainingEpochLoop) -> bool:
    """Return whether the epoch's last batch has been trained on."""
    return epoch_loop._num_ready_batches_reached()


def gathers_gradients(epoch_loop: _TrainingEpochLoop) -> bool:
    """Return whether the step is still to come for which this batch's gradients are gathered."""
    return epoch_loop._should_accumulate()


def should_validate(epoch_loop: _TrainingEpochLoop, data_fetcher: Any = None) -> bool:
    """Return whether a validation belongs behind this batch.

    Args:
        epoch_loop: The loop over batches.
        data_fetcher: What the loop's hooks are given; None for that of the trainer.
    """
    fetcher = data_fetcher or epoch_loop.trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return epoch_loop._should_check_val_fx(fetcher)


def skips_validation(epoch_loop: _TrainingEpochLoop) -> bool:
    """Return whether the validation that belongs here was had before the run was stopped."""
    return epoch_loop._skip_next_val


def is_logging_point(trainer: pl.Trainer) -> bool:
    """Return whether this step of training is written to the log: every ``log_every_n_steps``, and the last one."""
    if gathers_gradients(trainer.fit_loop.epoch_loop):
        return False
    return trainer._logger_connector.should_update_logs or bool(trainer.fast_dev_run)


def logging_step(trainer: pl.Trainer) -> int:
    """Return the step at which a validation's points are written to the log."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def forget_logged(trainer: pl.Trainer, hook: str, names: Iterable[str]) -> None:
    """Have values that a hook of training logged not be looked at again before it logs them again.

    Not by ``reset``, which copies numbers to the device.
    """
    results = trainer.fit_loop.epoch_loop._results
    for name in names:
        if (logged := results.get(f"{hook}.{name}")) is not None:
            logged.has_reset = True


def leave_out_sigterm_broadcast(epoch_loop: _TrainingEpochLoop) -> None:
    """Have a loop not ask before each batch whether Lightning's handler of SIGTERM, which is replaced, was called.

    It can still be sent to a process that is spawned.
    """
    epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]


def _nothing() -> None:
    pass


def leave_buffers_alone(strategy: DDPStrategy) -> None:
    """Have a strategy not send the first process's buffers to the others before each step, unless it was told to."""
    known = inspect.signature(DistributedDataParallel).parameters
    option = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # before torch 2.15
    if "broadcast_buffers" not in strategy._ddp_kwargs:
        strategy._ddp_kwargs.setdefault(option, False)


def find_unused(strategy: DDPStrategy) -> bool:
    """Have DDP look for parameters without a gradient at each step; return False where it was asked to already."""
    if strategy._ddp_kwargs.get("find_unused_parameters"):
        return False
    strategy._ddp_kwargs["find_unused_parameters"] = True
    return True


def synchronises_batch_norms(strategy: DDPStrategy) -> bool:
    """Return whether ``--trainer.sync_batchnorm`` is on."""
    return strategy._layer_sync is not None


def around_fetches(loop: Any, begin: Callable[..., None], end: Callable[..., None]) -> None:
    """Have a loop call functions in place of its hooks around the fetch of a batch.

    Args:
        loop: Of training or evaluation.
        begin: Called with the hook in whose place it is, and the loop.
        end: Likewise, after the fetch.
    """
    kind = type(loop)
    loop._on_before_fetch = partial(begin, kind._on_before_fetch, loop)
    loop._on_after_fetch = partial(end, kind._on_after_fetch, loop)


def reopen(logger: TensorBoardLogger) -> None:
    """Have a logger of TensorBoard open another file, which replaces nothing of the one before."""
    logger._experiment = None
    logger._kwargs.pop("purge_step", None)
