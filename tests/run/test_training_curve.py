"""What the curves of training show, in TensorBoard, to callbacks and in the progress bar."""

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback, EarlyStopping
from runs import curves

from poolformer.classifier import ImageClassifier
from poolformer.data import DigitsData
from poolformer.run.event_log import SafeTensorBoardLogger


class Losses(Callback):
    """Keeps the loss of each batch, and what a callback finds then."""

    def __init__(self):
        self.of_batches, self.found, self.shown = [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.of_batches.append(outputs["loss"].item() * trainer.accumulate_grad_batches)
        self.found.append(trainer.callback_metrics["train/loss"].item())
        self.shown.append(trainer.progress_bar_metrics.get("train/loss"))


def fit(folder, *callbacks, **options) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    logger = SafeTensorBoardLogger(folder, if_saving_fails="stop", name="", version="", default_hp_metric=False)
    trainer = pl.Trainer(
        accelerator="cpu", logger=logger, callbacks=list(callbacks), limit_val_batches=0, **quiet, **options
    )
    model = ImageClassifier("poolformer_tiny", 10, image_size=8, warmup_epochs=0, cooldown_epochs=0)
    trainer.fit(model, datamodule=DigitsData(batch_size=8))
    return trainer


def test_a_point_is_the_loss_of_its_own_step(tmp_path):
    losses = Losses()
    fit(tmp_path, losses, max_epochs=2, limit_train_batches=5, log_every_n_steps=3)
    assert curves(tmp_path)["train/loss"] == [(step, pytest.approx(losses.of_batches[step])) for step in (2, 5, 8)]
    assert losses.found == losses.of_batches
    assert losses.shown == [None] * 3 + [pytest.approx(losses.of_batches[n]) for n in (2, 2, 2, 5, 5, 5, 8)]


def test_a_point_is_the_mean_of_the_batches_of_its_step(tmp_path):
    """The last step of an epoch has the batches that are left."""
    losses = Losses()
    trainer = fit(tmp_path, losses, max_epochs=1, limit_train_batches=5, log_every_n_steps=1, accumulate_grad_batches=2)
    steps = [losses.of_batches[:2], losses.of_batches[2:4], losses.of_batches[4:]]
    means = [sum(step) / len(step) for step in steps]
    assert curves(tmp_path)["train/loss"] == [(n, pytest.approx(mean)) for n, mean in enumerate(means)]
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(means[-1])


def test_the_last_step_of_a_run_that_ends_early_is_a_point(tmp_path):
    class Ends(Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = trainer.global_step == 4

    losses = Losses()
    fit(tmp_path, losses, Ends(), max_epochs=1, log_every_n_steps=50)
    assert curves(tmp_path)["train/loss"] == [(3, pytest.approx(losses.of_batches[3]))]


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_an_epoch_shorter_than_the_interval_can_be_watched(tmp_path):
    watch = EarlyStopping("train/loss", patience=0, min_delta=100.0, check_on_train_epoch_end=True)
    trainer = fit(tmp_path, watch, max_epochs=5, limit_train_batches=2, log_every_n_steps=50)
    assert trainer.global_step == 4  # the second epoch is not better by that much
