"""An empty directory with overlays, and the command called in it."""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from ablations import write_files

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.ablation import runs as ablation
from poolformer.ablation.runs import Run
from poolformer.cli import dispatch as cli


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """An empty current directory, but for overlays."""
    return write_files(tmp_path / "work", monkeypatch)


@pytest.fixture
def call(work, capsys) -> Callable[..., tuple[int, str, str]]:
    """Call the command in this process: exit code, stdout, stderr. Nothing is trained where all is finished."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with warnings.catch_warnings():
            show = warnings.formatwarning
            try:
                code = cli.main(["ablate", *arguments])
            finally:
                warnings.formatwarning = show
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def train(work, monkeypatch, capfd) -> Callable[..., str | None]:
    """Train a run in this process, which is afterwards as it was: output, filters, the command line."""
    monkeypatch.setattr(sys, "argv", ["poolformer", "ablate"])

    def train(run: Run) -> str | None:
        logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
        filters, show, kept = list(logger.filters), warnings.formatwarning, dict(os.environ)
        outputs = [os.dup(1), os.dup(2)]
        try:
            with warnings.catch_warnings(), capfd.disabled():
                return ablation.train(run)
        finally:
            sys.__stdout__.flush()
            for number, output in enumerate(outputs, start=1):
                os.dup2(output, number)
                os.close(output)
            logger.filters[:], warnings.formatwarning = filters, show
            os.environ.clear()
            os.environ.update(kept)

    return train
