"""A batch that cannot be read ends a run with every whole step saved, and the run goes on once the image is mended."""

from pathlib import Path

import pytest
from data_images import write_class_folders
from runs import DRAWS, SHORT, assert_same_run, last

from poolformer.data import FolderData

pytestmark = [
    pytest.mark.filterwarnings("ignore:`_get_value` was deprecated"),
    pytest.mark.filterwarnings("ignore:the run is resumed with other options. files of"),  # mended
]


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Of 24 images to train on and 24 to validate on, six batches each."""
    return write_class_folders(tmp_path / "train", images=8), write_class_folders(tmp_path / "val", images=8)


def of_images(train: Path, val: Path, *options: str) -> list[str]:
    base = [*SHORT, *DRAWS, "--data", "FolderData", "--data.train", str(train), "--data.val", str(val)]
    base += ["--data.image_size", "32", "--data.batch_size", "4", "--model.backbone", "poolformer_tiny"]
    base += ["--model.num_classes", "3", "--model.warmup_epochs", "0", "--trainer.max_epochs", "2"]
    return [*base, "--data.num_workers", "1", "--model.cooldown_epochs", "0", "--seed_everything", "0", *options]


def trained_on(train: Path, batch: int) -> Path:
    """An image of a batch of the first epoch."""
    data = FolderData(str(train), str(train), batch_size=4, image_size=32, seed=0)
    data.setup("fit")
    return Path(data._sources["train"].paths[data.train_dataloader().batch_indices(batch)[1]])


def fails_and_goes_on(fit, capsys, base: list[str], broken: Path, step: int) -> None:
    assert fit("whole", base=base) == 0
    sound = broken.read_bytes()
    broken.write_bytes(sound[:-40])
    capsys.readouterr()
    assert fit("run", base=base) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"poolformer: error: '{broken}': damaged JPEG")
    assert error.endswith(f"; stopped after step {step}, which is saved in 'run/checkpoints/last.ckpt'")
    assert last("run")["global_step"] == step
    broken.write_bytes(sound)
    assert fit("run", "--ckpt_path", "last", base=base) == 0
    assert_same_run("whole", "run")


@pytest.mark.slow
@pytest.mark.parametrize(("gathered", "batch", "step"), [(1, 4, 4), (2, 3, 1)], ids=["each", "inside a step"])
def test_an_image_to_train_on_costs_no_whole_step(fit, folders, capsys, gathered, batch, step):
    base = of_images(*folders, "--trainer.accumulate_grad_batches", str(gathered))
    fails_and_goes_on(fit, capsys, base, trained_on(folders[0], batch), step)


@pytest.mark.slow
def test_an_image_to_validate_on_costs_no_step(fit, folders, capsys):
    broken = sorted(folders[1].rglob("*.JPEG"))[-1]  # which the check before training does not reach
    fails_and_goes_on(fit, capsys, of_images(*folders), broken, 6)


@pytest.mark.slow
def test_a_run_that_skips_goes_on_and_says_how_many(fit, folders, capsys):
    for broken in (trained_on(folders[0], 4), sorted(folders[1].rglob("*.JPEG"))[-1]):
        broken.write_bytes(broken.read_bytes()[:-40])
    with pytest.warns(UserWarning, match="1 of 24 images cannot be read") as told:
        assert fit("run", "--data.on_error", "skip", base=of_images(*folders)) == 0
    texts = {str(each.message).partition(" cannot be read")[0] for each in told if "of 24 images" in str(each.message)}
    assert texts == {"epoch 0: 1 of 24 images", "epoch 1: 1 of 24 images", "1 of 24 images"}
