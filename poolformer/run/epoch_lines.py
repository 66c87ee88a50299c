"""A line an epoch: what came of it, how fast it went, and how long the rest of the run takes."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, ProgressBar

from ..data.pace import Pace
from .callbacks import Throughput
from .directory import HEADLINE, BestCheckpoint
from .lightning_internals import current_batch_idx, is_at_end_of_epoch, validated
from .time_left import TimeLeft, rest_of

FIRST_S = 30.0
"""Until the first line inside an epoch: whether it runs, and how long it will."""
EVERY_S = 180.0
"""Between two lines inside an epoch."""
_LOSS = "train/loss"
_SHARES = ("top1", "top5")  # metrics whose names end so are shown in per cent


class EpochLines(Callback):
    """Prints a line on stdout at the end of each epoch, at each validation inside one, and every three minutes.

    It has what the progress bar shows, so also what callbacks of the user's log with ``prog_bar=True``: of training the
    last step's, as in TensorBoard, and of validation only what this epoch had. With a bar the lines stand above it.

    Args:
        throughput: Counts images and the time of their steps; it has to be called first.
        max_steps: Steps at which the run ends; -1 for no such limit.
        clock: Seconds, as of `time.monotonic`.
    """

    def __init__(self, throughput: Throughput, max_steps: int = -1, clock: Callable[[], float] = time.monotonic):
        self._throughput, self._clock = throughput, clock
        self._time_left = TimeLeft(max_steps, clock)
        self._pace = Pace(first_s=FIRST_S, every_s=EVERY_S, clock=clock)
        self._validated: dict[str, float] = {}  # in this epoch
        self._of_validation: set[str] = set()
        self._best: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._time_left.begin_epoch()  # a run that is resumed inside an epoch does not start one
        self._pace = Pace(first_s=FIRST_S, every_s=EVERY_S, clock=self._clock)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._time_left.begin_epoch()
        self._validated = {}

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._time_left.count_batch(self._throughput.images, self._throughput.steps_s)
        # Asked by rank 0 alone: what is shown here is known already, and no rank waits for another.
        # After one batch, which waited for the loader and compiled, the rate would be that of nothing to come.
        is_due = trainer.is_global_zero and self._time_left.is_measured and self._pace.is_due()
        if is_due and not is_at_end_of_epoch(trainer.fit_loop.epoch_loop):
            self._say(trainer, {_LOSS: trainer.callback_metrics.get(_LOSS), **trainer.progress_bar_metrics})

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._time_left.begin_validation()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._time_left.end_validation()
        self._validated = validated(trainer, "pbar")
        self._of_validation |= self._validated.keys()
        if (top1 := self._validated.get(HEADLINE)) is not None:
            self._best = max([top1, *([] if self._best is None else [self._best])])
        if not is_at_end_of_epoch(trainer.fit_loop.epoch_loop) and not trainer.should_stop:
            self._say_all(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._say_all(trainer)

    def _say_all(self, trainer: pl.Trainer) -> None:
        """Say what is known where all ranks come by, which may have to bring their values together."""
        bar, last = trainer.progress_bar_metrics, trainer.callback_metrics
        values = {name: last.get(name, value) for name, value in {_LOSS: last.get(_LOSS), **bar}.items()}
        if trainer.is_global_zero:
            self._say(trainer, values)

    def _say(self, trainer: pl.Trainer, values: Mapping[str, Any]) -> None:
        trained = {name: value for name, value in values.items() if name not in self._of_validation}
        words = [
            self._place(trainer),
            *_shown(trained, best=None),
            *_shown(self._validated, best=self._best_of(trainer)),
            *_lr(trainer),
        ]
        if rate := self._time_left.images_per_s:
            words.append(f"{rate:,.0f} img/s")
        if (left := self._time_left.seconds(trainer)) is not None:
            words.append(f"{clock_time(left)} left")
        print_line(trainer, "  ".join(words))
        self._pace = Pace(first_s=EVERY_S, every_s=EVERY_S, clock=self._clock)

    def _place(self, trainer: pl.Trainer) -> str:
        """Say which epoch of how many this is, and how much of it is trained."""
        rest = rest_of(trainer, self._time_left.max_steps)
        epoch, last = trainer.current_epoch + 1, rest.last_epoch if rest else trainer.max_epochs
        of_all = f"epoch {epoch:>{len(str(last))}}/{last}"
        done, batches = current_batch_idx(trainer), trainer.num_training_batches
        if done == batches or is_at_end_of_epoch(trainer.fit_loop.epoch_loop):
            return of_all
        return f"{of_all}  {f'batch {done:,}' if batches == float('inf') else f'{100 * done / batches:.0f} %'}"

    def _best_of(self, trainer: pl.Trainer) -> float | None:
        """Return the best accuracy of the run, restarts included, as far as its checkpoints know it."""
        kept = [each for each in trainer.checkpoint_callbacks if isinstance(each, BestCheckpoint)]
        scores = [float(each.best_model_score) for each in kept if each.best_model_score is not None]
        return max([*scores, *([] if self._best is None else [self._best])], default=None)


def _shown(values: Mapping[str, Any], *, best: float | None) -> Iterable[str]:
    for name, value in values.items():
        try:
            number = float(value)
        except (TypeError, ValueError):  # of somebody's own: no number, or several
            continue
        text = f"{name} {_number(name, number)}"
        yield f"{text} (best {_number(name, best)})" if name == HEADLINE and best is not None else text


def _number(name: str, value: float) -> str:
    return f"{100 * value:.1f}" if name.endswith(_SHARES) and 0 <= value <= 1 else f"{value:#.3g}".rstrip(".")


def _lr(trainer: pl.Trainer) -> Iterable[str]:
    for optimizer in trainer.optimizers[:1]:
        mantissa, exponent = f"{float(optimizer.param_groups[0]['lr']):.1e}".split("e")
        yield f"lr {mantissa}e{int(exponent)}"


def clock_time(seconds: float) -> str:
    """Return a time as clocks show it: ``1:12`` of minutes, ``3:05:00`` of hours, ``2 d 3:05:00`` of days."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if not hours:
        return f"{minute}:{second:02}"
    return f"{f'{days} d ' if days else ''}{hour}:{minute:02}:{second:02}"


def has_shown_bar(trainer: pl.Trainer) -> bool:
    """Return whether a progress bar is drawn."""
    bar = trainer.progress_bar_callback
    return bar is not None and not getattr(bar, "is_disabled", False)


def print_line(trainer: pl.Trainer, line: str) -> None:
    """Print a line, above the progress bar where there is one."""
    bar = trainer.progress_bar_callback
    if bar is not None and has_shown_bar(trainer):
        bar.print(line)
    else:
        print(line)
    sys.stdout.flush()  # a log file is to have it now


def has_bar(options: Mapping[str, Any]) -> bool | None:
    """Return whether a trainer is to have a progress bar: that of a terminal is nothing for a log file.

    None where it has one of the user's own, or may have none.

    Args:
        options: Of the trainer; what they say holds.
    """
    given, callbacks = options["enable_progress_bar"], options["callbacks"] or []
    own = [
        each for each in (callbacks if isinstance(callbacks, list) else [callbacks]) if isinstance(each, ProgressBar)
    ]
    if own or options["barebones"]:
        return None
    if given is not None:
        return bool(given)
    return sys.stdout is not None and sys.stdout.isatty()
