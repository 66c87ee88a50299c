"""What ends a run that has gone wrong: numbers that are not finite, checkpoints that cannot be written."""

import math

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from poolformer.checkpoint.reading import read
from poolformer.checkpoint.writing import SafeCheckpointIO
from poolformer.errors import ConfigError, RunError
from poolformer.run.guards import DiskSpace, FiniteTraining


class Breaks(pl.LightningModule):
    """Its loss is the weight times a factor, which stops being finite at a step."""

    def __init__(self, step: int, factor: float, *, gradient: float | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.step, self.factor, self.gradient = step, factor, gradient

    def training_step(self, batch, index):
        breaks = self.global_step == self.step
        if breaks and self.gradient is not None:
            self.weight.register_hook(lambda gradient: gradient * self.gradient)
        return self.weight.sum() * (self.factor if breaks else 1)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def fit(folder, model, *, every: int, guarded: bool = True, save: str = "every step"):
    """Train two epochs of 10 steps, saving every step or at the end of each epoch."""
    when = {"every step": {"every_n_train_steps": 1}, "every epoch": {"save_on_train_epoch_end": True}}[save]
    keep = ModelCheckpoint(dirpath=folder, filename="last", enable_version_counter=False, **when)
    silence = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        log_every_n_steps=every,
        callbacks=[keep, *([FiniteTraining(folder)] if guarded else [])],
        plugins=[SafeCheckpointIO()],
        **silence,
    )
    trainer.fit(model, DataLoader(torch.zeros(10, 1)))
    return trainer


def all_finite(path) -> bool:
    return bool(read(path)["state_dict"]["weight"].isfinite().all())


@pytest.mark.parametrize("factor", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("every", "found_at"),
    # It breaks in the 13th step, the third of the second epoch: points of the log count steps; an epoch's end is one.
    [(1, 13), (4, 16), (50, 20)],
)
def test_a_loss_that_is_not_finite_ends_training_and_is_not_saved(tmp_path, factor, every, found_at):
    # Saved only with the epoch: the weights, which are looked at before a save, would be found first.
    with pytest.raises(RunError) as caught:
        fit(tmp_path, Breaks(12, factor), every=every, save="every epoch")
    said = f"the loss is not finite at step {found_at} (epoch 1, lr 0.1): training ends; "
    assert str(caught.value).startswith(f"{said}the last good checkpoint is '{tmp_path}/last.ckpt'")
    assert all_finite(tmp_path / "last.ckpt")
    assert read(tmp_path / "last.ckpt")["global_step"] == 10


def test_a_gradient_that_is_not_finite_is_not_saved_though_the_loss_is(tmp_path):
    with pytest.raises(RunError, match=r"^weight is not finite at step 13"):
        fit(tmp_path, Breaks(12, 1.0, gradient=math.inf), every=50)
    assert all_finite(tmp_path / "last.ckpt")
    assert read(tmp_path / "last.ckpt")["global_step"] == 12


class Masked(Breaks):
    """Has a mask of -inf, known by two names, and a buffer that is finite until it is broken in a step."""

    def __init__(self, step: int = -1):
        super().__init__(step, 1.0)
        mask = torch.full((2, 2), -math.inf).triu(1)
        self.register_buffer("mask", mask)
        self.register_buffer("same_mask", mask)
        self.register_buffer("average", torch.zeros(2))

    def training_step(self, batch, index):
        if self.global_step == self.step:
            self.average[1] = math.nan
        return super().training_step(batch, index)


def test_a_buffer_that_is_infinite_by_design_is_trained_with_and_saved(tmp_path):
    fit(tmp_path, Masked(), every=50)
    saved = read(tmp_path / "last.ckpt")
    assert saved["global_step"] == 20
    assert saved["state_dict"]["mask"][0, 1] == -math.inf


def test_a_buffer_that_stops_being_finite_is_named_and_not_saved(tmp_path):
    with pytest.raises(RunError, match=r"^average is not finite at step 13"):
        fit(tmp_path, Masked(12), every=50)
    saved = read(tmp_path / "last.ckpt")
    assert saved["global_step"] == 12
    assert saved["state_dict"]["average"].isfinite().all()


def test_a_state_of_the_optimiser_that_is_not_finite_is_named_and_not_saved(tmp_path):
    # Its square is beyond float32; the step is divided by that, so that the weight itself stays finite.
    with pytest.raises(RunError, match=r"^the optimiser's exp_avg_sq of weight is not finite at step 13"):
        fit(tmp_path, Breaks(12, 1.0, gradient=1e30), every=50)
    assert read(tmp_path / "last.ckpt")["global_step"] == 12


def test_without_a_checkpoint_it_is_said(tmp_path):
    with pytest.raises(RunError, match="there is no checkpoint yet"):
        fit(tmp_path, Breaks(0, math.nan), every=1)
    assert list(tmp_path.iterdir()) == []


def test_lightning_alone_trains_on_and_saves_it(tmp_path):
    """Why there is a guard."""
    fit(tmp_path, Breaks(12, math.nan), every=1, guarded=False)
    assert not all_finite(tmp_path / "last.ckpt")


def start(folder):
    """Begin to train with checkpoints in a folder."""
    silence = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    guard = DiskSpace(folder, resumes=False)
    options = {"accelerator": "cpu", "max_steps": 1, "enable_checkpointing": False, "callbacks": [guard], **silence}
    pl.Trainer(**options).fit(Breaks(1, 1.0), DataLoader(torch.zeros(10, 1)))


@pytest.mark.parametrize("below", ["checkpoints", "run/checkpoints"])
def test_trying_the_disk_leaves_nothing_on_it(tmp_path, below):
    start(tmp_path / below)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_refused_with_the_systems_reason(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"no checkpoint can be written to '.*/file' \(Not a directory\): make it"):
        start(tmp_path / "file" / "run" / "checkpoints")
