"""A run that resumes as another one says so, and one that is the same says nothing."""

import os
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from data_images import write_class_folders
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging

from poolformer.classifier import ImageClassifier
from poolformer.cli import dispatch as cli
from poolformer.data.beton import RAW, Beton, Stored
from poolformer.data.beton_stream import BetonWriter
from poolformer.data.sources import BetonSource, FileSource
from poolformer.run import trainer as run_trainer
from poolformer.run.reproducibility import changes, image_set

SHORT = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"]
SHORT += ["--model.warmup_epochs", "0", "--model.cooldown_epochs", "0", "--trainer.num_sanity_val_steps", "0"]
DIGITS = [*SHORT, "--trainer.limit_train_batches", "4", "--trainer.limit_val_batches", "1", "--data.batch_size", "8"]

pytestmark = pytest.mark.filterwarnings("ignore:`_get_value` was deprecated")


class Idle(Callback):
    """Changes nothing and keeps nothing."""


class Clips(Callback):
    def on_before_optimizer_step(self, *_): ...


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """Train in an empty directory; return the exit code and what was said of other options."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    of_a_run = run_trainer.callbacks_of_a_run

    def fit(*options, base=DIGITS, callbacks=(), epochs=1) -> tuple[int, str]:
        with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            patch.setattr(
                run_trainer,
                "callbacks_of_a_run",
                lambda run, *, logs: [*callbacks, *of_a_run(run, logs=logs)],
            )
            words = ["fit", *base, "--trainer.max_epochs", epochs, "--trainer.default_root_dir", "run", *options]
            code = cli.main([*map(str, words)])
        return code, "".join(str(one.message) for one in said if "with other options: " in str(one.message))

    return fit


def resumed(fit, *options, **given) -> str:
    code, said = fit("--ckpt_path", "last", *options, **given)
    assert code == 0
    return said.partition("options: ")[2]


@pytest.mark.slow
def test_what_is_other_when_a_run_resumes_is_said_and_nothing_else(fit, monkeypatch):
    ema = [EMAWeightAveraging()]
    assert fit(callbacks=[Idle(), Clips()]) == (0, "")
    assert resumed(fit, callbacks=[Clips()], epochs=2) == ""
    said = resumed(
        fit,
        *("--trainer.precision", "bf16-mixed", "--trainer.gradient_clip_val", 1, "--trainer.deterministic", "true"),
        *("--trainer.gradient_clip_algorithm", "value", "--trainer.limit_train_batches", 6),
        *("--trainer.limit_val_batches", 2, "--trainer.val_check_interval", 3, "--trainer.check_val_every_n_epoch", 2),
        *("--trainer.accumulate_grad_batches", 3),
        callbacks=ema,
        epochs=4,
    )
    assert said == ", ".join(
        (
            'precision "bf16-mixed" (was "32-true")',
            "accumulate_grad_batches 3 (was 1)",
            "gradient_clip_val 1 (was null)",
            'gradient_clip_algorithm "value" (was null)',
            "batches_per_epoch 6 (was 4)",
            "limit_train_batches 6 (was 4)",
            "limit_val_batches 2 (was 1)",
            "val_check_interval 3 (was 1.0)",
            "check_val_every_n_epoch 2 (was 1)",
            "deterministic true (was false)",
            'callbacks ["EMAWeightAveraging"] (was ["Clips"])',
        )
    )
    torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_another_option_of_the_optimiser_is_said_and_holds(fit, monkeypatch):
    assert fit() == (0, "")
    configure = ImageClassifier.configure_optimizers

    def with_other_betas(self):
        made = configure(self)
        made["optimizer"] = torch.optim.AdamW(made["optimizer"].param_groups, lr=1e-3, betas=(0.8, 0.9))
        for group in made["optimizer"].param_groups:
            group["betas"] = (0.8, 0.9)
        made["lr_scheduler"]["scheduler"].optimizer = made["optimizer"]
        return made

    seen = []
    monkeypatch.setattr(ImageClassifier, "configure_optimizers", with_other_betas)
    monkeypatch.setattr(
        ImageClassifier,
        "on_train_epoch_start",
        lambda self: seen.extend(group["betas"] for group in self.trainer.optimizers[0].param_groups),
    )
    assert resumed(fit, epochs=2) == "optimizer_betas [0.8, 0.9] (was [0.9, 0.999])"
    assert seen == [(0.8, 0.9)] * 2


@pytest.mark.slow
def test_other_images_are_said_and_the_same_ones_elsewhere_are_not(fit, tmp_path):
    images = write_class_folders(tmp_path / "images", images=4)
    base = [*SHORT, "--data", "FolderData", "--data.train", "images", "--data.image_size", "32"]
    base += ["--data.batch_size", "4", "--model.backbone", "poolformer_tiny", "--model.num_classes", "3"]
    assert fit("--data.val", "images", base=base) == (0, "")
    shutil.copytree(images, tmp_path / "copied")
    assert resumed(fit, "--data.val", "copied", base=base, epochs=2) == ""
    first = next(path for path in sorted((tmp_path / "copied").rglob("*")) if path.is_file())
    shutil.copy(first, first.with_stem("another"))
    said = resumed(fit, "--data.val", "copied", base=base, epochs=3)
    assert "val_images 13 (was 12)" in said
    assert 'val "copied" (was ' not in said  # the folder that it was called before
    assert "files of the validation images (changed)" in said
    assert "train" not in said


# ---- without a run


def test_what_is_long_is_compared_to_its_end():
    assert len(changes({"mixer_options": "x" * 200 + "a"}, {"mixer_options": "x" * 200 + "b"})) == 1
    assert changes({"mean": (0.5, 0.5), "lr": 1}, {"mean": [0.5, 0.5], "lr": 1.0}) == []
    assert changes({"limit_val_batches": 1}, {"limit_val_batches": 1.0}) == ["limit_val_batches 1.0 (was 1)"]


@pytest.mark.parametrize("unknown", [float("inf"), None])
def test_batches_that_nobody_has_counted_are_no_change(unknown):
    assert changes({"batches_per_epoch": unknown}, {"batches_per_epoch": 3}) == []
    assert changes({"batches_per_epoch": 3}, {"batches_per_epoch": unknown}) == []
    assert changes({"batches_per_epoch": 3}, {"batches_per_epoch": 4}) == ["batches_per_epoch 4 (was 3)"]


def test_a_checkpoint_without_these_facts_says_nothing_of_them():
    assert changes({"devices": 1}, {"devices": 1, "precision": "bf16-mixed", "val_files": "a"}) == []


def test_another_path_is_said_unless_its_files_are_known_to_be_the_same():
    before, now = {"val": "a", "val_files": "1"}, {"val": "b", "val_files": "1"}
    assert changes(before, now) == []
    assert changes(before, {**now, "val_files": "2"}) == [
        'val "b" (was "a")',
        "files of the validation images (changed)",
    ]
    assert changes({"val": "a"}, now) == ['val "b" (was "a")']


def write_beton(path: Path, *, value: int) -> BetonSource:
    with BetonWriter(path, capacity=2) as writer:
        for label in range(2):
            writer.add(Stored(RAW, 4, 4, torch.full((48,), value, dtype=torch.uint8).numpy()), label)
        writer.finish(["a", "b"], {})
    return BetonSource(Beton(path))


def test_a_file_that_was_packed_anew_under_its_name_is_another(tmp_path):
    first, again = (write_beton(tmp_path / "x.beton", value=7).fingerprint for _ in range(2))
    other = write_beton(tmp_path / "x.beton", value=8).fingerprint
    assert first == again != other


def test_a_folder_is_another_when_a_name_or_a_size_is(tmp_path):
    folder = write_class_folders(tmp_path / "a" / "images", images=2)
    moved = shutil.copytree(folder, tmp_path / "b" / "images")

    def fingerprint(root: Path) -> str:
        return FileSource([str(path) for path in sorted(root.rglob("*")) if path.is_file()], []).fingerprint

    assert fingerprint(folder) == fingerprint(moved)
    one = next(path for path in sorted(moved.rglob("*")) if path.is_file())
    one.write_bytes(one.read_bytes() + b"x")
    changed = fingerprint(moved)
    one.rename(one.with_stem("renamed"))
    assert len({fingerprint(folder), changed, fingerprint(moved)}) == 3


def test_the_images_of_pytorch_s_own_loader_are_known_by_their_targets():
    class Images(list):
        targets = (0, 1, 1)

    loader = torch.utils.data.DataLoader(Images([1, 2, 3]))
    assert image_set(loader, "val")["val_images"] == 3
    assert image_set(loader, "val")["val_labels"] != image_set(torch.utils.data.DataLoader(Images()), "train")
    assert image_set(torch.utils.data.DataLoader([1, 2]), "train") == {"train_images": 2}
    assert image_set([], "train") == {}
