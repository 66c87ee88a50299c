"""What is said of the data that a number is of: how much of it was taken, and how many of its classes that shows."""

import logging
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning_utilities.core import rank_zero
from torch.utils.data import DataLoader, TensorDataset

from poolformer.classifier import ImageClassifier
from poolformer.run.evaluated_data import EvaluatedData

pytestmark = pytest.mark.filterwarnings("ignore:the data module has no batch_size")


class InOrder(pl.LightningDataModule):
    """Five classes of four images each, one after another, as a folder is read."""

    num_classes, batch_size = 5, 2

    def __init__(self, side: int = 8, **attributes: Any):
        super().__init__()
        self.rows = TensorDataset(torch.zeros(20, 3, side, side, dtype=torch.uint8), torch.arange(20) // 4)
        vars(self).update(attributes)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.rows, batch_size=2)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def said_by(verb: str, data: pl.LightningDataModule, **options: Any) -> list[str]:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 2}
    quiet |= {"enable_checkpointing": False, "accelerator": "cpu", "callbacks": [EvaluatedData()]}
    logger, log = rank_zero.log, Lines()  # pytorch_lightning's, once anything has imported that
    level = logger.level
    logger.addHandler(log)
    logger.setLevel(logging.INFO)  # whatever the commands of other tests have set
    model = ImageClassifier("poolformer_tiny", 5, image_size=8, warmup_epochs=0, cooldown_epochs=0)
    try:
        getattr(pl.Trainer(**quiet | options), verb)(model, datamodule=data)
    finally:
        logger.removeHandler(log)
        logger.setLevel(level)
    return [line for line in log.lines if line.startswith(("--trainer", "The images"))]


def test_a_long_text_among_the_options_of_the_data_is_no_path(capsys):
    data = InOrder()
    data.save_hyperparameters({"classes": ",".join(map(str, range(1000)))})
    said_by("validate", data)
    assert "InOrder: 20 images, 5 classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verb", "options", "said"),
    [
        ("validate", {"limit_val_batches": 3}, "--trainer.limit_val_batches validates 3 of 10 batches: 2 of 5 classes"),
        (
            "validate",
            {"limit_val_batches": 0.2},
            "--trainer.limit_val_batches validates 2 of 10 batches: 1 of 5 classes",
        ),
        ("test", {"limit_test_batches": 1}, "--trainer.limit_test_batches tests 1 of 10 batches: 1 of 5 classes"),
        (
            "fit",
            {"limit_val_batches": 1, "limit_train_batches": 1},
            "--trainer.limit_val_batches validates 1 of 10 batches: 1 of 5 classes",
        ),
        ("fit", {"overfit_batches": 2}, "--trainer.overfit_batches validates 2 of 10 batches: 1 of 5 classes"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*overfit")
def test_a_part_of_the_batches_says_how_many_classes_it_shows_once(verb, options, said):
    assert said_by(verb, InOrder(), **options) == [said]


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("validate", {}),
        ("validate", {"limit_val_batches": 10}),
        ("validate", {"limit_val_batches": 9}),  # all five classes
        ("fit", {"limit_val_batches": 1.0, "limit_train_batches": 1}),
        ("fit", {"limit_val_batches": 0, "limit_train_batches": 1}),
        ("fit", {"fast_dev_run": True}),
        ("predict", {"limit_predict_batches": 1}),
    ],
)
def test_nothing_is_said_where_no_class_is_left_out(verb, options):
    assert said_by(verb, InOrder(), **options) == []


@pytest.mark.parametrize("verb", ["fit", "validate"])
def test_images_of_another_size_than_the_network_s_are_said_once(verb):
    assert said_by(verb, InOrder(16), limit_train_batches=1) == [
        "The images are 16 x 16 pixels, and the network was built for 8 x 8 (--model.image_size)"
    ]


def test_the_line_of_the_data_says_where_it_lies(capsys, tmp_path):
    data = InOrder()
    data.save_hyperparameters({"batch_size": 2, "root": str(tmp_path), "name": "no/such/path"})
    said_by("test", data, limit_test_batches=2)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("data")]
    assert line == f"data  {InOrder.__module__}.InOrder '{tmp_path}': 20 images, 5 classes, 2 of 10 batches"
