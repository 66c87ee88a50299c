"""Curves beside the loss: norms against PyTorch's own, and shares and sizes that can be."""

import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, Dataset

from poolformer.classifier import ImageClassifier
from poolformer.run.stopping import StopOnSignal
from poolformer.run.training_values import TrainingValues, peak_memory_mib

pytestmark = pytest.mark.filterwarnings("ignore:.*no batch_size", "ignore:.*but have no `val_dataloader`")


class Slow(Dataset):
    """Images that take 20 ms each."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        time.sleep(0.02)
        return torch.full((3, 8, 8), index, dtype=torch.uint8), index


class Norms(Callback):
    """What the norms are, by hand, in every step."""

    def __init__(self):
        self.found = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        gradients = torch.cat([each.grad.flatten() for each in pl_module.parameters()])
        weights = torch.cat([each.detach().flatten() for each in pl_module.parameters()])
        self.found.append((float(gradients.norm()), float(weights.norm())))


def fit(folder: Path, *callbacks, **options):
    logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    options = {"log_every_n_steps": 2, "max_epochs": 1, "logger": logger, "gradient_clip_val": 0.01, **quiet, **options}
    trainer = pl.Trainer(accelerator="cpu", default_root_dir=folder, callbacks=list(callbacks), **options)
    for each in callbacks:
        if isinstance(each, StopOnSignal):
            each.attach(trainer)
    fast = {"image_size": 8, "warmup_epochs": 0, "cooldown_epochs": 0}
    trainer.fit(ImageClassifier("poolformer_tiny", 10, **fast), DataLoader(Slow(), batch_size=2))


def curves(folder: Path):
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_norms_are_those_of_the_step_before_clipping(tmp_path):
    by_hand = Norms()
    fit(tmp_path, TrainingValues(), by_hand)
    found = curves(tmp_path)
    for place, tag in enumerate(("norm/gradient", "norm/weight")):
        assert [step for step, _ in found[tag]] == [1, 3]
        expected = [by_hand.found[step][place] for step in (1, 3)]
        assert [value for _, value in found[tag]] == pytest.approx(expected, rel=1e-5)


def test_gathered_gradients_are_one_norm(tmp_path):
    fit(tmp_path, TrainingValues(), accumulate_grad_batches=2, log_every_n_steps=1)
    assert [step for step, _ in curves(tmp_path)["norm/gradient"]] == [0, 1]


@pytest.mark.filterwarnings("ignore:.*signal")
def test_a_slow_loader_is_waited_for(tmp_path):
    fit(tmp_path, TrainingValues(), StopOnSignal())
    shares = [value for _, value in curves(tmp_path)["throughput/waiting_share"]]
    assert len(shares) == 2
    assert all(0 < share <= 1 for share in shares)


@pytest.mark.parametrize("name", ["norms", "memory"])
def test_each_can_be_left_out(tmp_path, name):
    fit(tmp_path, TrainingValues(without=[name]))
    whole = {"norm/gradient", "norm/weight", "throughput/memory_mib"}
    left = {tag for tag in whole if name not in tag and (name != "norms" or "norm" not in tag)}
    assert curves(tmp_path).keys() & whole == left


def test_without_a_logger_nothing_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr("poolformer.run.training_values.get_total_norm", lambda *_: pytest.fail("computed"))
    fit(tmp_path, TrainingValues(), logger=False)


def test_the_memory_of_this_process_is_that_of_a_python_with_torch():
    assert 50 < peak_memory_mib(torch.device("cpu")) < 1_000_000
