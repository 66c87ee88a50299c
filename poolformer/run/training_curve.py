"""What the curves of training show: the values of a step, brought together at logging points alone."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from .lightning_internals import forget_logged, gathers_gradients, is_at_end_of_epoch, is_logging_point

_IN_BAR = ("train/loss",)
_HOOK = "on_train_batch_end"  # in which it is logged


class TrainingCurve(Callback):
    """Logs what the steps of training note, every ``log_every_n_steps`` steps.

    A point is the mean of its own step: over the step's batches and over all processes. It is no average of the steps
    since the point before, so that it does not depend on where a run was stopped. Between two points no step waits for
    the device, and no process for another; ``callback_metrics`` then have the last batch of this process.
    """

    def __init__(self) -> None:
        self._noted: list[dict[str, Tensor]] = []
        self._logged: tuple[str, ...] = ()

    def note_step(
        self, trainer: pl.Trainer | None, batch_idx: int, loss: Tensor, predicted: tuple[Tensor, Tensor] | None
    ) -> None:
        """Keep the loss of a batch and, of images with one class each, the top-1.

        Args:
            trainer: Of the run; None where a step is called without one, which has no curve.
            batch_idx: Number of the batch in its epoch.
            loss: Of the batch.
            predicted: Logits (B, K) with targets (B, K); None where images are mixed.
        """
        if trainer is None:
            return
        values = {"train/loss": loss.detach()}
        if predicted is not None:
            logits, targets = predicted
            values["train/top1"] = (logits.argmax(1) == targets.argmax(1)).float().mean()
        self.note(trainer, batch_idx, values)

    def note(self, trainer: pl.Trainer, batch_idx: int, values: dict[str, Tensor]) -> None:
        """Keep the values of a batch, on their device, until its step is whole.

        Args:
            trainer: Of the run.
            batch_idx: Number of the batch in its epoch.
            values: Of one number each, by tag.
        """
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._noted.clear()
        self._noted.append(values)
        trainer.callback_metrics.update(values)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._logged:  # of which Lightning would bring the number to the host at each following batch
            forget_logged(trainer, _HOOK, self._logged)
            self._logged = ()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        epoch_loop = trainer.fit_loop.epoch_loop
        if not self._noted or gathers_gradients(epoch_loop):
            return
        if is_logging_point(trainer):
            means = self._means(trainer)
            for name, value in means.items():
                pl_module.log(name, value, prog_bar=name in _IN_BAR)
            self._logged = tuple(means)
        elif is_at_end_of_epoch(epoch_loop):  # for callbacks that watch it
            trainer.callback_metrics.update(self._means(trainer))

    def _means(self, trainer: pl.Trainer) -> dict[str, Tensor]:
        batches = [torch.stack([_in_full(value) for value in values.values()]) for values in self._noted]
        means = torch.stack(batches).mean(0)
        if trainer.world_size > 1:
            means = trainer.strategy.reduce(means, reduce_op="mean")
        return dict(zip(self._noted[0], means.unbind(), strict=True))


def _in_full(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))
