"""What a run has left to do, counted by hand, and the time of it by a clock that is set by hand."""

import lightning.pytorch as pl
import pytest

from poolformer.run.time_left import TimeLeft, rest_of


class Module(pl.LightningModule):
    def validation_step(self, batch, batch_idx): ...


def trainer_at(epoch: int, batch: int, *, batches: int = 10, step: int = 0, **options) -> pl.Trainer:
    """A trainer in an epoch, counted from 0, of which so many batches are trained."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pl.Trainer(**quiet, **{"max_epochs": 5, **options})
    trainer.strategy.connect(Module())
    loop = trainer.fit_loop
    loop.epoch_loop.val_loop._data_source.instance = [0]
    loop.max_batches, loop.epoch_progress.current.completed = batches, epoch
    loop.epoch_loop.batch_progress.current.processed = batch
    loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step
    share = options.get("val_check_interval", 1.0)
    trainer.val_check_batch = batches if share == 1 else int(batches * share)
    return trainer


@pytest.mark.parametrize(
    ("place", "options", "max_steps", "rest"),
    [
        ((0, 0), {}, -1, (50, 5, 5, 5)),
        ((1, 10), {}, -1, (30, 3, 3, 5)),  # at the end of an epoch, whose own validation is over
        ((4, 4), {}, -1, (6, 1, 1, 5)),
        ((4, 10), {}, -1, (0, 0, 0, 5)),
        ((3, 3), {"val_check_interval": 0.25}, -1, (17, 9, 2, 5)),  # after 4, 6, 8, 10 batches, then 2 to 10
        ((0, 10), {"check_val_every_n_epoch": 2}, -1, (40, 2, 4, 5)),
        ((0, 10), {"limit_val_batches": 0}, -1, (40, 0, 4, 5)),
        ((0, 10), {"step": 10}, 25, (15, 2, 2, 3)),  # cut short, with a last validation
        ((0, 10), {"step": 5, "accumulate_grad_batches": 2}, 8, (6, 1, 1, 2)),
        ((0, 10), {"step": 10}, 10, (0, 0, 0, 1)),
        ((1, 10), {"check_val_every_n_epoch": None, "val_check_interval": 15, "max_epochs": 4}, -1, (20, 1, 2, 4)),
    ],
)
def test_the_rest_of_a_run_is_counted_to_its_limits(place, options, max_steps, rest):
    trainer = trainer_at(*place, **options)
    if "val_check_interval" in options and options["val_check_interval"] > 1:
        trainer.val_check_batch = options["val_check_interval"]
    assert rest_of(trainer, max_steps) == rest


def test_nothing_is_known_of_an_epoch_without_an_end():
    assert rest_of(trainer_at(0, 5, batches=float("inf"))) is None


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_rest_takes_as_long_as_the_last_epochs_did_without_the_first_batch():
    clock = Clock()
    left = TimeLeft(clock=clock)
    left.begin_epoch()
    for batch in range(10):  # the first takes a minute, the others 2 s
        left.count_batch(8 * (batch + 1), 60 + 2 * batch)
    clock.now += 78
    left.begin_validation()
    clock.now += 5
    left.end_validation()
    assert left.seconds(trainer_at(0, 10)) == pytest.approx(40 * 2 + 4 * 5)
    assert left.images_per_s == pytest.approx(4)
    clock.now += 3  # checkpoints
    left.begin_epoch()
    assert left.seconds(trainer_at(1, 0)) == pytest.approx(40 * 2 + 4 * 5 + 4 * 3)


def test_a_limit_of_time_ends_a_run_before_its_last_epoch():
    trainer = trainer_at(0, 5, max_time={"seconds": 90})
    left = TimeLeft()
    assert left.seconds(trainer) == pytest.approx(90)
    for batch in range(5):
        left.count_batch(batch + 1, 10.0 * batch)
    assert left.seconds(trainer) == pytest.approx(90)
    assert left.seconds(trainer_at(4, 9)) == pytest.approx(10)
