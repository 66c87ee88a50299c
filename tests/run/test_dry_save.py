"""Whatever callbacks, hyper-parameters and loaders keep: a run resumes with it, or is refused when it starts."""

import os
import warnings
from pathlib import Path

import pytest
import yaml

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.checkpoint.reading import read_run
from poolformer.cli import dispatch as cli

SHORT = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"]
SHORT += ["--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1", "--model.warmup_epochs", "0"]
SHORT += ["--model.cooldown_epochs", "0"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:`_get_value` was deprecated"),
    pytest.mark.filterwarnings("ignore:Be aware that when using .ckpt_path."),
]

CALLBACKS = '''
import argparse, collections, datetime, enum, pathlib
import numpy as np
import torch
from lightning.pytorch.callbacks import BackboneFinetuning, Callback, ModelCheckpoint, Timer


class Word(str, enum.Enum):
    A = "a"


VALUES = {
    "texts": {"at": "12:30", "b": "a::b", "c": "https://example.org", "d": "../imagenet", "dir": "s3://bucket/x"},
    "numbers": [float(n) for n in range(150_000)],
    "numpy": {"scalar": np.float64(0.5), "flag": np.bool_(True), np.int64(3): np.arange(3), "text": np.str_("x")},
    "paths": [pathlib.Path("a/b"), {"c": pathlib.PurePosixPath("/d")}],
    "kinds": {"d": collections.defaultdict(list, a=[1]), "q": collections.deque([1, 2], 5), "w": Word.A,
              "o": collections.OrderedDict(b=1), "c": collections.Counter("aab"), "f": frozenset([1]), "s": {1, 2}},
    "tensors": {"best": torch.tensor(float("inf")), "some": [torch.ones(2)], "size": torch.Size([1])},
    "datetime": datetime.datetime(2026, 1, 1),
    "namespace": argparse.Namespace(a=1),
    "function": lambda: 0,
    "itself": (lambda l: (l.append(l), l)[1])([]),
}


class Keeps(Callback):
    """Keeps a value in its state, from an epoch on; 'hook' has it added in on_save_checkpoint."""

    def __init__(self, value: str, epoch: int = 0, hook: bool = False):
        self.name, self.value, self.epoch, self.hook, self.now = value, VALUES[value], epoch, hook, -1

    @property
    def state_key(self):
        return f"{type(self).__qualname__}{{'name': {self.name!r}}}"

    def on_train_epoch_start(self, trainer, pl_module):
        self.now = trainer.current_epoch

    def state_dict(self):
        return {"since": {"first": [1, self.value]} if self.now >= self.epoch and not self.hook else None}

    def load_state_dict(self, state):
        assert self.hook or state["since"]["first"][0] == 1

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        if self.hook and trainer.current_epoch >= self.epoch:
            checkpoint["of_mine"] = {"here": self.value}


class AfterTheStep(Keeps):
    """Keeps it from the end of the first batch on."""

    def on_train_epoch_start(self, trainer, pl_module): ...

    def on_train_batch_end(self, trainer, *_):
        self.now = 0


class Keeper(ModelCheckpoint):
    """A ModelCheckpoint of a user's."""


class Clock(Timer):
    """A Timer that a configuration can hold."""

    def __init__(self):
        super().__init__({"hours": 1})


class Finetunes(BackboneFinetuning):
    """Keeps the names of parameters by group of the optimiser."""

    def __init__(self):
        super().__init__(unfreeze_backbone_at_epoch=9)

    def freeze_before_training(self, pl_module): ...


class KnowsLate(Callback):
    """Has something to keep from the first validation on, or the end of the first epoch; Lightning saves after both."""

    def __init__(self, hook: str):
        setattr(self, hook, self.look)

    def look(self, trainer, pl_module):
        self.seen = trainer.global_step

    def on_train_epoch_end(self, trainer, pl_module): ...

    def on_validation_end(self, trainer, pl_module): ...

    def state_dict(self):
        return {"seen": self.seen}

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint["seen"] = self.seen


class Elsewhere(Callback):
    def state_dict(self):
        return {"best_model_path": "s3://bucket/best.ckpt"}
'''


DATA = """
import datetime

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Dated(DataLoader):
    def state_dict(self):
        return {"begun": datetime.date(2026, 1, 1)}

    def load_state_dict(self, state): ...


class Data(pl.LightningDataModule):
    batch_size = 8

    def train_dataloader(self):
        images = torch.zeros(16, 3, 32, 32, dtype=torch.uint8)
        return Dated(TensorDataset(images, torch.arange(16) % 10), batch_size=8)

    val_dataloader = train_dataloader
"""


@pytest.fixture
def fit(tmp_path, on_path, monkeypatch, capsys):
    """Train in an empty directory with callbacks of a module; return the exit code and what stderr said of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "callbacks_of_mine.py").write_text(CALLBACKS)
    on_path(tmp_path / "my")

    def fit(*options: str, callbacks=(), epochs: int = 1, data: str = "") -> tuple[int, str]:
        given = [
            {"class_path": name if "." in name else f"callbacks_of_mine.{name}", "init_args": arguments}
            for name, arguments in callbacks
        ]
        Path("own.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": given}}))
        words = ["fit", "--config", "digits", "--config", "own.yaml", *SHORT, "--trainer.max_epochs", str(epochs)]
        words += ["--data", data] if data else ["--data.batch_size", "8"]
        code = cli.main([*words, "--trainer.default_root_dir", "run", *options])
        errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        return code, "\n".join(errors)

    return fit


RESUMED = {
    "of all kinds": [
        ("AfterTheStep", {"value": "numpy"}),
        ("Keeps", {"value": "paths", "hook": True}),
        *(("Keeps", {"value": value}) for value in ("texts", "numbers", "numpy", "kinds", "tensors")),
    ],
    "Lightning's": [
        ("lightning.pytorch.callbacks.EarlyStopping", {"monitor": "val/loss", "mode": "min"}),
        ("lightning.pytorch.callbacks.EMAWeightAveraging", {}),
        ("Clock", {}),
        ("Finetunes", {}),
        ("lightning.pytorch.callbacks.GradientAccumulationScheduler", {"scheduling": {0: 1}}),
        ("lightning.pytorch.callbacks.LambdaCallback", {}),
        ("lightning.pytorch.callbacks.DeviceStatsMonitor", {}),
        ("Keeper", {"monitor": "val/loss", "filename": "mine", "dirpath": "kept"}),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("callbacks", RESUMED.values(), ids=RESUMED)
def test_a_run_resumes_with_what_its_callbacks_keep(fit, callbacks):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning's callbacks, about each other
        assert fit(callbacks=callbacks, epochs=2) == (0, "")
        assert fit("--ckpt_path", "last", callbacks=callbacks, epochs=3) == (0, "")
    assert read_run("run/checkpoints/last.ckpt")["epoch"] == 2


NOT_DATA = {
    "datetime": "a datetime.datetime",
    "namespace": "an argparse.Namespace",
    "function": "the function <lambda>",
    "itself": "a list that holds itself, or too many within each other",
}
REMEDY = "which could not be read back from a checkpoint: keep a number, a string, a list or a tensor in its place"


@pytest.mark.slow
@pytest.mark.parametrize("value", NOT_DATA)
def test_what_is_no_data_is_found_when_training_starts(fit, value):
    code, said = fit(callbacks=[("AfterTheStep" if value == "datetime" else "Keeps", {"value": value})])
    name = "AfterTheStep" if value == "datetime" else "Keeps"
    place = "'since'['first'][1][0]" if value == "itself" else "'since'['first'][1]"
    assert (code, said) == (2, f"poolformer: error: callback {name} keeps {NOT_DATA[value]} as {place}, {REMEDY}")
    assert not any(Path("run/checkpoints").glob("*"))


@pytest.mark.slow
def test_what_a_hook_adds_is_found_with_the_callback_that_adds_it(fit):
    code, said = fit(callbacks=[("Keeps", {"value": "datetime", "hook": True})])
    what = "the checkpoint's entry 'of_mine', of callback Keeps, holds a datetime.datetime as 'here'"
    assert (code, said) == (2, f"poolformer: error: {what}, {REMEDY}")


@pytest.mark.slow
@pytest.mark.parametrize("hook", ["on_train_epoch_end", "on_validation_end"])
def test_a_callback_may_have_nothing_to_keep_before_the_first_save(fit, hook):
    options = ["--trainer.num_sanity_val_steps", "0"]
    assert fit(*options, callbacks=[("KnowsLate", {"hook": hook})]) == (0, "")
    assert read_run("run/checkpoints/last.ckpt")["seen"] == 2


@pytest.mark.slow
def test_what_a_loader_keeps_is_found_when_training_starts(fit, tmp_path):
    (tmp_path / "my" / "data_of_mine.py").write_text(DATA)
    code, said = fit(data="data_of_mine.Data")
    assert code == 2
    assert said.startswith("poolformer: error: the state of the loops and loaders holds a datetime.date as 'fit_loop'")


@pytest.mark.slow
def test_what_resuming_would_refuse_is_found_when_training_starts(fit):
    code, said = fit(callbacks=[("Elsewhere", {})])
    what = "a callback of it names 's3://bucket/best.ckpt', which a resumed run could delete (Elsewhere)"
    assert (code, said) == (2, f"poolformer: error: no checkpoint of this run could be used to resume it: {what}")


@pytest.mark.slow
@pytest.mark.parametrize("hook", [False, True])
def test_what_is_no_data_only_later_leaves_the_checkpoint_before(fit, hook):
    code, said = fit(callbacks=[("Keeps", {"value": "datetime", "epoch": 1, "hook": hook})], epochs=3)
    assert code == 2
    assert f"holds a datetime.datetime as 'here', {REMEDY}" in said if hook else "as 'since'['first'][1]" in said
    assert ("the checkpoint's entry 'of_mine'" if hook else "callback Keeps keeps") in said
    assert "what was there before is kept" in said
    assert read_run("run/checkpoints/last.ckpt")["epoch"] == 0
