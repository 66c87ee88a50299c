"""`poolformer teach` and --model.teacher: what is stored is replayed exactly, or refused where it is of others."""

import os
import shutil
from pathlib import Path

import forked
import pytest
import torch
from command_line import LAST, process_left_as_it_was
from data_images import write_class_folders
from lightning.pytorch.callbacks import Callback
from runs import Die, Died, assert_same_run

from poolformer import cli
from poolformer.data.soft_labels import SoftLabels, expanded, likeliest
from poolformer.trained import load_classifier

EPOCHS = 3
FLAT = ["--model.warmup_epochs", "0", "--model.cooldown_epochs", "0"]
LOGGED = ["--trainer.log_every_n_steps", "1", "--trainer.enable_progress_bar", "false"]
UNMIXED = ["--model.mixup", "0", "--model.cutmix", "0", "--model.erase_prob", "0"]
VIEWS = ["--trainer.max_epochs", str(EPOCHS), "--seed_everything", "3"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, trained) -> Path:
    """A checkpoint, and beside it the labels that it gives for three epochs of digits."""
    folder = tmp_path_factory.mktemp("teacher")
    shutil.copy(trained / LAST, folder / "teacher.ckpt")
    with process_left_as_it_was():
        out = ["--out", str(folder / "labels"), "--top", "4"]
        assert cli.main(["teach", str(folder / "teacher.ckpt"), *out, "--", *VIEWS, "--data.batch_size", "300"]) == 0
    return folder


def learning(teacher: Path, *options: str) -> list[str]:
    return [*VIEWS, "--model.teacher", str(teacher / "labels"), *FLAT, *LOGGED, *options]


class Asked(Callback):
    """Asks the teacher itself about the images of each batch, and keeps this beside the targets of the batch."""

    def __init__(self, checkpoint: Path, top: int = 4):
        self.teacher, self.top = load_classifier(checkpoint), top
        self.live, self.replayed = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        with torch.no_grad():
            logits = self.teacher(batch.images)
        self.live.append(expanded(likeliest(logits, self.top), logits.shape[1]))
        self.replayed.append(batch.targets.clone())


@pytest.mark.slow
def test_what_is_replayed_is_what_the_teacher_says_of_the_batch(teacher, tmp_path, fit):
    """To the last bit that is stored, with another batch size than it was asked with, and accumulated batches."""
    asked = Asked(teacher / "teacher.ckpt")
    options = learning(teacher, *UNMIXED, "--data.batch_size", "64", "--trainer.accumulate_grad_batches", "2")
    assert fit(tmp_path / "run", *options, callbacks=[asked], base=[]) == 0
    assert len(asked.live) == EPOCHS * 22
    for live, replayed in zip(asked.live, asked.replayed, strict=True):
        assert torch.equal(live, replayed)


def test_the_file_says_what_the_views_are_of(teacher):
    labels = SoftLabels(teacher / "labels")
    assert (labels.epochs, labels.samples, labels.top, labels.facts["num_classes"]) == (EPOCHS, 1437, 4, 10)
    views = labels.facts["views"]
    assert (views["data_module"], views["seed"], views["shift"]) == ("poolformer.data.DigitsData", 3, 0.125)
    assert not {"batch_size", "num_workers"} & views.keys()


@pytest.mark.slow
def test_a_resumed_run_is_taught_the_same(teacher, tmp_path, fit):
    options = learning(teacher, "--data.batch_size", "256")
    assert fit("whole", *options, base=[]) == 0
    with pytest.raises(Died):
        fit("resumed", *options, "--save_every_n_steps", "2", callbacks=[Die(1, 3)], base=[])
    assert fit("resumed", "--ckpt_path", "last", *VIEWS, *LOGGED, base=[]) == 0
    assert_same_run("whole", "resumed", killed=True)


class Targets(Callback):
    """Writes which targets the batches of a process have."""

    def __init__(self, folder: str):
        self.folder, self.targets = folder, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.targets.append(batch.targets)

    def on_train_end(self, trainer, pl_module):
        torch.save(torch.stack(self.targets), Path(self.folder, f"{trainer.global_rank}.pt"))


@pytest.mark.slow
def test_each_of_two_processes_asks_for_its_own_samples(teacher, tmp_path, fit):
    """Together they have the targets of one process with batches of twice the size, mixed as those are."""
    homes = [Path(__file__).parent, Path(__file__).parents[1]]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, homes))}
    short = ["--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1.0", "--num_threads", "1"]
    short += ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
    options = learning(teacher, *short, "--trainer.default_root_dir", str(tmp_path / "two"))
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "32"]
    noted = ["--trainer.callbacks+", f"{Path(__file__).stem}.Targets", "--trainer.callbacks.folder", str(tmp_path)]
    done = forked.run("-m", "poolformer", "fit", *options, *two, *noted, cwd=tmp_path, env=environment, ranks=True)
    assert done.returncode == 0, done.stderr
    whole = Targets(str(tmp_path / "one"))
    (tmp_path / "one").mkdir()
    assert fit("one-run", *learning(teacher, *short, "--data.batch_size", "64"), callbacks=[whole], base=[]) == 0
    ranks = torch.cat([torch.load(tmp_path / f"{rank}.pt") for rank in range(2)], dim=1)
    for both, one in zip(ranks, whole.targets, strict=True):
        assert sorted(both.tolist()) == sorted(one.tolist())


@pytest.mark.slow
def test_labels_and_teacher_share_the_target_by_weight(teacher, tmp_path, fit):
    one_epoch = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1"]
    found = {}
    for weight in ("0", "0.25", "1"):
        asked = Asked(teacher / "teacher.ckpt")
        options = learning(
            teacher, *UNMIXED, *one_epoch, "--model.label_smoothing", "0.1", "--model.teacher_weight", weight
        )
        assert fit(f"run-{weight}", *options, callbacks=[asked], base=[]) == 0
        found[weight] = asked.replayed[0]
    torch.testing.assert_close(found["0.25"], 0.25 * found["1"] + 0.75 * found["0"])
    torch.testing.assert_close(found["0"].unique(), torch.tensor([0.01, 0.91]))  # smoothed labels


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the data has 10 classes and the model 12")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seed_everything", "4"], "is of other views than this run's: seed 3 (here 4). Train with these"),
        (["--data.shift", "0.25"], "shift 0.125 (here 0.25)"),
        (["--data.image_size", "16"], "image_size 8 (here 16)"),
        (["--trainer.max_epochs", "4"], "has views of 3 epochs, and the run has 4"),
        (["--model.num_classes", "12"], "is for 10 classes, and the network has 12"),
        (["--model.teacher_weight", "2"], "--model.teacher_weight got '2.0', but expects a number from 0 to 1"),
        (["--model.teacher", "nowhere"], "'nowhere' cannot be read (No such file or directory): `poolformer teach"),
    ],
)
def test_a_run_of_other_views_is_refused_in_a_line(teacher, call, options, said):
    done = call("fit", *learning(teacher, *options))
    assert done.code == 2
    assert said in done.err
    assert done.err.splitlines()[-1].startswith("poolformer: error: ")


@pytest.mark.slow
def test_a_loader_that_does_not_number_its_samples_is_refused(teacher, call, work):
    Path("mine.py").write_text(
        "from torch.utils.data import DataLoader\n"
        "from poolformer.data import DigitsData\n\n\n"
        "class Mine(DigitsData):\n"
        "    def train_dataloader(self):\n"
        "        return DataLoader(list(range(100)), batch_size=10)\n"
    )
    done = call("fit", *learning(teacher, "--data", "mine.Mine"))
    assert done.code == 2
    assert "mine.Mine does not tell which samples are in a batch, as DigitsData" in done.err


# ---- images in files


@pytest.fixture
def images(tmp_path) -> Path:
    """Class folders with a file that is no image."""
    folder = write_class_folders(tmp_path / "images", images=7)
    sorted(folder.rglob("*.*"))[3].write_bytes(b"no image")
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*images cannot be read")
def test_images_in_files_are_told_by_their_contents_and_unreadable_ones_have_a_stand_in(trained, images, call, fit):
    options = [
        "--data",
        "FolderData",
        "--data.train",
        str(images),
        "--data.val",
        str(images),
        "--data.on_error",
        "skip",
    ]
    options += ["--model.backbone", "poolformer_tiny", "--data.image_size", "16", "--data.num_workers", "1"]
    options += ["--trainer.max_epochs", "2", "--trainer.limit_val_batches", "1", *FLAT, *LOGGED]
    assert call("fit", *options, "--data.batch_size", "2", "--trainer.default_root_dir", "first").code == 0
    with pytest.warns(UserWarning, match="cannot be read"):
        done = call("teach", f"first/{LAST}", "--out", "labels", "--", *options, "--data.batch_size", "5")
    assert done.code == 0, done.err
    taught = [*options, "--data.batch_size", "2", "--model.teacher", "labels"]
    asked = Asked(Path(f"first/{LAST}"), top=3)
    assert fit("run", *taught, *UNMIXED, callbacks=[asked], base=[]) == 0
    assert all(map(torch.equal, asked.live, asked.replayed))
    others = images.rename(images.parent / "others")
    next(others.rglob("*.*")).unlink()
    done = call("fit", *[word.replace(str(images), str(others)) for word in taught])
    assert (done.code, "files of the training images" in done.err) == (2, True)
