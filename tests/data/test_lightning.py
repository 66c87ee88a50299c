"""Under Lightning's trainer: order and pixels of a resumed or distributed run are those of the plain one."""

import json
import os
import warnings
from pathlib import Path

import forked
import lightning.pytorch as pl
import pytest
import torch
from data_images import loading_threads, write_class_folders
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from poolformer.classifier import ImageClassifier
from poolformer.commands.pack import main as pack
from poolformer.data import DigitsData, FFCVData
from poolformer.errors import DataError

EPOCHS, STEPS = 3, 5


class Recorder(pl.LightningModule):
    """A linear classifier that notes what it was shown."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3 * 16 * 16, 3)
        self.trained, self.validated = [], []

    def training_step(self, batch, index):
        images, labels = batch
        self.trained.append([image.long().sum().item() for image in images])
        return nn.functional.cross_entropy(self.net(images.flatten(1) / 255), labels)

    def validation_step(self, batch, index):
        if not self.trainer.sanity_checking:
            self.validated += [image.long().sum().item() for image in batch[0]]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trainer_with(**options):
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": EPOCHS,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return pl.Trainer(**defaults | options)


def data_of(path, **options):
    return FFCVData(train=str(path), val=str(path), **{"batch_size": 4, "image_size": 16, "num_workers": 2} | options)


@pytest.fixture(scope="module")
def beton(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    pack([str(write_class_folders(root / "folder", images=7)), str(root / "x.beton")])
    return root / "x.beton"


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [(step, "host", "host") for step in (3, 5, 7, 10, 14)] + [(7, "device", "device"), (8, "host", "device")],
)
def test_a_run_resumed_in_mid_epoch_sees_what_was_left(beton, tmp_path, step, before, after):
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    whole = Recorder()
    trainer_with(callbacks=[keep], enable_checkpointing=True).fit(whole, data_of(beton, augment_on=before))
    assert len(whole.trained) == EPOCHS * STEPS

    rest = Recorder()
    data = data_of(beton, augment_on=after)
    trainer_with().fit(rest, data, ckpt_path=tmp_path / f"step={step}.ckpt", weights_only=True)
    assert rest.trained == whole.trained[step:]
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, rest.state_dict()[name])


def test_a_run_is_the_same_wherever_it_augments(beton):
    runs = {}
    for where in ("host", "device"):
        torch.manual_seed(0)
        runs[where] = Recorder()
        trainer_with().fit(runs[where], data_of(beton, augment_on=where))
    assert runs["device"].trained == runs["host"].trained
    assert runs["device"].validated == runs["host"].validated
    for name, weights in runs["host"].state_dict().items():
        assert torch.equal(weights, runs["device"].state_dict()[name])


def test_epochs_differ_and_validation_repeats(beton):
    model = Recorder()
    trainer_with().fit(model, data_of(beton))
    epochs = [model.trained[n * STEPS : (n + 1) * STEPS] for n in range(EPOCHS)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert model.validated[:21] == model.validated[21:42] == model.validated[42:]


def test_short_epochs_leave_no_threads(beton):
    trainer_with(max_epochs=10, limit_train_batches=2, limit_val_batches=1).fit(Recorder(), data_of(beton))
    assert not loading_threads()


TWO_RANKS = """
import json, sys, warnings
warnings.simplefilter("ignore")
from test_lightning import Recorder, data_of, trainer_with
from torch import nn
model = Recorder()
model.norm = nn.BatchNorm2d(3)  # its buffers go from rank to rank at every batch, in evaluation too
model.net = nn.Sequential(nn.Unflatten(1, (3, 16, 16)), model.norm, nn.Flatten(), model.net)
trainer = trainer_with(strategy="ddp", devices=2, max_epochs=2)
trainer.fit(model, data_of(sys.argv[1], batch_size=int(sys.argv[3])))
open(f"{sys.argv[2]}/{trainer.global_rank}", "w").write(json.dumps([model.trained, model.validated]))
"""


def seen_by_two_processes(beton, folder, batch_size):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2]))}
    program = folder / "two_ranks.py"
    program.write_text(TWO_RANKS)
    done = forked.run(program, beton, folder, batch_size, env=environment, ranks=True)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / str(rank)).read_text()) for rank in (0, 1)]


@pytest.mark.exhaustive
def test_two_processes_end_validation_together_where_one_has_an_image_more(beton, tmp_path):
    # 21 images in batches of 10: 11 on one rank, 10 on the other.
    first, second = seen_by_two_processes(beton, tmp_path, batch_size=10)
    assert (len(first[1]), len(second[1])) == (22, 20)  # 2 epochs


@pytest.mark.slow
def test_two_processes_see_what_one_sees(beton, tmp_path):
    first, second = seen_by_two_processes(beton, tmp_path, batch_size=2)
    one = Recorder()
    trainer_with(max_epochs=2).fit(one, data_of(beton))
    assert [sorted(a + b) for a, b in zip(first[0], second[0], strict=True)] == [sorted(step) for step in one.trained]
    assert (len(first[1]), len(second[1])) == (22, 20)  # 21 images, 2 epochs
    assert sorted(first[1] + second[1]) == sorted(one.validated)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_a_trainer_is_told_which_images_are_missing(stage):
    with pytest.raises(DataError) as caught:
        getattr(trainer_with(), stage)(ImageClassifier("poolformer_tiny", 3, image_size=16), datamodule=FFCVData())
    split = {"validate": "val"}.get(stage, stage)
    assert str(caught.value) == f"FFCVData has no {split} images: pass --data.{split} PATH"


def on_devices(data, devices):
    """A data module that a trainer of several devices asks for its loaders."""
    data.trainer = trainer_with(devices=devices, strategy="ddp")
    data.setup("fit")
    return data


@pytest.mark.parametrize(("kind", "images"), [("digits", 360), ("images", 21)])
def test_fewer_images_than_devices_are_refused(beton, kind, images):
    """Without a batch for all of them, none would evaluate anything."""

    def loader(devices):
        return on_devices(DigitsData() if kind == "digits" else data_of(beton), devices).val_dataloader()

    assert len(loader(images)) == 1
    with pytest.raises(DataError) as caught:
        loader(images + 1)
    message = f"{images} images to evaluate for {images + 1} devices: take fewer devices (--trainer.devices)"
    assert str(caught.value) == message


def test_fewer_training_images_than_devices_are_refused(beton):
    with pytest.raises(DataError, match=r"^21 images to train on for 22 devices: take fewer devices"):
        on_devices(data_of(beton), 22).train_dataloader()
