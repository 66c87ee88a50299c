"""`poolformer plot` on runs as they lie on the disk."""

import sys

import pytest
from logged import write_run

ATTENTION = {"mixer": "attention"}


@pytest.fixture
def runs(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path / "runs" / "base" / f"seed-{seed}", [0.2, 0.4, 0.5 + seed / 100], seed=seed)
        write_run(tmp_path / "runs" / "mine" / f"seed-{seed}", [0.3, 0.5], seed=seed, model=ATTENTION)
    write_run(tmp_path / "runs" / "teacher", [0.9], model={"mixer": "identity"}, **{"val/loss": 0.5})
    return tmp_path / "runs"


@pytest.mark.parametrize(("out", "start"), [("a.png", b"\x89PNG"), ("new/a.SVG", b"<?xml"), ("a.pdf", b"%PDF")])
def test_the_name_says_the_format_and_what_is_drawn_is_listed(listing, runs, tmp_path, out, start):
    pytest.importorskip("matplotlib")
    code, said, err = listing("plot", "runs", "--out", out)
    assert (code, err) == (0, "")
    assert said.splitlines() == ["base     seeds 0, 1, 2", "mine     seeds 0, 1, 2", "teacher  seed 0", out]
    assert (tmp_path / out).read_bytes().startswith(start)


def test_runs_without_the_metric_are_left_out_and_named(listing, runs, tmp_path):
    pytest.importorskip("matplotlib")
    code, said, err = listing("plot", "runs/teacher", "runs/mine/seed-0", "--metric", "val/loss")
    assert (code, err) == (0, "")
    assert said.splitlines() == ["teacher  seed 0", "left out, without val/loss: runs/mine/seed-0", "curves.png"]
    assert (tmp_path / "curves.png").is_file()


MISTAKES = [
    (["rums"], "there is no directory 'rums'. Did you mean 'runs'?"),
    (["runs/base/seed-0/config.yaml"], "'runs/base/seed-0/config.yaml' is a file: name the run's directory"),
    (["empty"], "no run has logged anything in 'empty': name a run's directory, or a folder of runs (runs/...)"),
    (
        ["runs", "--metric", "val/top2"],
        "no run has logged 'val/top2'. Did you mean 'val/top1' or 'val/loss'? Logged: val/",
    ),
    (["runs", "--metric", "val/top2"], "no run has logged 'val/top2'. Did you mean 'val/top1'"),
    (["runs", "--out", "a.jpg"], "--out a.jpg: the name ends in one of .png, .svg, .pdf"),
    (["runs", "--out", "curves"], "--out curves: the name ends in one of .png, .svg, .pdf"),
    (["runs", "--out", "folder.png"], "--out folder.png: there is a folder of that name"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line(listing, runs, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.png").mkdir()
    code, out, err = listing("plot", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"poolformer: error: {message}")


def test_without_matplotlib_the_package_to_install_is_named(listing, runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert listing("plot", "runs") == (
        2,
        "",
        "poolformer: error: the figures need another package: pip install 'poolformer-lightning[plots]'\n",
    )
