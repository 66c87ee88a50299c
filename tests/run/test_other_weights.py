"""The weights of training beside their averages: numbers of both on the same images, and training as it was."""

import copy
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric

from poolformer.classifier import ImageClassifier
from poolformer.run.lightning_internals import averages_of
from poolformer.run.other_weights import BATCHES, AveragesOnDevice, WeightsBesideAverages, backbone_of, is_due
from poolformer.run.trainer import RunOptions, callbacks_of_a_run

pytestmark = pytest.mark.filterwarnings("ignore:.*has no batch_size", "ignore:.*no batch_size", "ignore:.*warm-up")
IMAGES = torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 4


class Raw(Callback):
    """Keeps the network of training from before Lightning puts the averages in its place."""

    network: Any = None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.network = copy.deepcopy(pl_module.get_submodule("backbone"))


def fit(folder: Any, *callbacks: Callback, batch: int = 10) -> tuple[pl.Trainer, ImageClassifier]:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    torch.manual_seed(0)
    model = ImageClassifier("poolformer_tiny", 4, image_size=8, lr=0.05, lr_batch_size=None, warmup_epochs=0)
    logger = CSVLogger(folder)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=logger, log_every_n_steps=1, callbacks=[*callbacks], **quiet
    )
    data = TensorDataset(IMAGES, LABELS)
    trainer.fit(model, DataLoader(data, batch_size=20), DataLoader(data, batch_size=batch))
    return trainer, model


@pytest.mark.slow
def test_both_are_evaluated_on_the_same_images_and_training_is_as_without(tmp_path):
    raw = Raw()
    trainer, model = fit(tmp_path, raw, EMAWeightAveraging(decay=0.5), WeightsBesideAverages(), batch=15)  # 15, 15, 10
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    with torch.no_grad():
        logits = raw.network.eval()((IMAGES - model.mean) / model.std)
    expected = float(torch.nn.functional.cross_entropy(logits, LABELS))
    assert metrics["averages/loss_of_training"] == pytest.approx(expected, rel=1e-4)
    assert metrics["averages/top1_of_training"] == pytest.approx(float((logits.argmax(1) == LABELS).float().mean()))
    assert metrics["averages/loss_of_averages"] == pytest.approx(metrics["val/loss"], rel=1e-5)
    assert metrics["averages/top1_of_averages"] == pytest.approx(metrics["val/top1"])
    assert metrics["averages/loss_of_averages"] != pytest.approx(expected, rel=1e-3)
    _, without = fit(tmp_path, EMAWeightAveraging(decay=0.5))
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), without.parameters(), strict=True))


@pytest.mark.parametrize(("asked", "expected"), [(None, "meta"), ("cpu", "cpu")])
def test_averages_are_where_the_model_is_trained_unless_another_place_is_asked_for(asked, expected):
    averaging = EMAWeightAveraging(device=asked)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[averaging])
    model = ImageClassifier("poolformer_tiny", 4, image_size=8)
    averaging.setup(trainer, model, "fit")  # Lightning's order: the strategy moves the model after it
    model.to("meta")  # as another device does
    AveragesOnDevice().on_fit_start(trainer, model)
    averages = averages_of(trainer)
    assert {str(each.device) for each in (averages, *averages.parameters(), *averages.buffers())} == {expected}


def test_a_run_keeps_its_averages_on_its_device():
    options = {"default_root_dir": "run", "enable_checkpointing": False, "max_steps": -1, "callbacks": None}
    run = RunOptions(verb="fit", options=options, resume=None, save_config=print)
    assert "AveragesOnDevice" in [type(each).__name__ for each in callbacks_of_a_run(run, logs=False)]


def test_without_averages_there_is_nothing(tmp_path):
    trainer, _ = fit(tmp_path, WeightsBesideAverages())
    assert not [name for name in trainer.callback_metrics if name.startswith("averages/")]


@pytest.mark.parametrize(
    ("batches", "accumulated", "expected"),
    [(22, 1, [1, 14, 25]), (500, 1, list(range(1, 26))), (22, 4, [1, 14, 25])],
)
def test_short_epochs_have_few_of_them_the_same_in_every_run(batches, accumulated, expected):
    trainer = SimpleNamespace(val_check_batch=batches, check_val_every_n_epoch=1, accumulate_grad_batches=accumulated)
    trainer.max_epochs, found = 25, []
    for epoch in range(25):
        trainer.current_epoch, trainer.global_step = epoch, -(-batches // accumulated) * (epoch + 1)
        if is_due(trainer, batches=6):
            found.append(epoch + 1)
    assert found == expected


@pytest.mark.slow
def test_of_many_batches_some_are_taken_evenly(tmp_path, monkeypatch):
    seen = []

    class Counted(MeanMetric):
        def update(self, value: torch.Tensor, weight: int) -> None:
            seen.append(value)
            super().update(value, weight)

    monkeypatch.setattr("poolformer.run.other_weights.MeanMetric", Counted)
    fit(tmp_path, EMAWeightAveraging(), WeightsBesideAverages(), batch=1)
    # 40 batches, every third of which: 14, loss and top-1 of both, for two epochs.
    assert len(seen) == 2 * 4 * 14
    assert len(seen) / 8 <= BATCHES


def test_a_copy_takes_gradients_in_inference_mode_and_leaves_none():
    model = ImageClassifier("poolformer_tiny", 4, image_size=8)
    with torch.inference_mode():
        copied = backbone_of(model, model.device)
        with torch.inference_mode(False), torch.enable_grad():
            copied(torch.zeros(1, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert any(parameter.grad is not None for parameter in copied.parameters())
    assert not copied.training
