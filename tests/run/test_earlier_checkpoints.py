"""A run of an earlier version is resumed and evaluated: its files were written before the modules were moved.

Its weights are zeros, so that the file is small.
"""

import lzma
from pathlib import Path

import pytest
import yaml
from command_line import LAST, ONE_EPOCH

from poolformer.checkpoint.reading import read

EARLIER = Path(__file__).parent / "earlier"


@pytest.fixture
def run_dir(work) -> Path:
    """The run's directory."""
    (work / "runs" / "digits" / "checkpoints").mkdir(parents=True)
    (work / "runs" / "digits" / "config.yaml").write_bytes((EARLIER / "config.yaml").read_bytes())
    (work / "runs" / "digits" / LAST).write_bytes(lzma.decompress((EARLIER / "last.ckpt.xz").read_bytes()))
    return Path("runs/digits")


@pytest.mark.slow
def test_it_is_resumed(call, run_dir):
    options = ["--ckpt_path", "last", "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1"]
    done = call("fit", "--config", run_dir / "config.yaml", *options)
    assert done.code == 0, done.err
    assert "other options" not in done.err
    saved = read(run_dir / LAST)
    assert (saved["epoch"], saved["global_step"]) == (1, 4)
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["model"]["mixer"] == "depthwise"


@pytest.mark.slow
def test_it_is_evaluated(call, run_dir):
    done = call("validate", "--config", run_dir / "config.yaml", "--ckpt_path", "last")
    assert done.code == 0, done.err
    assert "val/top1" in done.out


@pytest.mark.slow
def test_its_configuration_trains_again(call, run_dir):
    done = call("fit", "--config", run_dir / "config.yaml", *ONE_EPOCH)
    assert done.code == 0, done.err
    assert (run_dir / "previous" / "1" / LAST).is_file()
