"""What the callbacks leave on disk and in TensorBoard, read as TensorBoard reads it."""

import csv
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, Dataset

from poolformer.classifier import ImageClassifier
from poolformer.data import DigitsData, FolderData
from poolformer.errors import ConfigError, DataError
from poolformer.run.callbacks import Throughput
from poolformer.run.config import as_text
from poolformer.run.directory import RunDirectory, checkpoints
from poolformer.run.predictions import PredictionWriter
from poolformer.run.stopping import Stopped


def run(folder: Path, **options: Any) -> pl.Trainer:
    """A trainer that says little and writes into one folder."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    options = {"logger": False, "enable_checkpointing": False, "max_epochs": 1, **quiet, **options}
    return pl.Trainer(accelerator="cpu", default_root_dir=folder, **options)


def board(folder: Path) -> TensorBoardLogger:
    return TensorBoardLogger(folder, name="", version="", default_hp_metric=False)


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def tiny(num_classes: int = 10, **options: Any) -> ImageClassifier:
    fast = {"image_size": 8, "warmup_epochs": 0, "cooldown_epochs": 0}
    return ImageClassifier("poolformer_tiny", num_classes, **fast, **options)


# ---- checkpoints


class Scripted(pl.LightningModule):
    """Has the accuracy that the script says for each epoch, and the epoch's number as its weight."""

    def __init__(self, accuracies: list[float]):
        super().__init__()
        self.accuracies = accuracies
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        return self.weight * 0

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.weight.data.fill_(self.current_epoch)

    def validation_step(self, batch, batch_idx):
        self.log("val/top1", self.accuracies[self.current_epoch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize(
    ("accuracies", "options", "best"),
    [
        ([0.2, 0.9, 0.5, 0.4], {}, 1),
        ([0.2, 0.3, 0.5, 0.9], {}, 3),
        ([0.9, 0.8, 0.5, 0.4], {}, 0),
        ([0.9, 0.3, 0.5, 0.2], {"check_val_every_n_epoch": 2}, 1),  # epochs 1 and 3 are evaluated
        ([0.1, 0.3, 0.9], {"check_val_every_n_epoch": 2}, 1),  # nothing is evaluated in the last epoch
    ],
)
def test_best_is_the_best_epoch_and_last_the_last(tmp_path, accuracies, options, best):
    loader = DataLoader(torch.zeros(2, 1))
    trainer = run(
        tmp_path, max_epochs=len(accuracies), enable_checkpointing=True, callbacks=checkpoints(tmp_path), **options
    )
    trainer.fit(Scripted(accuracies), loader, loader)
    files = {path.name: torch.load(path, weights_only=True) for path in (tmp_path / "checkpoints").iterdir()}
    assert files.keys() == {"best.ckpt", "last.ckpt"}
    assert files["best.ckpt"]["state_dict"]["weight"] == best
    assert files["last.ckpt"]["state_dict"]["weight"] == len(accuracies) - 1


def test_checkpoints_lie_beside_the_events(tmp_path):
    loader = DataLoader(torch.zeros(2, 1))
    trainer = run(tmp_path, logger=board(tmp_path), log_every_n_steps=1, enable_checkpointing=True)
    trainer.callbacks += checkpoints(tmp_path)
    trainer.fit(Scripted([0.5]), loader, loader)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} >= {"best.ckpt", "last.ckpt"}


# ---- throughput


class Slow(Dataset):
    """Images that take some time each to load."""

    def __init__(self, length: int, seconds: float):
        self.length, self.seconds = length, seconds

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return torch.zeros(3, 8, 8, dtype=torch.uint8), index % 10


def throughput(folder: Path, *, train: Dataset, val: Dataset, **options: Any) -> tuple[list[float], float]:
    """Return what is logged in a run, and the seconds that the whole of it takes."""
    trainer = run(folder, logger=board(folder), log_every_n_steps=2, callbacks=[Throughput()], **options)
    started = time.monotonic()
    with pytest.warns(UserWarning, match="no batch_size"):
        trainer.fit(tiny(), DataLoader(train, batch_size=4), DataLoader(val, batch_size=4))
    seconds = time.monotonic() - started
    return [event.value for event in events(folder).Scalars("throughput/images_per_s")], seconds


@pytest.mark.slow
def test_throughput_is_images_a_second_loading_included(tmp_path):
    """An image takes 10 ms to load, so that at most 100 a second are possible."""
    rates, seconds = throughput(tmp_path, train=Slow(16, 0.01), val=Slow(4, 0), max_epochs=2)
    assert len(rates) == 4  # 2 epochs of 4 batches, logged every other batch
    assert max(rates) < 100
    assert sum(8 / rate for rate in rates) < seconds  # windows of 8 images, none counted twice
    assert max(rates) > 32 / seconds  # faster than the whole run, which has its start besides


@pytest.mark.slow
def test_throughput_leaves_evaluation_out(tmp_path):
    """Evaluation takes 0.6 s between the two windows; counted in, the second would take longer than that."""
    rates, _ = throughput(tmp_path, train=Slow(16, 0), val=Slow(4, 0.15), val_check_interval=2)
    assert len(rates) == 2
    assert rates[1] > 8 / 0.6


# ---- an earlier run in the same directory


@pytest.fixture
def earlier(tmp_path) -> Path:
    """A directory with a run in it."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_text("weights")
    (folder / "config.yaml").write_text(as_text("first", {}))
    (folder / "events.out.tfevents.1.poolformer").write_text("curves")
    return folder


NEW = as_text("new", {})


def run_directory(folder: Path, *, resumes: bool = False) -> RunDirectory:
    return RunDirectory(folder, resumes=resumes, save_config=lambda path: path.write_text(NEW))


def fit_in(folder: Path, data: pl.LightningDataModule | None = None, *, resumes: bool = False) -> None:
    trainer = run(
        folder, callbacks=[run_directory(folder, resumes=resumes)], limit_train_batches=1, limit_val_batches=1
    )
    trainer.fit(tiny(), datamodule=data or DigitsData(batch_size=6))


def files_below(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_an_earlier_run_is_moved_out_of_the_way(earlier):
    before = files_below(earlier)
    fit_in(earlier)
    moved = {f"previous/1/{name}": text for name, text in before.items()}
    assert files_below(earlier) == {**moved, "config.yaml": NEW}


def test_each_earlier_run_gets_a_number_of_its_own(earlier):
    fit_in(earlier)
    (earlier / "events.out.tfevents.2.poolformer").write_text("second")
    fit_in(earlier)
    files = files_below(earlier)
    assert files["previous/1/config.yaml"] == as_text("first", {})
    assert files["previous/2/config.yaml"] == NEW
    assert files["previous/2/events.out.tfevents.2.poolformer"] == "second"


def test_a_deleted_earlier_run_leaves_the_others_in_place(earlier):
    (earlier / "previous" / "2").mkdir(parents=True)
    (earlier / "previous" / "2" / "config.yaml").write_text("kept")
    fit_in(earlier)
    assert files_below(earlier)["previous/2/config.yaml"] == "kept"


def test_a_run_that_goes_on_moves_nothing(earlier):
    before = files_below(earlier)
    fit_in(earlier, resumes=True)
    assert files_below(earlier) == {**before, "config.yaml": NEW}


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"the run cannot be written to '.*file/run': '.*file' is no folder"):
        run_directory(tmp_path / "file" / "run")


def test_what_is_no_run_is_left_where_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    fit_in(tmp_path)
    assert files_below(tmp_path) == {"notes.txt": "mine", "config.yaml": NEW}


def test_a_start_that_finds_no_data_moves_nothing(earlier):
    before = files_below(earlier)
    with pytest.raises(DataError, match="there is no folder"):
        fit_in(earlier, FolderData(train="no/such/folder", val="no/such/folder", num_workers=0))
    assert files_below(earlier) == before


def test_a_start_that_finds_no_whole_batch_moves_nothing(earlier):
    before = files_below(earlier)
    for name in range(10):
        (earlier.parent / "images" / str(name)).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(earlier.parent / "images" / str(name) / "a.png")
    images = str(earlier.parent / "images")
    with pytest.raises(DataError, match="fewer than one batch"):
        fit_in(earlier, FolderData(images, images, batch_size=12, image_size=8, num_workers=0))
    assert files_below(earlier) == before


def test_what_the_new_run_has_written_already_stays(earlier):
    callback = run_directory(earlier)
    callback.open()  # as before a logger makes its files
    (earlier / "hparams.yaml").write_text("backbone: new\nmixer: new\n")
    trainer = run(earlier, callbacks=[callback], limit_train_batches=1, limit_val_batches=1)
    trainer.fit(tiny(), datamodule=DigitsData(batch_size=6))
    assert "new" in files_below(earlier)["hparams.yaml"]


# ---- predictions


def predict(folder: Path, model: ImageClassifier, data: pl.LightningDataModule, **options: Any) -> list[list[str]]:
    run(folder, callbacks=[PredictionWriter(**options)]).predict(model, datamodule=data, return_predictions=False)
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_a_script_may_name_a_file_in_a_new_folder(tmp_path):
    writer = PredictionWriter(out=str(tmp_path / "new" / "x.csv"))
    run(tmp_path, callbacks=[writer]).predict(tiny(), datamodule=DigitsData(batch_size=100), return_predictions=False)
    assert (tmp_path / "new" / "x.csv").is_file()


def test_predictions_are_a_row_for_each_image_likeliest_class_first(tmp_path):
    model, data = tiny(), DigitsData(batch_size=100)
    header, *rows = predict(tmp_path / "new", model, data, top_k=3)
    columns = ["class_1", "probability_1", "class_2", "probability_2", "class_3", "probability_3"]
    assert header == ["image", *columns, "true"]
    assert [row[0] for row in rows] == [str(index) for index in range(360)]
    likeliest = torch.cat(run(tmp_path).predict(model, datamodule=data)).sort(descending=True)
    for row, values, labels in zip(rows, likeliest.values.tolist(), likeliest.indices.tolist(), strict=True):
        assert [float(text) for text in row[2:-1:2]] == pytest.approx(values[:3], abs=1e-6)
        assert row[1:-1:2] == [str(label) for label in labels[:3]]


def test_predictions_name_images_and_classes(tmp_path):
    """The names come from the data that was trained on; those to predict lie in no class folders."""
    for name in ("b, with comma.png", "a.png", "c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    model = tiny(3)
    model.class_names = ["ant", "bee", "cat"]
    data = FolderData(predict=str(tmp_path), batch_size=2, image_size=8, num_workers=0)
    header, *rows = predict(tmp_path, model, data)
    assert header == ["image", *(f"{column}_{k}" for k in (1, 2, 3) for column in ("class", "probability"))]
    assert [Path(row[0]).name for row in rows] == ["a.png", "b, with comma.png", "c.png"]
    for row in rows:
        assert Path(row[0]).is_file()
        assert sorted(row[1::2]) == ["ant", "bee", "cat"]
        probabilities = [float(text) for text in row[2::2]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=3e-6)


class EndsAt(pl.Callback):
    """Leaves at the start of a batch, as a stopped run does."""

    def __init__(self, batch: int):
        self.batch = batch

    def on_predict_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if batch_idx == self.batch:
            raise Stopped(143)


def test_predictions_that_are_stopped_leave_the_earlier_ones(tmp_path):
    model, data = tiny(), DigitsData(batch_size=100)
    earlier = predict(tmp_path, model, data)
    with pytest.raises(Stopped):
        run(tmp_path, callbacks=[PredictionWriter(top_k=1), EndsAt(2)]).predict(model, datamodule=data)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        assert list(csv.reader(file)) == earlier
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


def test_predictions_that_could_not_begin_end_as_what_stopped_them(tmp_path):
    with pytest.raises(DataError, match="no predict images"):
        predict(tmp_path, tiny(), FolderData(image_size=8))
    assert list(tmp_path.iterdir()) == []


def test_a_logit_without_a_class_is_written_as_its_number(tmp_path):
    """The sizes of the paper have 1000 logits, however few folders they were trained on."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    model = tiny(4)
    model.class_names = ["ant", "bee"]
    data = FolderData(predict=str(tmp_path), batch_size=1, image_size=8, num_workers=0)
    _, row = predict(tmp_path, model, data)
    assert sorted(row[1::2]) == ["2", "3", "ant", "bee"]
