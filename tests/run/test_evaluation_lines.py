"""What a log file says of an evaluation that takes long."""

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from poolformer.run.evaluation_lines import EvaluationLines


class Clock:
    """A clock that goes on by ten seconds each time it is asked."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 10
        return self.now


class Module(pl.LightningModule):
    def step(self, batch, batch_idx):
        return batch

    validation_step = test_step = predict_step = step


@pytest.mark.parametrize(
    ("verb", "work", "bar"),
    [("validate", "validated", False), ("test", "tested", False), ("predict", "predicted", True)],
)
def test_a_log_file_says_how_far_it_is_and_a_bar_shows_it_itself(verb, work, bar, tmp_path, capsys):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}
    lines = EvaluationLines(Clock())
    trainer = pl.Trainer(**quiet, enable_progress_bar=bar, default_root_dir=tmp_path, callbacks=[lines])
    getattr(trainer, verb)(Module(), DataLoader(torch.zeros(3, 1)))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith(work)]
    assert said == ([] if bar else [f"{work} 1 of 3 batches  0:40 left"])
