"""Lightning's loops of training, for runs that stop and are resumed: a stop is a place to resume, whoever asks for it.

Theirs take a run that was stopped inside an epoch for one whose epoch is over, lose gradients that are still being
gathered, and save what callbacks have put into the model for validation only.
"""

import copy
import enum
from typing import Any, Protocol

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import RunningStage, TrainerFn

from ..errors import ConfigError
from . import lightning_internals as internals
from .held_checkpoint import EPOCH_END, VALIDATION, HeldCheckpoint, may_change
from .waiting import StuckLoader, Waiting


class Stop(Protocol):
    """What may ask a run to stop between two steps."""

    waiting: Waiting

    def is_asked(self, trainer: pl.Trainer) -> bool: ...

    def save_and_leave(self, trainer: pl.Trainer) -> None: ...

    def leave_stuck(self, trainer: pl.Trainer, *, saves: bool) -> None: ...

    def leave_without_batch(self, trainer: pl.Trainer, error: Exception, *, saves: bool) -> None: ...


class Place(enum.Enum):
    """Where in an epoch the run is, as far as a checkpoint has to know."""

    ELSEWHERE = enum.auto()
    IN_BATCH = enum.auto()
    BATCH_DONE = enum.auto()
    VALIDATING = enum.auto()
    VALIDATED = enum.auto()
    BETWEEN_BATCHES = enum.auto()


def install(trainer: pl.Trainer, stop: Stop) -> None:
    """Have a trainer that has not begun yet run these loops in place of Lightning's."""
    before = trainer.fit_loop
    fit_loop = FitLoop(trainer, before.min_epochs, before.max_epochs)
    epoch_loop = fit_loop.epoch_loop = EpochLoop(trainer, before.min_steps, before.max_steps)
    epoch_loop.val_loop = ValidationLoop(
        trainer, TrainerFn.FITTING, RunningStage.VALIDATING, verbose=False, inference_mode=False
    )
    fit_loop.held = epoch_loop.held = HeldCheckpoint(trainer)
    epoch_loop.stop = stop
    trainer.fit_loop = fit_loop


class FitLoop(internals.FitLoop):
    """Epochs, of which one that is cut short is no whole one."""

    held: HeldCheckpoint
    epoch_loop: "EpochLoop"

    def run(self) -> None:
        """Train; a run that has all its steps and still lacks its last validation has that alone."""
        self._leave_time_for_validation()  # of a limit that was found to be reached before training starts
        super().run()

    def on_run_start(self) -> None:
        super().on_run_start()
        self._leave_time_for_validation()
        if self._validation_is_due:
            internals.forget_last_validation(self.trainer)

    @property
    def _validation_is_due(self) -> bool:
        begun = self.epoch_loop.val_loop.batch_progress.current
        return self.restarting and begun.started > begun.processed

    def _leave_time_for_validation(self) -> None:
        if self._validation_is_due and self.trainer.should_stop:
            self.trainer.should_stop = False
            self.epoch_loop.only_validates = True

    def on_advance_start(self) -> None:
        super().on_advance_start()
        internals.take_length(self)

    def on_advance_end(self) -> None:
        if self.epoch_loop.is_whole or not (self.trainer.should_stop and internals.can_stop_early(self)):
            super().on_advance_end()
            self.epoch_loop.remember_end_of_epoch()
            return
        # What callbacks do at the end of an epoch they do now, but the run resumes from before that.
        if not self.held.is_held:
            self.held.hold(copied=may_change(self.trainer, EPOCH_END))
        super().on_advance_end()
        for count in (self.epoch_progress.total, self.epoch_progress.current):
            count.processed -= 1
            count.completed -= 1
        self.held.release()

    def state_dict(self, destination: dict[str, Any] | None = None, prefix: str = "") -> dict[str, Any]:
        last_step = self.epoch_loop.last_step if self.epoch_loop.is_inside_a_step else None
        return copy.deepcopy(last_step) or super().state_dict(destination, prefix)


class EpochLoop(internals.TrainingEpochLoop):
    """The batches of an epoch. Its state says where to resume, in one of three ways.

    With the next batch: the last one is processed and not yet completed, which is what Lightning saves when a batch
    ends. With the validation that belongs here: a validation batch is begun and not processed, and the training batch
    is completed. And with the next batch unless there is none to train, then with the last validation: both.
    """

    held: HeldCheckpoint
    stop: Stop
    only_validates = False
    """Whether nothing is left to train, and the validation of the last step is."""
    _place = Place.ELSEWHERE
    _is_of_the_course = True
    """Whether the validation is one that the run has also when it is not stopped here."""
    _stops_after_step = False
    last_step: dict[str, Any] | None = None
    """State of the loops after the last whole step, where a step takes several batches."""

    @property
    def is_whole(self) -> bool:
        """Whether the epoch's last batch has been trained on."""
        return internals.is_at_end_of_epoch(self)

    def reset(self) -> None:
        super().reset()
        resumes = self.restarting and self.batch_progress.current.ready > 0
        done, together = self.batch_progress.current.ready, self.trainer.accumulate_grad_batches
        if resumes and done % together:
            raise ConfigError(
                f"the checkpoint is {done} batches into an epoch, which are no whole steps of {together}: pass another "
                "--trainer.accumulate_grad_batches, or resume from the end of an epoch"
            )
        self._place = Place.BETWEEN_BATCHES if resumes else Place.ELSEWHERE
        if resumes or self.batch_progress.total.ready == 0:
            self.last_step = self._loops_state()

    def advance(self, data_fetcher: Any) -> None:
        if self.only_validates and self.restarting:
            self.only_validates = False
            self.trainer.should_stop = True  # there is a last validation then, and after it the end
            if self.restarted_on_train_batch_end:
                self._batches_that_stepped -= 1  # counted in `reset`, and after the validation
        place, ready, fetched = self._place, self.batch_progress.current.ready, data_fetcher.fetched
        try:
            super().advance(data_fetcher)
        except StuckLoader:
            self._place = place  # the hook after a fetch is called all the same
            self.stop.leave_stuck(self.trainer, saves=ready > 0)
        except StopIteration:
            raise
        except Exception as error:
            if data_fetcher.fetched > fetched:
                raise
            self._place = place
            self.stop.leave_without_batch(self.trainer, error, saves=ready > 0)

    def _on_after_fetch(self) -> None:
        super()._on_after_fetch()
        self._place = Place.IN_BATCH

    def on_advance_end(self, data_fetcher: Any) -> None:
        if self._place is Place.IN_BATCH:
            self._place = Place.BATCH_DONE
        self._stop_at_whole_steps()
        validates = internals.should_validate(self, data_fetcher) and not internals.skips_validation(self)
        self._is_of_the_course = not validates or self._is_due()
        ends_here = self._place is Place.BATCH_DONE and not validates and not self.is_whole
        if ends_here and not internals.gathers_gradients(self) and self.stop.is_asked(self.trainer):
            self.stop.save_and_leave(self.trainer)
        super().on_advance_end(data_fetcher)
        self._place = Place.BETWEEN_BATCHES
        if self.trainer.accumulate_grad_batches > 1 and not internals.gathers_gradients(self):
            self.last_step = self._loops_state()

    def remember_end_of_epoch(self) -> None:
        """Keep what a checkpoint of the epoch's end says, until the next one has its first step."""
        self._place = Place.ELSEWHERE
        self.last_step = self._loops_state()
        for count in self.last_step["epoch_progress"].values():
            count["completed"] -= 1  # as in the hooks of its end

    @property
    def is_inside_a_step(self) -> bool:
        """Whether gradients are being gathered, which no checkpoint holds."""
        counts = self.batch_progress.current
        if self._place is Place.IN_BATCH and counts.completed != counts.processed - 1:
            return False
        return self._place in (Place.IN_BATCH, Place.BATCH_DONE, Place.BETWEEN_BATCHES) and internals.gathers_gradients(
            self
        )

    def _stop_at_whole_steps(self) -> None:
        """Put a stop off while gradients are being gathered, which no checkpoint holds."""
        if internals.gathers_gradients(self):
            self._stops_after_step |= self.trainer.should_stop and internals.can_stop_early(self.trainer.fit_loop)
            self.trainer.should_stop = self.trainer.should_stop and not self._stops_after_step
        elif self._stops_after_step:
            self.trainer.should_stop, self._stops_after_step = True, False

    def _is_due(self) -> bool:
        """Return whether a validation belongs here, stop or no stop."""
        stops, self.trainer.should_stop = self.trainer.should_stop, False
        try:
            return internals.should_validate(self)
        finally:
            self.trainer.should_stop = stops

    def begin_validation(self) -> None:
        """Note that what comes now is evaluation, in which others may change the model."""
        self._place = Place.VALIDATING
        if may_change(self.trainer, VALIDATION):
            self.held.hold()

    def end_validation(self) -> None:
        """Note that whoever changed the model for validation has put it back."""
        if self._place is not Place.VALIDATING:
            return
        self._place = Place.VALIDATED
        if self._is_of_the_course:
            self.held.release()
        else:  # the run resumes from before it, as it would have without the stop
            self.held.go_on_after_validation(self._loops_state())

    def _loops_state(self) -> dict[str, Any]:
        return copy.deepcopy(self.trainer.fit_loop.state_dict())

    def state_dict(self, destination: dict[str, Any] | None = None, prefix: str = "") -> dict[str, Any]:
        state = super().state_dict(destination, prefix)
        batches, steps = state[f"{prefix}batch_progress"], state[f"{prefix}state_dict"]
        if self._place is Place.IN_BATCH and batches["current"]["completed"] == batches["current"]["processed"] - 1:
            if self._validates_next():
                _validate_first(state, prefix, instead_of_training=self._is_due())
        elif self._place in (Place.BATCH_DONE, Place.VALIDATING):
            if self._place is Place.VALIDATING or self._validates_next():
                _validate_first(state, prefix, instead_of_training=self._is_of_the_course)
            else:
                _train_next(state, prefix)
        elif self._place is Place.VALIDATED and not self._is_of_the_course:
            _train_next(state, prefix)
        elif self._place is Place.BETWEEN_BATCHES and not self.is_whole:
            _train_next(state, prefix)
            steps["_batches_that_stepped"] -= 1
        return state

    def _validates_next(self) -> bool:
        return internals.should_validate(self)


class ValidationLoop(internals.EvaluationLoop):
    """Validation that leaves what is saved meanwhile as it was before."""

    def run(self) -> list[Any]:
        if self.trainer.sanity_checking:
            return super().run()
        epoch_loop = self.trainer.fit_loop.epoch_loop
        epoch_loop.begin_validation()
        try:
            outputs = super().run()
        except StuckLoader:
            epoch_loop.stop.leave_stuck(self.trainer, saves=True)
        except Exception as error:
            if self.batch_progress.current.ready > self.batch_progress.current.completed:
                raise
            epoch_loop.stop.leave_without_batch(self.trainer, error, saves=True)
        epoch_loop.end_validation()
        return outputs


def _validate_first(state: dict[str, Any], prefix: str, *, instead_of_training: bool) -> None:
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    marked = {"total": begun, "current": dict(begun), "is_last_batch": False}
    state[f"{prefix}val_loop.batch_progress"] = marked
    for count in _counts(state, prefix):
        count["completed"] = count["processed"] - (not instead_of_training)


def _train_next(state: dict[str, Any], prefix: str) -> None:
    for count in _counts(state, prefix):
        count["completed"] = count["processed"] - 1


def _counts(state: dict[str, Any], prefix: str) -> list[dict[str, int]]:
    batches = state[f"{prefix}batch_progress"]
    return [batches["total"], batches["current"]]
