"""A stop is a place to resume: whatever stopped a run, and whatever others had done to the model then."""

import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from runs import EACH_DIGIT, LOGGED, QUICK, QUICK_STEPS, SignalAt, assert_same_run, assert_same_state, curves, last

pytestmark = [
    pytest.mark.filterwarnings("ignore:`_get_value` was deprecated"),
    # A run goes on here without what has ended it, which is said.
    pytest.mark.filterwarnings("ignore:the run is resumed with other options. callbacks"),
]


class HalvedForValidation(Callback):
    """Changes weights, rate and a buffer for validation, in a pair of hooks, and fails where there was no batch."""

    def __init__(self, begin: str, end: str):
        self.batches, self.validations = 0, 0
        setattr(self, begin, self._begin)
        setattr(self, end, self._end)

    # The class has to have them, for others to see that it does something in them.
    def on_validation_start(self, *_): ...

    def on_validation_epoch_start(self, *_): ...

    def on_validation_epoch_end(self, *_): ...

    def on_validation_end(self, *_): ...

    def _begin(self, trainer, pl_module):
        self.batches = 0
        self._scale(trainer, pl_module, 0.5)

    def _end(self, trainer, pl_module):
        assert self.batches or trainer.sanity_checking  # a stopped check has none, and nothing is saved of it
        self.validations += not trainer.sanity_checking
        self._scale(trainer, pl_module, 2)

    def _scale(self, trainer, pl_module, factor):
        with torch.no_grad():
            for parameter in pl_module.parameters():
                parameter.mul_(factor)  # exact both ways
        for group in trainer.optimizers[0].param_groups if trainer.optimizers else []:
            group["lr"] *= factor

    def on_validation_batch_end(self, *_):
        self.batches += 1

    def state_dict(self):
        return {"validations": self.validations}

    def load_state_dict(self, state):
        self.validations = state["validations"]


CHANGES = {
    "EMA": lambda: EMAWeightAveraging(decay=0.5),
    "start and end": lambda: HalvedForValidation("on_validation_start", "on_validation_end"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_stop_in_validation_saves_the_weights_of_training(fit, change):
    twice = ["--trainer.val_check_interval", 2, *LOGGED]
    assert fit("whole", *twice, base=QUICK, callbacks=[CHANGES[change]()]) == 0
    stops = [("sanity check", 0), ("validation", 2), ("validation", 4), ("validation", 10)]
    for number, (hook, step) in enumerate(stops):
        resumes = ["--ckpt_path", "last"] if number else []
        callbacks = [CHANGES[change](), SignalAt(hook, step)]
        assert fit("run", *twice, *resumes, base=QUICK, callbacks=callbacks) == 143
        assert last("run")["global_step"] == step
    assert fit("run", *twice, "--ckpt_path", "last", base=QUICK, callbacks=[CHANGES[change]()]) == 0
    assert_same_state("whole", "run")
    assert_same_run("whole", "run")
    states = [last(run)["callbacks"].get("HalvedForValidation") for run in ("whole", "run")]
    assert states[0] == states[1]


class FailIn(Callback):
    def __init__(self, hook: str, step: int):
        self.step = step
        setattr(self, hook, self._fail)

    def _fail(self, trainer, *_):
        if trainer.global_step == self.step and not trainer.sanity_checking:
            raise ValueError("failed")


@pytest.mark.slow
def test_what_is_saved_on_an_error_in_validation_is_what_was_before(fit, tmp_path):
    def callbacks(*more):
        saving = ModelCheckpoint(tmp_path / "kept", filename="error", save_on_exception=True, every_n_epochs=100)
        return [EMAWeightAveraging(decay=0.5), saving, *more]

    assert fit("whole", base=QUICK, callbacks=callbacks()) == 0
    with pytest.raises(ValueError, match="failed"):
        fit("run", base=QUICK, callbacks=callbacks(FailIn("on_validation_batch_end", 8)))
    error = tmp_path / "kept" / "error.ckpt"
    error.rename(tmp_path / "run/checkpoints/last.ckpt")
    assert fit("run", "--ckpt_path", "last", base=QUICK, callbacks=callbacks()) == 0
    assert_same_state("whole", "run")


@pytest.mark.slow
def test_more_steps_later_go_on_in_the_same_epoch(fit):
    options = ["--trainer.val_check_interval", 2]

    def ema():
        return [EMAWeightAveraging(decay=0.5, update_starting_at_epoch=0)]

    assert fit("whole", *options, base=QUICK, callbacks=ema()) == 0
    resumes: list[str] = []
    for steps in (3, 4, 6):
        assert fit("run", *options, *resumes, "--trainer.max_steps", steps, base=QUICK, callbacks=ema()) == 0
        assert last("run")["global_step"] == steps
        resumes = ["--ckpt_path", "last"]
    assert fit("run", *options, *resumes, base=QUICK, callbacks=ema()) == 0
    assert_same_state("whole", "run")
    assert last("run")["epoch"] == last("whole")["epoch"]
    points = curves("run")
    for tag, expected in curves("whole").items():
        missing = set(expected) - set(points[tag])
        assert not missing, tag
        assert (
            tag.startswith(("val/", "best/", "calibration/", "averages/", "epoch")) or points[tag] == expected
        )  # there is a validation at each stop


def said_at_the_end(capsys):
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("val/top1 ")]
    return line


@pytest.mark.slow
@pytest.mark.parametrize("step", [6, 2 * QUICK_STEPS])
def test_the_last_validation_happens_once_and_is_the_result(fit, step, capsys):
    steps = ["--trainer.max_steps", step]
    assert fit("whole", *steps, base=QUICK, callbacks=[EMAWeightAveraging(decay=0.5)]) == 0
    result = said_at_the_end(capsys)
    for resumes in ([], ["--ckpt_path", "last"]):
        callbacks = [EMAWeightAveraging(decay=0.5), SignalAt("validation", step)]
        assert fit("run", *steps, *resumes, base=QUICK, callbacks=callbacks) == 143
    capsys.readouterr()
    assert fit("run", *steps, "--ckpt_path", "last", base=QUICK, callbacks=[EMAWeightAveraging(decay=0.5)]) == 0
    assert said_at_the_end(capsys) == result
    assert_same_state("whole", "run")
    assert_same_run("whole", "run")
    count = len(curves("run")["val/top1"])
    assert fit("run", *steps, "--ckpt_path", "last", base=QUICK, callbacks=[EMAWeightAveraging(decay=0.5)]) == 0
    assert len(curves("run")["val/top1"]) == count
    assert f"{step} steps already: raise --trainer.max_steps" in capsys.readouterr().out
    assert_same_state("whole", "run")


class StopAt(Callback):
    """Asks Lightning to stop, after a batch."""

    def __init__(self, epoch: int, batch: int):
        self.place = epoch, batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop |= (trainer.current_epoch, batch_idx) == self.place


@pytest.mark.slow
def test_a_callback_that_stops_between_the_batches_of_a_step_loses_no_gradient(fit):
    gathers = ["--trainer.accumulate_grad_batches", 2]
    assert fit("whole", *gathers, base=QUICK) == 0
    assert fit("run", *gathers, base=QUICK, callbacks=[StopAt(1, 0)]) == 0
    assert last("run")["global_step"] == 3
    assert fit("run", *gathers, "--ckpt_path", "last", base=QUICK, callbacks=[StopAt(1, 2)]) == 0
    assert fit("run", *gathers, "--ckpt_path", "last", base=QUICK) == 0
    assert_same_state("whole", "run")


class Slow(Callback):
    def on_train_batch_start(self, *_):
        time.sleep(0.3)


@pytest.mark.slow
def test_a_limit_of_time_is_a_place_to_resume(fit, capsys):
    assert fit("whole", base=QUICK) == 0
    assert fit("run", "--trainer.max_time", "00:00:00:01", base=QUICK, callbacks=[Slow()]) == 0
    step = last("run")["global_step"]
    assert 0 < step < 3 * QUICK_STEPS
    assert fit("run", "--ckpt_path", "last", "--trainer.max_time", "00:00:00:01", base=QUICK) == 0
    assert "raise --trainer.max_time" in capsys.readouterr().out
    assert fit("run", "--ckpt_path", "last", base=QUICK) == 0
    assert_same_state("whole", "run")


@pytest.mark.slow
def test_early_stopping_in_mid_epoch_is_a_place_to_resume(fit):
    options = ["--trainer.val_check_interval", 2]
    assert fit("whole", *options, base=QUICK) == 0
    stopping = EarlyStopping("val/top1", mode="max", patience=1, min_delta=1)
    assert fit("run", *options, base=QUICK, callbacks=[stopping]) == 0
    assert 0 < last("run")["global_step"] < 3 * QUICK_STEPS
    assert fit("run", *options, "--ckpt_path", "last", base=QUICK) == 0
    assert_same_state("whole", "run")


class Seen(Callback):
    """Notes the samples of each training batch."""

    def __init__(self):
        self.samples: list[tuple[int, list[int]]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.samples.append((trainer.current_epoch, trainer.train_dataloader.batch_indices(batch_idx)))

    def of_epoch(self, epoch: int) -> list[int]:
        return [sample for when, samples in self.samples if when == epoch for sample in samples]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the run is resumed with other options. batch_size")
@pytest.mark.parametrize("batch_size", [pytest.param(64, marks=pytest.mark.exhaustive), 512])
def test_another_batch_size_in_mid_epoch_shows_each_image_once(fit, batch_size):
    before, after = Seen(), Seen()
    assert fit("run", base=EACH_DIGIT, callbacks=[before, SignalAt("training", 7)]) == 143  # 5 steps of 256 an epoch
    again = ["--ckpt_path", "last", "--data.batch_size", batch_size]
    assert fit("run", *again, base=EACH_DIGIT, callbacks=[after]) == 0
    together = before.of_epoch(1) + after.of_epoch(1)
    assert len(set(together)) == len(together) > 1437 - batch_size
    assert len(after.of_epoch(2)) == 1437 // batch_size * batch_size
    assert len(curves("run")["val/top1"]) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the run is resumed with other options. accumulate")
def test_steps_that_would_begin_in_their_middle_are_refused(fit, capsys):
    assert fit("run", callbacks=[SignalAt("training", 7)]) == 143
    assert fit("run", "--ckpt_path", "last", "--trainer.accumulate_grad_batches", "2") == 2
    assert "the checkpoint is 3 batches into an epoch, which are no whole steps of 2" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the run is resumed with other options")
def test_an_epoch_goes_on_in_batches_of_another_size_as_if_nothing_had_changed(fit):
    """All that is drawn included: a step has the same images, mixed, erased and dropped alike."""
    base = [*EACH_DIGIT, "--trainer.max_epochs", "2"]
    assert fit("whole", base=base) == 0
    assert fit("run", base=base, callbacks=[SignalAt("training", 6)]) == 143
    halves = ["--data.batch_size", 128, "--trainer.accumulate_grad_batches", 2]
    assert fit("run", *halves, "--ckpt_path", "last", base=base) == 0
    whole, run = curves("whole"), curves("run")
    for tag in ("train/loss", "val/loss"):
        assert dict(run[tag]) == pytest.approx(dict(whole[tag]), abs=1e-5), tag


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the run is resumed with other options. batch_size")
@pytest.mark.parametrize("batch_size", [pytest.param(64, marks=pytest.mark.exhaustive), 512])
def test_an_epoch_begins_whole_after_one_of_another_batch_size(fit, batch_size):
    """A checkpoint of an epoch's last batch, with no validation due, is of an epoch that is over."""
    base = [*EACH_DIGIT, "--trainer.check_val_every_n_epoch", "2"]
    keeps = ModelCheckpoint(every_n_train_steps=5, save_top_k=-1)
    after = Seen()
    assert fit("run", callbacks=[keeps, SignalAt("training", 7)], base=base) == 143
    (checkpoint,) = Path("run").rglob("*step=5.ckpt")
    again = ["--ckpt_path", str(checkpoint), "--data.batch_size", batch_size, "--trainer.default_root_dir", "again"]
    assert fit("again", *again[:-2], callbacks=[after], base=base) == 0
    assert len(after.of_epoch(1)) == len(after.of_epoch(2)) == 1437 // batch_size * batch_size
