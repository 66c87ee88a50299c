"""A number is of the data that it was asked for: a checkpoint of somebody's own data module is not the digits'."""

import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import BEST, LAST, ONE_EPOCH, metric, printed, process_left_as_it_was
from data_images import write_class_folders

from poolformer.checkpoint.reading import read
from poolformer.checkpoint.record import RUN
from poolformer.cli import dispatch as cli
from poolformer.run.provenance import FACT, trained_on

MODULE = """
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Data(pl.LightningDataModule):
    '''Four classes of 16 pixels, in order.'''

    def __init__(self, root: str = ".", batch_size: int = 6, remembers: bool = False):
        super().__init__()
        if remembers:
            self.save_hyperparameters()
        self.batch_size, self.num_classes = batch_size, 4

    def train_dataloader(self):
        images = torch.randint(256, (12, 3, 16, 16), dtype=torch.uint8)
        return DataLoader(TensorDataset(images, torch.arange(12) // 3), batch_size=self.batch_size)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader
"""
NETWORK = ["--model.backbone", "poolformer_tiny", "--model.num_classes", "4", "--model.cooldown_epochs", "0"]
pytestmark = pytest.mark.filterwarnings("ignore:The number of training batches")


@pytest.fixture
def own(work, on_path) -> Path:
    """A data module of one's own, in the current directory."""
    (work / "of_mine.py").write_text(MODULE)
    on_path(work)
    return work


@pytest.fixture(scope="module")
def own_trained(tmp_path_factory) -> Path:
    """The directory that a run on it was started in."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "of_mine.py").write_text(MODULE)
    with process_left_as_it_was(), warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        assert cli.main(["fit", "--data", "of_mine.Data", *NETWORK, *ONE_EPOCH]) == 0
    sys.modules.pop("of_mine")
    return folder


@pytest.fixture
def own_run(own, own_trained) -> Path:
    shutil.copytree(own_trained / "runs", "runs")
    return Path("runs/Data")


def error(done: Any) -> str:
    assert (done.code, done.out) == (2, "")
    return done.err.removeprefix("poolformer: error: ").rstrip("\n")


# ---- fit


def test_a_data_module_of_one_s_own_takes_no_options_of_the_digits(own, call):
    config = printed(call("fit", "--data", "of_mine.Data", "--print_config"))
    assert config["data"] == {
        "class_path": "of_mine.Data",
        "init_args": {"root": ".", "batch_size": 6, "remembers": False},
    }
    assert (config["model"]["backbone"], config["model"]["num_classes"]) == ("poolformer_s12", 1000)
    assert (config["trainer"]["max_epochs"], config["num_threads"]) == (310, None)


@pytest.mark.slow
def test_a_run_on_other_data_is_not_called_digits(own_run):
    assert (own_run / BEST).is_file()
    assert not Path("runs/digits").exists()


@pytest.mark.slow
def test_a_run_records_its_data_module(own_run):
    assert read(own_run / LAST)[RUN][FACT] == "of_mine.Data"


@pytest.mark.slow
def test_resuming_on_another_data_module_is_said(own_run, call, own):
    (own / "of_mine_too.py").write_text(MODULE.replace("class Data", "class Other"))
    more = ["--config", own_run / "config.yaml", "--data", "of_mine_too.Other", "--data.batch_size", "6"]
    with pytest.warns(UserWarning, match=r'data_module "of_mine_too.Other" \(was "of_mine.Data"\)'):
        done = call("fit", *more, "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert done.code == 0, done.err


# ---- what a checkpoint was trained on


@pytest.mark.parametrize("verb", ["validate", "test", "predict", "fit"])
def test_a_checkpoint_of_one_s_own_data_is_not_evaluated_on_the_digits(own_run, call, verb):
    assert error(call(verb, "--ckpt_path", own_run / BEST)) == (
        f"'{own_run / BEST}' was trained on of_mine.Data, a data module that you have to vouch for: add --data "
        f"of_mine.Data, or --config {own_run}/config.yaml"
    )


@pytest.mark.slow
def test_what_is_asked_is_enough(own_run, call):
    for said in (["--data", "of_mine.Data"], ["--config", own_run / "config.yaml"]):
        done = call("validate", *said, "--ckpt_path", own_run / BEST)
        assert done.code == 0, done.err
        assert metric(done, "val/images") == 12
        assert re.search(r"^data  of_mine\.Data: 12 images, 4 classes$", done.out, re.M) or "root" in done.out


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"--data.val": "images"}], ids=["nothing", "a path"])
def test_a_module_that_remembers_its_options_is_asked_for_too(own, call, options):
    said = ["--data", "of_mine.Data", "--data.remembers", "true", "--trainer.default_root_dir", "a b"]
    assert call("fit", *said, *NETWORK, *ONE_EPOCH).code == 0
    words = [word for pair in options.items() for word in pair]
    message = error(call("validate", "--ckpt_path", Path("a b", BEST), *words))
    assert message.endswith("add --data of_mine.Data, or --config 'a b/config.yaml'")


@pytest.mark.slow
def test_a_checkpoint_that_does_not_say_its_data_is_asked_for(call, work, trained):
    saved = read(trained / LAST)
    for part in ("datamodule_hyper_parameters", RUN, "DigitsData"):
        saved.pop(part, None)
    torch.save(saved, work / "old.ckpt")
    assert error(call("validate", "--ckpt_path", "old.ckpt")) == (
        "'old.ckpt' does not say which data module it was trained on: add --data DigitsData, FFCVData, FolderData or "
        "one of yours, or the --config of its run"
    )
    assert call("validate", "--ckpt_path", "old.ckpt", "--data", "DigitsData", "--data.image_size", "8").code == 0


@pytest.mark.slow
def test_a_run_of_python_is_evaluated_on_its_data(call, work, trained):
    """Without the command line, a data module's options do not say its class."""
    saved = read(trained / LAST)
    del saved["datamodule_hyper_parameters"]["_class_path"]
    torch.save(saved, work / "python.ckpt")
    assert call("validate", "--ckpt_path", "python.ckpt", "--trainer.limit_val_batches", "1").code == 0
    del saved[RUN][FACT]  # of before it was recorded
    assert trained_on(saved).endswith(".DigitsData")


@pytest.mark.parametrize("found", ["os.system\n", "../x", 3, "a.b; rm -rf ~", ["os.system"]])
def test_what_is_no_class_path_is_not_repeated(found):
    assert trained_on({"datamodule_hyper_parameters": {"_class_path": found}}) is None
    assert trained_on({RUN: {FACT: found}}) is None


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_published_weights_are_not_evaluated_on_data_that_nobody_named(call, work, trained, verb):
    network = ["--model.backbone", "poolformer_tiny", "--model.num_classes", "10", "--model.mixer", "depthwise"]
    message = error(call(verb, "--model.pretrained", trained / LAST, *network))
    assert message.startswith(f"{verb} with published weights needs data: add --config s12")


# ---- what is printed


def lines_of_data(out: str) -> list[str]:
    return re.findall(r"^data  .*$", out, re.M)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the data has 3 classes and the model 10")
def test_the_data_is_named_beside_the_numbers(call, work, trained):
    digits = "data  poolformer.data.DigitsData: 360 images, 10 classes"
    assert lines_of_data(call("validate", "--ckpt_path", trained / LAST).out) == [digits]
    assert lines_of_data(call("test", "--ckpt_path", trained / LAST, "--trainer.limit_test_batches", "2").out) == [
        f"{digits}, 2 of 12 batches"
    ]
    write_class_folders(work / "some images", classes=3, images=2)
    folders = ["--data", "FolderData", "--data.predict", "some images", "--data.num_workers", "1"]
    done = call("predict", "--ckpt_path", trained / LAST, *folders)
    assert lines_of_data(done.out) == ["data  poolformer.data.FolderData 'some images': 6 images"]
