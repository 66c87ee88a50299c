"""Rows and runs for the tests of ablations: overlays of a line, runs as planned, runs as if trained."""

from pathlib import Path

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.ablation import rows as rows_of
from poolformer.ablation import runs as ablation
from poolformer.ablation.rows import BASE
from poolformer.ablation.runs import Result, Run
from poolformer.cli.training import settings

SHORT = [
    *("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "2", "--trainer.log_every_n_steps", "1"),
    *("--model.warmup_epochs", "0", "--log_without", "all"),
]


ONE_EPOCH = [*SHORT, "--trainer.max_epochs", "1"]


OVERLAYS = {
    "identity": "# No mixing.\n# Paper: 74.3 % top-1 (table 5).\nmodel:\n  mixer: {name: identity}\n",
    "relu": "# ReLU.\n# Paper: 76.4 % top-1 (table 5).\nmodel:\n  act: relu\n",
    "attention": "# Not in the paper.\nmodel:\n  mixer: {name: attention, head_dim: 16}\n",
    "even": "# Cannot be built.\nmodel:\n  mixer: {name: pooling, pool_size: 4}\n",
    "diverging": "# Ends in NaN.\nmodel:\n  lr: 1.0e+30\n",
    "crashing": "# Raises in training.\nmodel:\n  mixer: {name: 'broken:Crash'}\n",
    "killed": "# Is killed in training, as by a system without memory.\nmodel:\n  mixer: {name: 'broken:Kill'}\n",
}


BROKEN = """
import os, signal
from torch import nn


class Crash(nn.Identity):
    def forward(self, x):
        if self.training:
            raise RuntimeError("it broke")
        return x


class Kill(nn.Identity):
    def forward(self, x):
        if self.training:
            os.kill(os.getpid(), signal.SIGKILL)
        return x
"""


def write_files(folder: Path, monkeypatch=None) -> Path:
    folder.mkdir()
    for name, text in OVERLAYS.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "broken.py").write_text(BROKEN)
    if monkeypatch:
        monkeypatch.chdir(folder)
    return folder


def planned(row: str = BASE, *flags: str, seed: int = 0) -> Run:
    found = rows_of.find_row(row)
    return ablation.plan_run(found, seed, Path("out"), ablation.fit_arguments(["digits"], found, flags))


def scalars(run_dir: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run_dir))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


RESULT = Result(0.5, 0.6, 1, 309_178, 0, 927_872, 100.0, 2.0)


def made(run: Run, *, finished: bool = True) -> dict:
    """Leave what a run leaves, as far as it is read again."""
    now = settings("fit", list(run.arguments))
    run.last_checkpoint.parent.mkdir(parents=True)
    run.last_checkpoint.touch()
    (run.directory / "config.yaml").write_text(yaml.safe_dump(now))
    if finished:
        run.save(RESULT)
    return now
