"""A callback that watches what nobody logs is found out when training starts."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import Callback, EarlyStopping

from poolformer.errors import ConfigError
from poolformer.run.monitors import WatchedMetrics


class Logs(Callback):
    def on_train_batch_end(self, *_): ...


def start(*callbacks: Callback, validates: bool = True, mixes: bool = False) -> None:
    trainer = SimpleNamespace(callbacks=callbacks, callback_metrics={}, enable_validation=validates)
    WatchedMetrics().on_train_start(trainer, SimpleNamespace(augment=SimpleNamespace(mixes=mixes)))


@pytest.mark.parametrize("name", ["val/top1", "val/loss", "train/loss", "train/top1"])
def test_what_a_run_logs_can_be_watched(name):
    start(EarlyStopping(name))


@pytest.mark.parametrize(
    ("name", "said", "options"),
    [
        ("val/top2", "EarlyStopping watches 'val/top2', a metric that nobody logs. Did you mean 'val/top", {}),
        ("val/top1", "a metric that nobody logs", {"validates": False}),
        ("train/top1", "a metric that nobody logs", {"mixes": True}),
    ],
)
def test_what_nobody_logs_is_a_line(name, said, options):
    with pytest.raises(ConfigError) as caught:
        start(EarlyStopping(name), **options)
    assert said in str(caught.value)


def test_where_somebody_else_may_log_it_is_a_warning():
    with pytest.warns(UserWarning, match="EarlyStopping watches 'own', which is not known yet"):
        start(EarlyStopping("own"), Logs())


def test_a_callback_that_does_without_is_left_alone():
    start(EarlyStopping("own", strict=False))
