"""What a run was made by: pasted back, it has to be the same run."""

import shlex
import subprocess

import lightning.pytorch as pl

from poolformer.data import DigitsData
from poolformer.run.surroundings import command, commits, data_facts, machine


def test_the_command_can_be_pasted():
    words = ["fit", "--model.mixer", "{name: pooling, pool_size: 5}", "--trainer.default_root_dir", "my run"]
    assert shlex.split(command(["/usr/local/bin/poolformer", *words])) == ["poolformer", *words]
    assert command(["/src/poolformer/__main__.py", "fit"]) == "poolformer fit"
    assert command(["train.py", "a b"]) == "python train.py 'a b'"


def test_the_commit_is_of_the_checkout_that_the_run_is_started_in(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "of-a-hook"))
    assert "current directory" not in commits(tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    monkeypatch.delenv("GIT_DIR")
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "code.py").write_text("one")
    subprocess.run([*git, "add", "code.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert commits(tmp_path)["current directory"] == head[:12]
    (tmp_path / "code.py").write_text("two")
    assert commits(tmp_path)["current directory"] == f"{head[:12]}-dirty"


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commits(tmp_path) == {}


def test_a_trainer_without_data_has_no_numbers(tmp_path):
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    assert data_facts(trainer) == {}
    assert machine(trainer).startswith("1 x cpu (")
    trainer.datamodule = DigitsData(batch_size=6)
    assert data_facts(trainer, class_names=["a", "b"])["classes"] == 2
