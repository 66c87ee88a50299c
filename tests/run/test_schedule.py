"""The recipe's learning rate for a trainer: its images a step, and its epochs."""

from types import SimpleNamespace

import pytest

from poolformer.errors import ConfigError
from poolformer.run.schedule import check_end, schedule_of

OPTIONS = SimpleNamespace(lr=1e-3, lr_batch_size=1024, warmup_epochs=5, cooldown_epochs=10, warmup_lr=1e-6, min_lr=1e-5)


def trainer(**changes) -> SimpleNamespace:
    data = SimpleNamespace(batch_size=256)
    return SimpleNamespace(
        **{"max_epochs": 310, "world_size": 2, "accumulate_grad_batches": 4, "datamodule": data} | changes
    )


def test_the_peak_is_scaled_by_the_images_of_a_step():
    schedule = schedule_of(trainer(), OPTIONS)
    assert schedule.peak_lr == pytest.approx(1e-3 * 256 * 2 * 4 / 1024)
    assert (schedule.epochs, schedule.warmup_epochs) == (300, 5)


def test_without_a_batch_size_the_rate_is_used_as_it_is():
    with pytest.warns(UserWarning, match="the data module has no batch_size, so lr=0.001 is used as it is"):
        assert schedule_of(trainer(datamodule=None), OPTIONS).peak_lr == 1e-3


def test_a_run_that_is_too_short_for_a_cosine_says_so():
    with pytest.warns(UserWarning, match="of 12 epochs, 5 are warm-up and 10 cool-down"):
        assert schedule_of(trainer(max_epochs=12), OPTIONS).epochs == 2


@pytest.mark.parametrize("epochs", [None, -1])
def test_a_run_without_an_end_is_refused(epochs):
    with pytest.raises(ConfigError, match=r"the cosine needs an end: set --trainer\.max_epochs"):
        check_end(trainer(max_epochs=epochs))
    check_end(trainer(max_epochs=1))
