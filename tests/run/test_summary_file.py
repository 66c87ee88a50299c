"""summary.json and the files of evaluations: read back as any program reads JSON."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from runs import QUICK

from poolformer.cli.training import run
from poolformer.run.files import look
from poolformer.run.metrics import numbers
from poolformer.run.summary_file import EvaluationFile, SummaryFile, as_json

ONE = [*QUICK, "--trainer.max_epochs", "1", "--model.warmup_epochs", "0"]


def read(path: Path) -> dict:
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "digits"
    run("fit", [*ONE, "--trainer.default_root_dir", str(folder)])
    return folder


@pytest.mark.slow
def test_a_training_leaves_its_summary(run_dir):
    summary = read(run_dir / "summary.json")
    assert (summary["verb"], summary["status"]) == ("fit", "finished")
    assert (summary["epochs"], summary["steps"], summary["images"]) == (1, 4, 64)
    assert summary["best"] == {"val/top1": summary["metrics"]["val/top1"], "checkpoint": "checkpoints/best.ckpt"}
    assert summary["hyper_parameters"]["mixer"] == "pooling"
    assert summary["data"]["train_images"] == 1437
    assert summary["parameters"] > 0
    assert run_dir / "summary.json" in look(run_dir).files


@pytest.mark.slow
def test_each_evaluation_leaves_a_file_of_its_own(run_dir):
    for _ in range(2):
        run("validate", ["--ckpt_path", str(run_dir / "checkpoints" / "last.ckpt"), "--trainer.accelerator", "cpu"])
    first, second = (read(run_dir / f"validate-{number}.json") for number in (1, 2))
    assert first["metrics"] == second["metrics"]
    assert first["metrics"]["val/images"] == 360
    assert Path(first["checkpoint"]).name == "last.ckpt"


class Fails(Callback):
    """Raises in the second step."""

    def __init__(self, error: BaseException):
        self.error = error

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 1:
            raise self.error


@pytest.mark.slow
def test_a_run_that_fails_leaves_its_summary_too(fit, tmp_path):
    with pytest.raises(ArithmeticError):
        fit(tmp_path / "run", callbacks=[Fails(ArithmeticError("no"))])
    summary = read(tmp_path / "run" / "summary.json")
    assert (summary["status"], summary["steps"]) == ("failed", 1)


def trainer(folder, **options):
    return SimpleNamespace(default_root_dir=str(folder), **options)


def test_a_run_that_did_not_start_leaves_the_summary_of_the_one_before(tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    SummaryFile().on_exception(trainer(tmp_path), None, KeyboardInterrupt())
    assert (tmp_path / "summary.json").read_text() == "{}"


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path):
    (tmp_path / "file").touch()
    board = trainer(
        tmp_path / "file",
        state=SimpleNamespace(fn=None),
        fast_dev_run=False,
        callback_metrics={"a": torch.tensor(1.0)},
        callbacks=[],
        ckpt_path=None,
        train_dataloader=None,
        val_dataloaders=None,
        test_dataloaders=None,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        world_size=1,
        precision="32-true",
    )
    with pytest.warns(UserWarning, match="cannot be written"):
        EvaluationFile().on_test_end(board, None)


def test_numbers_that_are_none_are_null():
    found = json.loads(as_json({"loss": math.nan, "more": [math.inf, {"a": Path("b")}], "n": 1}))
    assert found == {"loss": None, "more": [None, {"a": "b"}], "n": 1}


def test_metrics_of_several_values_are_left_out():
    assert numbers({"b": torch.tensor(2.0), "a": 1, "c": torch.zeros(2)}) == {"a": 1.0, "b": 2.0}
