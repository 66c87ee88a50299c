"""The commands of README.md and docs/ do what is said: each is run, on images of a few pixels, for a step or two.

What can be checked without running anything, options and links, is checked in test_docs.py for all documents.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import forked
import pytest
import torch
from PIL import Image

from poolformer.ablation.rows import find_row
from poolformer.backbones import create_backbone
from poolformer.cli.dispatch import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shell_lines(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines() if line]


COMMANDS = shell_lines(README)
# Of the documents behind it, what it does not have itself; they may use what its own commands have made.
DEEPER = {
    line: None
    for path in [*sorted(ROOT.glob("docs/*.md")), ROOT / "configs" / "README.md"]
    for line in shell_lines(path.read_text(encoding="utf-8"))
    if line not in COMMANDS and "+compile" not in line  # candidates of bench: a minute of compiling each
}
# What makes a command short and independent of the machine; the words before it are the README's own.
SHORT = (
    "--trainer.max_epochs 1 --trainer.limit_train_batches 1 --trainer.limit_val_batches 1 "
    "--trainer.accelerator cpu --trainer.devices 1"
)
RESUMED = SHORT.replace("max_epochs 1", "max_epochs 2")
ON_A_CPU = "--image_size 32 --batch_size 2 --rounds 1 --device cpu"
ON_IMAGES = "--data.batch_size 2 --data.num_workers 0 --data.image_size 64"


def test_the_readme_has_commands():
    assert len(COMMANDS) > 12
    assert any(line.startswith("poolformer fit") for line in COMMANDS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a run of one step: nothing to log, classes without images
def test_every_command_runs_in_the_order_of_the_readme_and_then_those_of_docs(tmp_path, monkeypatch, on_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugins").symlink_to(ROOT / "plugins")
    write_images(tmp_path / "imagenet")
    write_images(tmp_path / "pets")
    write_images(tmp_path / "data" / "cifar10", splits=("train", "test"), classes=map(str, range(10)))
    for name in ("dog.jpg", "cat.jpg"):
        Image.new("RGB", (48, 40)).save(tmp_path / name)
    torch.save(create_backbone("poolformer_s12").state_dict(), tmp_path / "poolformer_s12.pth.tar")
    site = tmp_path / "site"
    site.mkdir()
    on_path(site)
    for line in [*COMMANDS, *DEEPER]:
        run(line, site)
    # A later command trains there once more, and what the run had is then in previous/1.
    assert list((tmp_path / "runs" / "digits").rglob("predictions.csv"))
    assert (tmp_path / "runs" / "my_idea" / "checkpoints" / "last.ckpt").is_file()


def run(line: str, site: Path) -> None:
    program, *words = shlex.split(line)
    if program in ("poolformer", ".venv/bin/poolformer"):
        extra = (RESUMED if "--ckpt_path" in words else SHORT).split() if words[0] in ("fit", "ablate") else []
        if words[0] == "fit" and "--config" in words and "--log_without" not in words:
            extra += ["--log_without", "all"]  # pictures are of the runs without a file, which have the small network
        extra += ON_A_CPU.split() if words[0] == "bench" else []
        if words[0] == "judge":
            Path("short.yaml").write_text("kind: probes\ntasks: {order: [6]}\nsettings: {steps: 2}\nrows: [pooling]\n")
            extra += ["--protocol", "short.yaml", "--seeds", "0"]
        extra += ON_IMAGES.split() if {"--data.train", "--data.val"} & {*words} else []
        if words[0] == "ablate":
            # Each run has a process of its own: one seed is enough, and one row where the document trains all.
            own, _, flags = line.partition(" -- ")
            # Of rows that a document names the first is trained, the others are found.
            named = re.search(r" --rows((?: [^-\s]\S*)+)", own)
            rows = named[1].split() if named else ["base"]
            for row in rows:
                find_row(row)
            words = [*shlex.split(own)[1:], "--rows", rows[0], "--seeds", "0", "--", *shlex.split(flags)]
        if words[0] in ("ablate", "judge"):  # they fork more, which a process without threads does in no time
            done = forked.run("-m", "poolformer", *words, *extra, env=os.environ | {"PYTHONPATH": str(site)})
            assert done.returncode == 0, (line, done.stderr)
            return
        try:
            code = main([*words, *extra])
        except SystemExit as left:  # as --print_config ends
            code = left.code
        assert code == 0, line
    elif program == "pip":
        folder = words[-1]
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*install, "--target", str(site), f"./{folder}"], check=True)
    elif program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
    elif program == "tensorboard":
        subprocess.run([sys.executable, "-m", "tensorboard.main", "--inspect", *words], check=True, capture_output=True)
    else:  # making the environment is what `make` has done before this test runs
        assert program in ("python3", ".venv/bin/python"), line


def write_images(
    folder: Path,
    splits: Iterable[str] = ("train", "val"),
    classes: Iterable[str] = ("n01440764", "n01443537"),
) -> None:
    classes = list(classes)
    for split in splits:
        for label, name in enumerate(classes):
            for index in range(2):
                path = folder / split / name / f"{index}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (48, 40), (20 * label, 50 * index, 0)).save(path)


def test_nothing_is_left_to_be_filled_in():
    for path in [ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("configs/**/*.yaml")]:
        assert not re.search(r"\bRESULTS?\b|val/top1 \.\.\.", path.read_text(encoding="utf-8")), path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's, of a run without a logger
def test_the_python_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    names = {}
    exec(example, names)
    assert len([line for line in example.splitlines() if line]) <= 15
    assert names["logits"].shape == (2, 10)
    assert names["metrics"]["val/images"] == 360
    assert [tuple(level.shape[1:]) for level in names["pyramid"]] == [
        (64, 56, 56),
        (128, 28, 28),
        (320, 14, 14),
        (512, 7, 7),
    ]
