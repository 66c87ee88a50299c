"""How long the rest of a run takes: what is left to train and to validate, at the pace of its last epochs."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Timer

from .lightning_internals import current_batch_idx, val_check_time_s


class Rest(NamedTuple):
    """What a run still has to do.

    Attributes:
        batches: Of training.
        validations: Without those that come after an interval of time.
        epochs: Ends of epochs.
        last_epoch: Number of the last epoch, from 1; of the first one that has no end, the trainer's own limit.
    """

    batches: int
    validations: int
    epochs: int
    last_epoch: int


class Trained(NamedTuple):
    """What has been trained: batches and images, and the seconds that their steps took."""

    batches: int = 0
    images: int = 0
    steps_s: float = 0.0

    def since(self, other: "Trained") -> "Trained":
        """Return what has been trained since another moment."""
        batches, images = self.batches - other.batches, self.images - other.images
        return Trained(batches, images, self.steps_s - other.steps_s)


class TimeLeft:
    """Measures the batches, validations and ends of epochs of a run, and says how long its rest takes.

    The first batch is left out of the pace where there are others: it waits for the loader, and compiles.

    Args:
        max_steps: Steps at which the run ends; -1 for no such limit.
        clock: Seconds, as of `time.monotonic`.
    """

    def __init__(self, max_steps: int = -1, clock: Callable[[], float] = time.monotonic):
        self.max_steps, self._clock = max_steps, clock
        self._now = self._first = Trained()
        self._starts: deque[Trained] = deque([self._now], maxlen=2)  # of the last epoch and of this one
        self._epoch_start: float | None = None
        self._validation_start = self._validations_s = 0.0
        self.validation_s, self.epoch_end_s = 0.0, 0.0

    def begin_epoch(self) -> None:
        """Note that an epoch begins, and how long the one before it took beside training and validation."""
        now = self._clock()
        if self._epoch_start is not None:
            trained_s = self._now.since(self._starts[-1]).steps_s
            self.epoch_end_s = max(0.0, now - self._epoch_start - trained_s - self._validations_s)
        self._starts.append(self._now)
        self._epoch_start, self._validations_s = now, 0.0

    def count_batch(self, images: int, steps_s: float) -> None:
        """Note that a batch is trained.

        Args:
            images: Of all batches so far.
            steps_s: Seconds that their steps took.
        """
        self._now = Trained(self._now.batches + 1, images, steps_s)
        if self._now.batches == 1:
            self._first = self._now

    def begin_validation(self) -> None:
        """Note that a validation begins."""
        self._validation_start = self._clock()

    def end_validation(self) -> None:
        """Note that it has ended."""
        self.validation_s = self._clock() - self._validation_start
        self._validations_s += self.validation_s

    def _since(self, start: Trained) -> Trained:
        return self._now.since(self._first if start.batches == 0 and self._now.batches > 1 else start)

    @property
    def is_measured(self) -> bool:
        """Whether there is a batch beside the first to go by."""
        return self._now.batches > 1

    @property
    def images_per_s(self) -> float | None:
        """Training images of all devices a second in this epoch; None before the first."""
        trained = self._since(self._starts[-1])
        return trained.images / trained.steps_s if trained.steps_s > 0 else None

    def seconds(self, trainer: pl.Trainer) -> float | None:
        """Return how long the rest of the run takes; None where that is not known."""
        timers = [each for each in _callbacks(trainer) if isinstance(each, Timer)]
        limits = [left for timer in timers if (left := timer.time_remaining()) is not None]
        rest, trained = rest_of(trainer, self.max_steps), self._since(self._starts[0])
        if rest is not None and trained.batches:
            training_s = rest.batches * trained.steps_s / trained.batches
            every_s = val_check_time_s(trainer)
            validations = training_s / every_s if every_s else rest.validations
            limits.append(training_s + validations * self.validation_s + rest.epochs * self.epoch_end_s)
        return max(0.0, min(limits)) if limits else None


def _callbacks(trainer: Any) -> list[Any]:  # its attributes are declared nowhere
    return list(trainer.callbacks)


def rest_of(trainer: pl.Trainer, max_steps: int = -1) -> Rest | None:
    """Return what a run still has to do, None where nobody can know.

    Args:
        trainer: In an epoch, or at its end.
        max_steps: Steps at which the run ends; -1 for no such limit.
    """
    a_epoch, done, epoch = trainer.num_training_batches, current_batch_idx(trainer), trainer.current_epoch
    together = trainer.accumulate_grad_batches
    a_step = a_epoch / math.ceil(a_epoch / together) if 0 < a_epoch < math.inf else together
    by_steps = (max_steps - trainer.global_step) * a_step if max_steps >= 0 else math.inf
    by_epochs = math.inf if trainer.max_epochs in (None, -1) else (trainer.max_epochs - epoch) * a_epoch - done
    if not a_epoch or min(by_steps, by_epochs) == math.inf:
        return None
    left = max(0, round(min(by_steps, by_epochs)))
    if a_epoch == math.inf:
        return Rest(left, 0, 0, trainer.max_epochs or 0)
    validations, rest, last, ends = 0, left, epoch, 0
    while rest > 0:
        batches = int(min(rest, a_epoch - done))
        is_cut_short = by_steps < by_epochs and batches == rest
        validations += _validations(trainer, epoch, done, done + batches, ends=is_cut_short)
        last, rest, epoch, done, ends = epoch, rest - batches, epoch + 1, 0, ends + (batches > 0)
    return Rest(left, validations, ends, last + 1)


def _validations(trainer: pl.Trainer, epoch: int, start: int, stop: int, *, ends: bool) -> int:
    """Return how many validations come between two batches of an epoch; there is one where steps end the run."""
    every, each = trainer.val_check_batch, trainer.check_val_every_n_epoch
    if not trainer.enable_validation or every is None or (each and (epoch + 1) % each):
        return 0
    if each is None:  # counted through all epochs
        start, stop = (int(epoch * trainer.num_training_batches) + batch for batch in (start, stop))
    else:
        every = min(every, trainer.num_training_batches)
    found = int(stop // every - start // every)
    return found + (ends and stop % every > 0)
