"""How many classes a new network is built for: from folders of photographs to a run, and on to another one."""

import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from command_line import LAST, SHORT, settings
from data_images import write_class_folders
from jsonargparse import Namespace

from poolformer.backbones import create_backbone
from poolformer.checkpoint.reading import read
from poolformer.checkpoint.record import RECORD
from poolformer.cli import class_count
from poolformer.cli.asked import Asked
from poolformer.cli.training import settings as settings_of
from poolformer.errors import DataError

PHOTOS = [
    *("--model.cooldown_epochs", "0"),
    *("--data", "FolderData", "--data.image_size", "32", "--data.batch_size", "2", "--data.num_workers", "1"),
    *("--model.backbone", "poolformer_tiny", "--trainer.default_root_dir", "run", "--data.val_share", "0.3"),
]


@pytest.fixture
def photos(work) -> Path:
    return write_class_folders(work / "photos", classes=3, images=4)


@pytest.mark.slow
def test_the_classes_of_the_data_are_those_of_the_run_and_of_what_comes_after_it(call, photos, caplog):
    fit = ["fit", *PHOTOS, "--data.train", "photos", *SHORT]
    done = call(*fit, "--trainer.max_epochs", "1")
    assert done.code == 0, done.err
    said = caplog.text
    assert "The data has 3 classes: the network is built for these (--model.num_classes 3)" in said
    assert said.count("val: 3 of 12 images of photos (val_share 0.3)") == 1
    run, saved = settings(Path("run")), read(Path("run") / LAST)
    assert run["model"]["num_classes"] == saved["hyper_parameters"]["num_classes"] == 3
    assert saved["state_dict"]["backbone.head.fc.weight"].shape[0] == 3
    assert saved[RECORD]["class_names"] == ["class_0", "class_1", "class_2"]
    assert "num_classes" not in settings_of("fit", fit[1:])["model"]  # an ablation compares them with a run's
    assert "num_classes" in settings_of("fit", [*fit[1:], "--model.num_classes", "3"])["model"]

    done = call("validate", "--ckpt_path", "run/" + LAST)
    assert "FolderData 'photos': 3 images, 3 classes" in done.out
    assert done.code == 0
    again = call(*fit, "--trainer.max_epochs", "2", "--ckpt_path", "auto")
    assert again.code == 2
    assert "trainer.max_epochs" in again.err
    assert "num_classes" not in again.err
    assert call(*fit, "--trainer.max_epochs", "1", "--ckpt_path", "auto").code == 0

    shutil.rmtree(photos / "class_1")
    shutil.copytree("run", "before")
    finetune = ["--model.pretrained", "before/" + LAST, "--trainer.default_root_dir", "next"]
    with pytest.warns(UserWarning, match="for 3 classes, the network for 2: the network's head is fresh"):
        done = call(*fit, *finetune, "--trainer.fast_dev_run", "true")
    assert done.code == 0, done.err


MINE = "{model: {num_classes: 5}}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config", "s12"], True),
        (["--config", "cifar10"], True),
        (["--config", "cifar10", "--config", "mine.yaml"], False),
        (["--config=mine.yaml"], False),
        (["--model.num_classes", "7"], False),
        (["--model.num_classes=7"], False),
        (["--model", "{num_classes: 7}"], False),
        (["--model=model.yaml"], False),
        (["--model", "{lr: 0.1}", "--model.drop_path_rate", "0.1"], True),
    ],
)
def test_a_number_that_the_user_says_holds(work, arguments, expected):
    Path("mine.yaml").write_text(MINE)
    Path("model.yaml").write_text("num_classes: 5")
    fit, validate = Asked("fit", arguments), Asked("validate", arguments)
    assert (class_count.is_open(fit), class_count.is_of_weights(fit)) == (expected, False)
    assert (class_count.is_open(validate), class_count.is_of_weights(validate)) == (False, expected)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["validate", "predict"])
def test_published_weights_are_evaluated_with_as_many_classes_as_they_have(call, work, verb, caplog):
    torch.save(create_backbone("poolformer_tiny", num_classes=10).state_dict(), work / "poolformer_tiny.pth")
    data = ["--data", "DigitsData", "--model.backbone", "poolformer_tiny"]
    done = call(verb, *data, "--model.pretrained", "poolformer_tiny.pth")
    assert done.code == 0, done.err
    assert "The weights are for 10 classes: the network is built for these (--model.num_classes 10)" in caplog.text


class Mine(pl.LightningDataModule):
    def __init__(self, **attributes: Any):
        super().__init__()
        vars(self).update(attributes)


class LaterKnown(Mine):
    @property
    def num_classes(self) -> int:
        return len(self.classes)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (Mine(num_classes=7), 7),
        (Mine(class_names=("a", "b")), 2),
        (Mine(), 1000),
        (Mine(num_classes=None, class_names=None), 1000),
        (Mine(num_classes=1), 1000),
        (LaterKnown(), 1000),
    ],
)
def test_a_data_module_of_ones_own_is_asked_for_what_it_knows_when_it_is_built(module, expected):
    options = Namespace(model=Namespace(num_classes=1000))
    class_count.take_from_data(options, module)
    assert options.model.num_classes == expected


def test_a_number_that_is_none_is_a_line():
    with pytest.raises(DataError, match="num_classes of Mine is a str, not an integer"):
        class_count.take_from_data(Namespace(model=Namespace(num_classes=1000)), Mine(num_classes="7"))
