"""Pictures in TensorBoard of real runs, with the loggers and the data that people have."""

import io
import json
from pathlib import Path
from typing import Any

import forked
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from poolformer.classifier import ImageClassifier
from poolformer.run import worst_maps
from poolformer.run.event_log import SafeTensorBoardLogger
from poolformer.run.picture_log import PictureLog
from poolformer.run.pictures import PICTURES, FirstBatch, ValidationPictures
from poolformer.run.worst_maps import Maps

pytestmark = pytest.mark.filterwarnings("ignore:.*has no batch_size", "ignore:.*no batch_size")
ALL = {"train/first_batch", *(f"val/{name}" for name in PICTURES)}


def board(folder: Path) -> TensorBoardLogger:
    return TensorBoardLogger(folder, name="", version="", default_hp_metric=False)


def fit(folder: Path, *callbacks: Any, classes: int = 10, images: torch.Tensor | None = None, **options: Any) -> None:
    """Train one epoch of three batches, and validate on two."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    options = {"logger": board(folder), "max_epochs": 1, "log_every_n_steps": 1, **quiet, **options}
    images = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8) if images is None else images
    data = DataLoader(TensorDataset(images, torch.arange(len(images)) % classes), batch_size=2)
    fast = {"image_size": 8, "warmup_epochs": 0, "cooldown_epochs": 0}
    trainer = pl.Trainer(accelerator="cpu", default_root_dir=folder, callbacks=list(callbacks), **options)
    trainer.fit(ImageClassifier("poolformer_tiny", classes, **fast), data, data)


def pictures(folder: Path) -> dict[str, np.ndarray]:
    events = EventAccumulator(str(folder)).Reload()
    found = {tag: events.Images(tag)[-1] for tag in events.Tags()["images"]}
    return {tag: np.asarray(Image.open(io.BytesIO(each.encoded_image_string))) for tag, each in found.items()}


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_a_run_has_all_pictures(tmp_path, classes):
    fit(tmp_path, FirstBatch(), ValidationPictures(), classes=classes)
    found = pictures(tmp_path)
    assert found.keys() == ALL
    assert all(picture.shape[2] == 3 for picture in found.values())
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("calibration/ece")] == [
        event.step for event in events.Scalars("val/top1")
    ]


def test_maps_are_of_what_is_said_and_of_the_label_of_each_of_the_worst(tmp_path):
    fit(tmp_path, ValidationPictures(without=["errors", "confusion", "classes", "calibration"]))
    [(tag, picture)] = pictures(tmp_path).items()
    assert tag == "val/cam"
    assert picture.shape[1] == 8 * 120 + 8  # of six images two maps each, eight in a row
    assert picture.shape[0] > 2 * 120


@pytest.mark.slow
def test_maps_are_of_the_averages_wherever_the_callback_stands(tmp_path, monkeypatch):
    seen = []

    def of(self, trainer, module, images, labels):
        validated = worst_maps.averages_of(trainer).state_dict()
        seen.append(validated["backbone.head.fc.weight"].clone())

    monkeypatch.setattr(Maps, "of", of)
    for order in (1, -1):
        torch.manual_seed(0)
        callbacks = [ValidationPictures(), EMAWeightAveraging(decay=0.5)][::order]
        fit(tmp_path / str(order), *callbacks, images=torch.zeros(6, 3, 8, 8, dtype=torch.uint8))
    assert torch.equal(*seen)


TWO = """
import json, sys, warnings

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger

from poolformer.classifier import ImageClassifier
from poolformer.data import DigitsData
from poolformer.run.pictures import ValidationPictures

warnings.simplefilter("ignore")
folder, devices = sys.argv[1], int(sys.argv[2])


class Kept(ValidationPictures):
    def _draw(self, trainer, pl_module, outcomes):
        metrics = {name: float(trainer.callback_metrics[name]) for name in ("val/top1", "val/top5", "val/images")}
        found = {"confusion": outcomes.confusion_matrix(10).tolist(), "classes": outcomes.accuracy_by_class()}
        found |= {"calibration": outcomes.calibration(), "ece": outcomes.calibration_error, **metrics}
        open(f"{folder}/{devices}.json", "w").write(json.dumps(found))


pl.seed_everything(0)
quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
several = {"devices": devices, "strategy": "ddp"} if devices > 1 else {"devices": 1}
short = {"max_epochs": 1, "limit_train_batches": 1, "num_sanity_val_steps": 0, "default_root_dir": folder}
logger = TensorBoardLogger(folder)
trainer = pl.Trainer(accelerator="cpu", logger=logger, callbacks=[Kept(["cam"])], **several, **short, **quiet)
still = {"optimizer": "sgd", "lr": 1e-30, "min_lr": 0.0, "warmup_epochs": 0, "cooldown_epochs": 0}
trainer.fit(ImageClassifier("poolformer_tiny", 10, image_size=8, **still), DigitsData(batch_size=48 // devices))
"""


@pytest.mark.slow
def test_two_processes_draw_what_one_draws(tmp_path):
    program = tmp_path / "two.py"
    program.write_text(TWO)
    for devices in (1, 2):
        done = forked.run(program, tmp_path, devices, ranks=True)
        assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / f"{devices}.json").read_text()) for devices in (1, 2))
    # Batches of another size round otherwise.
    for name in ("calibration", "ece"):
        np.testing.assert_allclose(two.pop(name), one.pop(name), rtol=1e-5)
    assert two == one
    assert one["val/images"] == 360


@pytest.mark.slow
def test_maps_that_cannot_be_computed_are_warned_of_and_end_nothing(tmp_path, monkeypatch):
    def failing(*_: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr("poolformer.run.worst_maps.activation_maps", failing)
    with pytest.warns(UserWarning, match="Grad-CAM cannot be computed .*out of memory.*no val/cam"):
        fit(tmp_path, ValidationPictures(), max_epochs=2)
    assert pictures(tmp_path).keys() == ALL - {"train/first_batch", "val/cam"}


def test_without_the_extra_there_are_no_maps_and_all_else(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    maps = Maps()
    monkeypatch.undo()
    assert not maps.are_there
    assert maps.of(pl.Trainer(accelerator="cpu", logger=False), pl.LightningModule(), torch.zeros(1), []) is None


@pytest.mark.parametrize("name", PICTURES)
def test_each_picture_can_be_left_out(tmp_path, name):
    fit(tmp_path, ValidationPictures(without=[name]))
    assert pictures(tmp_path).keys() == ALL - {"train/first_batch", f"val/{name}"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"logger": False}, set()),
        ({"fast_dev_run": True}, set()),
        ({"limit_val_batches": 0}, {"train/first_batch"}),
        ({"num_sanity_val_steps": 0}, ALL),
    ],
    ids=["no logger", "fast_dev_run", "no validation", "no sanity check"],
)
def test_runs_of_other_kinds_have_what_there_is(tmp_path, options, expected):
    fit(tmp_path, FirstBatch(), ValidationPictures(), **options)
    assert (pictures(tmp_path).keys() if list(tmp_path.glob("events*")) else set()) == expected


def test_other_loggers_get_the_number_and_no_pictures(tmp_path):
    loggers = [CSVLogger(tmp_path / "csv", name=""), board(tmp_path / "first"), board(tmp_path / "second")]
    fit(tmp_path, FirstBatch(), ValidationPictures(), logger=loggers)
    assert "calibration/ece" in next((tmp_path / "csv").rglob("metrics.csv")).read_text()
    assert pictures(tmp_path / "first").keys() == pictures(tmp_path / "second").keys() == ALL


def test_the_first_batch_is_shown_as_it_was_mixed_and_erased(tmp_path):
    white = torch.full((6, 3, 8, 8), 255, dtype=torch.uint8)
    fit(tmp_path, FirstBatch(), images=white)
    picture = pictures(tmp_path)["train/first_batch"]
    cells = picture[8:120, 8:120], picture[8:120, 128:240]
    assert any((cell == 255).all(2).mean() > 0.5 for cell in cells)


def test_a_picture_that_fails_ends_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("poolformer.run.drawing.sheet", lambda *_: 1 / 0)
    with pytest.warns(UserWarning, match="could not be drawn .*division"):
        fit(tmp_path, FirstBatch())


def test_a_full_disk_ends_nothing(tmp_path):
    """A device that is always full, in place of the file of events."""
    logger = SafeTensorBoardLogger(tmp_path, name="", version="", default_hp_metric=False)  # whose thread dies quietly
    log, trainer = PictureLog(), pl.Trainer(accelerator="cpu", logger=logger, enable_checkpointing=False)
    logger.experiment.flush()
    with open("/dev/full", "wb", buffering=0) as full:
        logger.experiment.file_writer.event_writer._async_writer._writer._writer = full
        log.draw(trainer, 0, lambda: {"a": Image.new("RGB", (400, 400))})
        with pytest.warns(UserWarning, match=r"pictures cannot be written .*training continues"):
            log.close(trainer)
    log.draw(trainer, 1, lambda: {"b": Image.new("RGB", (4, 4))})
    log.close(trainer)
    logger.save()
    assert "b" in pictures(tmp_path)
