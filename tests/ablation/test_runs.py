"""Rows, runs and results, and `poolformer ablate` from end to end on two batches of the digits."""

import csv
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml
from forked import Started
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.ablation import rows as rows_of
from poolformer.ablation import runs as ablation
from poolformer.ablation.rows import BASE, Row
from poolformer.ablation.runs import Result, Run
from poolformer.backbones import PAPER_TOP1
from poolformer.cli import dispatch as cli
from poolformer.cli.training import check_start, settings
from poolformer.configs import config_names
from poolformer.errors import AmbiguousNameError, ConfigError, PoolformerError

SHORT = [
    *("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "2", "--trainer.log_every_n_steps", "1"),
    *("--model.warmup_epochs", "0"),
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


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """An empty current directory, but for overlays."""
    return write_files(tmp_path / "work", monkeypatch)


def write_files(folder: Path, monkeypatch=None) -> Path:
    folder.mkdir()
    for name, text in OVERLAYS.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "broken.py").write_text(BROKEN)
    if monkeypatch:
        monkeypatch.chdir(folder)
    return folder


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


# ---- rows


def test_the_base_comes_first_among_the_rows():
    assert rows_of.row_names()[0] == BASE
    assert all(f"ablation/{name}" in config_names() for name in rows_of.row_names()[1:])


@pytest.mark.parametrize("name", rows_of.row_names()[1:])
def test_every_packaged_row_has_the_paper_s_figure_and_fits_the_digits(name):
    row = rows_of.find_row(name)
    assert 0 < row.paper_top1 < 100
    ablation.check_builds(settings("fit", ablation.fit_arguments(["digits"], row, [])))


@pytest.mark.parametrize(("name", "fits"), [("norm-layer", True), ("hybrid-ppff", False), ("hybrid-pppa", False)])
def test_a_row_of_one_image_size_does_not_fit_growing_images(name, fits):
    flags = ["--data.train", "x", "--data.val", "x", "--config", "short/16"]
    grown = settings("fit", ablation.fit_arguments(["s12"], rows_of.find_row(name), flags))
    if fits:
        ablation.check_builds(grown)
        return
    with pytest.raises(ConfigError, match="so progressive resizing is not possible") as caught:
        ablation.check_builds(grown)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("# No mixing.\n# Paper: 74.3 % top-1 (table 5).\n", 74.3),
        ("# No mixing.\n#Paper: 81 %\n", 81.0),
        ("# In the paper: 74.3 %.\n", None),
        ("# Paper: not in it.\n", None),
        ("", None),
    ],
)
def test_the_paper_s_figure_is_read_from_the_header(work, header, expected):
    Path("own.yaml").write_text(f"{header}model:\n  act: relu  # Paper: 12.3 %\n")
    assert rows_of.find_row("own.yaml") == Row("own", Path("own.yaml"), expected, of_mixers=False)


def test_a_mixer_is_a_row_by_each_of_its_names(work, fake_plugin):
    for package in ("a-dist", "b-dist"):
        fake_plugin(
            name=package,
            entry_points={"poolformer.mixers": {"shared": "x:Y", f"of_{package[0]}": "x:Y", "relu.yaml": "x:Y"}},
        )
    for name in ("of_a", "a-dist/shared", "broken:Crash", "attention"):
        assert rows_of.find_row(name) == Row(name, mixer=name)
    with pytest.raises(AmbiguousNameError, match="write 'a-dist/shared' or 'b-dist/shared'"):
        rows_of.find_row("shared")
    assert rows_of.find_row("relu.yaml").overlay, "a file comes before a mixer"
    for name in ("identity", "random_matrix"):
        assert rows_of.find_row(name).paper_top1, "and a row of the paper, however its mixer is spelled"


@pytest.mark.parametrize("name", ["a-dist/shared", "broken:Crash"])
def test_the_runs_of_a_row_lie_in_one_folder(work, fake_plugin, name):
    fake_plugin(name="a-dist", entry_points={"poolformer.mixers": {"shared": "x:Y"}})
    run = ablation.plan_run(rows_of.find_row(name), 0, Path("out"), [])
    assert run.directory.parent.parent == Path("out")


def test_a_file_called_base_is_not_the_base(call, work):
    Path("base.yaml").write_text(OVERLAYS["relu"])
    run = ablation.plan_run(
        row := rows_of.find_row("base.yaml"), 0, Path("out"), ablation.fit_arguments(["digits"], row, [])
    )
    made(run)
    assert "| base | 76.4 |" in call("--rows", "base.yaml", "--out", "out")[1]


def test_the_row_of_a_mixer_is_the_base_with_it():
    chosen, plain = (
        settings("fit", ablation.fit_arguments(["digits"], rows_of.find_row(name), [])) for name in ("attention", BASE)
    )
    assert chosen["model"]["mixer"] == "attention"
    assert {**chosen, "model": {**chosen["model"], "mixer": plain["model"]["mixer"]}} == plain


def test_a_row_of_mixers_is_one_that_chooses_the_mixer(work):
    assert rows_of.find_row("identity.yaml").of_mixers
    assert not rows_of.find_row("relu.yaml").of_mixers
    assert rows_of.find_row(BASE).of_mixers


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("bass", r"there is no row, file or mixer 'bass'\. Did you mean 'base'\? Rows: base"),
        ("own/row.yaml", r"there is no row, file or mixer 'own/row.yaml'\. Rows: base.*; mixers: attention, "),
    ],
)
def test_an_unknown_row_is_said_with_the_nearest(work, given, message):
    with pytest.raises(ConfigError, match=message):
        rows_of.find_row(given)


BASES = [
    ([], 77.2),
    (["--model.mixer", "{name: pooling, pool_size: 3}"], 77.2),
    (["--model.mixer.pool_size", "5"], None),
    (["--model.mixer", "attention"], None),
    (["--model.norm", "layer"], None),
    (["--model.residual", "false"], None),
    (["--model.backbone", "timm/resnet18"], None),
]


@pytest.mark.parametrize(("flags", "expected"), BASES, ids=[" ".join(flags) for flags, _ in BASES])
def test_the_base_has_the_figure_of_s12_where_it_is_the_paper_s_network(work, flags, expected):
    # arXiv 2111.11418, table 5: the baseline of the ablation is PoolFormer-S12.
    base = rows_of.as_in_paper(Row(BASE), settings("fit", ["--config", "digits", *flags]))
    assert base.paper_top1 == expected
    assert PAPER_TOP1["poolformer_s12"] == 77.2


@pytest.mark.parametrize("flags", [[], ["--config", "attention.yaml"], ["--model.backbone", "poolformer_s12"]])
def test_a_model_that_can_be_built_is_found_to(work, flags):
    ablation.check_builds(settings("fit", ["--config", "digits", *flags]))


def test_a_plugin_that_needs_real_numbers_can_be_built(work):
    Path("counting.py").write_text(
        "import torch\nfrom torch import nn\n\n\n"
        "class Mixer(nn.Identity):\n"
        "    def __init__(self, dim: int):\n"
        "        super().__init__()\n"
        "        self.sum = torch.ones(dim).sum().item()\n"
    )
    ablation.check_builds(settings("fit", ["--config", "digits", "--model.mixer", "counting:Mixer"]))


def test_a_model_that_cannot_be_built_is_told_why(work):
    with pytest.raises(PoolformerError, match="pool_size must be odd"):
        ablation.check_builds(settings("fit", ["--config", "digits", "--config", "even.yaml"]))


# ---- runs


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


def planned(row: str = BASE, *flags: str, seed: int = 0) -> Run:
    found = rows_of.find_row(row)
    return ablation.plan_run(found, seed, Path("out"), ablation.fit_arguments(["digits"], found, flags))


def scalars(run_dir: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run_dir))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_a_run_is_one_of_fit_in_a_directory_of_its_own(train):
    run = planned("identity.yaml", *ONE_EPOCH, seed=3)
    assert train(run) is None
    assert run.directory == Path("out/identity/seed-3")
    config = yaml.safe_load((run.directory / "config.yaml").read_text())
    assert (config["seed_everything"], config["model"]["mixer"]) == (3, {"name": "identity"})
    assert run.last_checkpoint.is_file()
    assert "val/top1" in run.log.read_text()
    assert sys.argv[1:3] == ["fit", "--config"]  # by which Lightning starts further ranks


def test_the_result_is_what_was_logged_and_counted(train):
    run = planned(BASE, *SHORT, "--trainer.max_epochs", "2")
    assert train(run) is None
    result = run.result()
    top1 = [value for _, value in scalars(run.directory, "val/top1")]
    assert result.top1 == pytest.approx(top1[-1])
    assert result.best_top1 == pytest.approx(max(top1))
    # README: poolformer models poolformer_tiny counts ten classes alike.
    assert (result.epochs, result.parameters, result.frozen_parameters, result.macs) == (2, 309_178, 0, 927_872)
    assert 0 < result.train_s < 60
    assert result.images_per_s > 2 * 2 * 64 / result.train_s  # of its steps alone, so faster than the whole


def test_a_run_that_was_interrupted_goes_on_and_adds_up_its_time(train):
    one, two = planned(BASE, *ONE_EPOCH), planned(BASE, *SHORT, "--trainer.max_epochs", "2")
    assert train(one) is None
    before = one.result()
    (one.directory / "result.json").unlink()
    assert train(two) is None
    assert two.result().epochs == 2
    assert two.result().train_s > before.train_s
    assert [step for step, _ in scalars(two.directory, "train/loss")] == [0, 1, 2, 3]


def test_a_run_that_was_killed_before_its_result_is_only_evaluated(train):
    run = planned(BASE, *ONE_EPOCH)
    assert train(run) is None
    before = run.result()
    (run.directory / "result.json").unlink()
    assert train(run) is None
    assert run.result().top1 == pytest.approx(before.top1)
    assert run.result().epochs == 1
    assert run.result().images_per_s == pytest.approx(before.images_per_s)
    assert len(scalars(run.directory, "train/loss")) == 2


FAILURES = [
    ("even.yaml", "token mixer 'pooling' cannot be built .* pool_size must be odd", "poolformer: error: token mixer"),
    ("diverging.yaml", r"the loss is not finite at step \d+ \(epoch 0, ", "poolformer: error: the loss is not finite"),
    ("crashing.yaml", r"RuntimeError: it broke \(see 'out/crashing/seed-0.log'\)", "Traceback"),
]


@pytest.mark.filterwarnings("ignore:Encountered `nan` values in tensor")
@pytest.mark.parametrize(("row", "message", "logged"), FAILURES)
def test_a_run_that_fails_says_why_in_a_line_and_the_rest_in_its_log(train, row, message, logged):
    run = planned(row, *ONE_EPOCH)
    assert re.search(message, failure := train(run))
    assert "\n" not in failure
    assert run.result() is None
    assert logged in run.log.read_text()


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_an_epoch_has_to_be_evaluated(train):
    failure = train(planned(BASE, *ONE_EPOCH, "--trainer.limit_val_batches", "0"))
    assert failure == "val/top1 was not measured: no epoch was evaluated"


def test_two_processes_do_not_train_the_same_run(work, train):
    run = planned(BASE, *ONE_EPOCH)
    run.log.parent.mkdir(parents=True)
    code = (
        f"import fcntl, sys; f = open({str(run.log)!r}, 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert train(run) == "another process is training it (it writes 'out/base/seed-0.log')"
        other.stdin.close()
    assert not run.directory.exists()
    assert train(run) is None


# ---- what lies there already


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


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("row", "flags", "message"),
    [
        (BASE, ["--model.lr", "0.5"], r"\(model.lr 0.006, now 0.5\)"),
        (BASE, ["--model.act", "relu", "--model.mixup", "1"], r"\(model.act gelu, now relu and 1 more\)"),
        (BASE, ["--data.shift", "0.5"], r"\(data.shift 0.125, now 0.5\)"),
        (BASE, ["--model.mixer", "[pooling, pooling, pooling, pooling]"], r'\(model.mixer {"name": "pooling"}, now \['),
    ],
)
def test_runs_made_with_other_settings_are_refused(work, finished, row, flags, message):
    made(planned(row), finished=finished)
    changed = planned(row, *flags)
    end = ": take another --out, or delete that directory to train it again"
    with pytest.raises(
        ConfigError, match=f"'out/base/seed-0' was trained with other settings {message}.*{end}"
    ) as caught:
        ablation.check_settings(changed, settings("fit", list(changed.arguments)))
    assert "\n" not in str(caught.value)


def test_runs_of_another_version_of_a_mixer_are_refused(work, fake_plugin):
    entry_points = {"poolformer.mixers": {"plugged": "torch.nn:Identity"}}
    fake_plugin(name="a-dist", version="2.0", entry_points=entry_points)
    run = planned("plugged")
    now = made(run)
    run.save(replace(RESULT, mixers={"plugged": "a-dist 2.0"}))
    ablation.check_settings(run, now)
    run.save(replace(RESULT, mixers={"plugged": "a-dist 1.0"}))
    with pytest.raises(
        ConfigError, match=r"was trained with plugged of a-dist 1\.0, now plugged of a-dist 2\.0: take an"
    ):
        ablation.check_settings(run, now)


@pytest.mark.parametrize("flags", [[], ["--num_threads", "2"], ["--data.num_workers", "1"]])
def test_runs_made_with_the_same_settings_are_kept_wherever_they_run(work, flags):
    made(planned(BASE))
    again = planned(BASE, *flags)
    ablation.check_settings(again, settings("fit", list(again.arguments)))


def test_a_run_that_never_came_to_a_checkpoint_starts_anew_with_any_settings(work):
    run = planned(BASE)
    made(run, finished=False)
    run.last_checkpoint.unlink()
    changed = planned(BASE, "--model.lr", "1")
    ablation.check_settings(changed, settings("fit", list(changed.arguments)))


def test_a_result_is_read_as_it_was_saved(work):
    run = planned(BASE)
    run.directory.mkdir(parents=True)
    assert run.result() is None
    run.save(RESULT)
    assert run.result() == RESULT
    assert [path.name for path in run.directory.iterdir()] == ["result.json"]


@pytest.mark.parametrize("content", ["", "{}", '{"top1": 1}', "[]", "torn"])
def test_a_result_that_cannot_be_read_is_named(work, content):
    run = planned(BASE)
    run.directory.mkdir(parents=True)
    (run.directory / "result.json").write_text(content)
    with pytest.raises(ConfigError, match=r"'out/base/seed-0/result.json' cannot be read .* delete it"):
        run.result()


# ---- the command


MISTAKES = [
    (["--rows", "bass"], "there is no row, file or mixer 'bass'. Did you mean 'base'?"),
    (["--rows", "base", "base"], "--rows: base more than once"),
    (["--rows", "relu", "base"], "there is no row, file or mixer 'relu'. Did you mean 'act-relu' or 'relu.yaml'?"),
    (["--rows", "idenity"], "there is no row, file or mixer 'idenity'. Did you mean 'identity' or 'identity.yaml'?"),
    (["--rows", "identity", "identity.yaml"], "--rows: identity more than once (a file's row has its name without"),
    (
        ["--rows", "base", "--trainer.max_epochs", "2"],
        "there is no --trainer.max_epochs; flags for every fit stand behi",
    ),
    (["--row", "base"], "there is no --row; flags"),
    (["--out", "relu.yaml"], "--out relu.yaml: there is a file of that name"),
    (["--config", "digts"], "there is no file 'digts'"),
    (["--jobs", "0"], "--jobs 0: at least one run at a time"),
    (["--seeds", "-1"], "--seeds -1: integers from 0 to 4294967295"),
    (["--slurm", "partition=gpu"], "--slurm goes with --launcher submitit"),
    (["--", "--config", "s12"], "--config is not for every fit; use --config before '--', or a row of your own"),
    (["--", "--seed_everything=1"], "--seed_everything is not for every fit; use --seeds"),
    (["--", "--trainer.default_root_dir", "x"], "--trainer.default_root_dir is not for every fit; use --out"),
    (["--", "--model.mixer=attention"], "--model.mixer replaces what the row depthwise changes; name the rows it goes"),
    (["--rows", "relu.yaml", "--", "--model", "{act: silu}"], "--model replaces what the row relu changes"),
    (["--rows", "identity.yaml", "--", "--model.mixer.name", "pooling"], "--model.mixer.name replaces what the row"),
    (["--rows", "attention", "--", "--model.mixer.head_dim", "8"], "--model.mixer.head_dim replaces what the row"),
    (["--", "--trainer.fast_dev_run", "true"], "--trainer.fast_dev_run is not for every fit; use --trainer.max_ep"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line_before_anything_starts(call, work, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"poolformer: error: {message}")
    assert err.count("\n") == 1
    assert not Path("runs").exists()


def test_slurm_parameters_are_pairs(work, capsys):
    with pytest.raises(SystemExit):
        cli.main(["ablate", "--launcher", "submitit", "--slurm", "gpu"])
    assert "'gpu' is not KEY=VALUE" in capsys.readouterr().err


@pytest.fixture
def finished(work) -> Path:
    """Runs of two rows and two seeds that are finished with made-up results, in ``out``."""
    for row, scores in {"base": (0.70, 0.72), "identity.yaml": (0.80, 0.84), "relu.yaml": (0.6, 0.6)}.items():
        for seed, top1 in enumerate(scores):
            run = planned(row, seed=seed)
            made(run)
            run.save(Result(**{**json.loads((run.directory / "result.json").read_text()), "top1": top1}))
    return Path("out")


ROWS = ["--rows", "base", "identity.yaml", "relu.yaml", "--out", "out", "--seeds", "0", "1"]


def test_finished_runs_are_not_run_again_but_shown(call, finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    code, out, err = call(*ROWS)
    assert (code, err) == (0, "")
    assert out.startswith("runs in out: 6, finished before: 6\n")
    table = (finished / "table.md").read_text()
    assert table in out + "\n"
    assert "| base | 77.2 | 71.00 ± 1.41 (n=2) | 309,178 | 0.93 M | 100 | 2 s |" in table
    assert "| identity | 74.3 | 82.00 ± 2.83 (n=2) |" in table
    assert {path: path.stat().st_mtime_ns for path in before} == before
    rows = list(csv.DictReader((finished / "table.csv").read_text().splitlines()))
    assert [row["row"] for row in rows] == ["base", "identity", "relu"]


def test_figures_are_drawn_or_how_to_get_them_is_said(call, finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, _ = call(*ROWS)
    assert code == 0
    assert "the figures need another package: pip install 'poolformer[plots]'" in out
    assert not (finished / "top1-macs.png").exists()


def test_finished_runs_of_other_settings_end_it_in_one_line(call, finished):
    code, out, err = call(*ROWS, "--", "--trainer.max_epochs", "3")
    assert (code, out) == (2, "")
    assert err.startswith(
        "poolformer: error: 'out/base/seed-0' was trained with other settings (trainer.max_epochs 80,"
    )
    assert err.count("\n") == 1


def test_a_row_that_was_asked_for_and_cannot_be_built_is_a_failure_beside_the_others(call, finished):
    code, out, _ = call(*ROWS, "--rows", "base", "even.yaml")
    assert code == 1
    assert "| base | 77.2 |" in out
    failed = out[out.index("failed:") :]
    assert failed.splitlines()[1].startswith("  even: token mixer 'pooling' cannot be built")


def test_no_row_that_fits_is_a_failure(call, work):
    code, out, err = call("--rows", "even.yaml")
    assert code == 2
    assert err == "poolformer: error: no row fits\n"
    assert "even: token mixer 'pooling' cannot be built" in out


@pytest.mark.exhaustive
def test_runs_on_other_numbers_of_devices_are_told(call, finished):
    run = planned("identity.yaml")
    run.save(replace(run.result(), devices=4))
    _, out, _ = call(*ROWS)
    assert "not under equal conditions: runs on 1 and 4 devices" in out
    assert "not under" not in call(*ROWS, "--rows", "base", "relu.yaml")[1]


def test_what_is_wrong_with_the_base_ends_it_in_one_line(call, finished):
    code, out, err = call(*ROWS, "--rows", "base", "--", "--model.act", "gelo")
    assert (code, out) == (2, "")
    assert err.startswith("poolformer: error: --model.act got 'gelo', but expects gelu or relu or silu")


@pytest.mark.slow
def test_what_every_run_would_fail_by_is_said_once_before_any_starts(call, work):
    code, out, err = call("--rows", "base", "identity", "--out", "out", "--", "--data.batch_size", "2000")
    assert (code, out) == (2, "")
    assert err.startswith("poolformer: error: there are 1437 digits to train on, fewer than one batch of 2000")
    assert err.count("\n") == 1
    assert not (work / "out").exists()


def test_what_is_wrong_with_a_run_is_found_without_starting_it(work):
    for option, value, message in (
        ("--model.num_classes", "3", "the data has 10 classes and the model 3: pass --model.num_classes 10"),
        ("--data", "FolderData", "FolderData has no train images: pass --data.train PATH"),
        ("--trainer.strategy", "ddpp", "--trainer.strategy: You selected an invalid strategy name"),
    ):
        with pytest.raises(PoolformerError, match=re.escape(message)):
            check_start("fit", [*planned(BASE, *ONE_EPOCH).arguments, option, value])
    assert not (work / "out").exists()


def test_a_mistake_in_the_base_is_not_said_of_every_row(call, work):
    code, out, err = call("--rows", "base", "identity", "--", "--model.lr", "-1")
    assert (code, out) == (2, "")
    assert err == "poolformer: error: --model.lr got '-1.0', but expects a number from 0 up\n"


def test_what_a_run_warned_of_stands_in_its_result_and_under_the_table(call, finished):
    for row in ("base", "identity.yaml"):
        run = planned(row)
        run.save(replace(run.result(), warnings=["of all rows", f"of {run.row}"]))
    _, out, _ = call(*ROWS, "--rows", "base", "identity.yaml")
    assert "warned of:\n- all rows: of all rows\n- base: of base\n- identity: of identity\n" in out
    assert "- base: of base\n" in (finished / "table.md").read_text()


@pytest.mark.filterwarnings("always:of 1 epochs")
def test_a_run_notes_its_warnings(train, work):
    run = planned(BASE, *SHORT[:6], "--trainer.max_epochs", "1")
    assert train(run) is None
    assert any("none is left for the cosine" in text for text in run.result().warnings)


# ---- processes


def command(*arguments: str, folder: Path) -> Started:
    return Started("-m", "poolformer", "ablate", *arguments, cwd=folder)


@pytest.mark.slow
def test_rows_and_seeds_are_trained_at_once_and_failures_stop_nobody(tmp_path):
    folder = write_files(tmp_path / "work")
    rows = ["base", "identity.yaml", "even.yaml", "diverging.yaml", "crashing.yaml", "killed.yaml"]
    arguments = ["--rows", *rows, "--seeds", "0", "1", "--jobs", "2", "--out", "out", "--", *ONE_EPOCH]
    process = command(*arguments, folder=folder)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (1, "")
    for row in ("base", "identity"):
        top1 = [scalars(folder / f"out/{row}/seed-{seed}", "val/top1")[-1][1] for seed in (0, 1)]
        shown = re.search(rf"\| {row} \| [\d.]+ \| ([\d.]+) ± ([\d.]+) \(n=2\)", out)
        assert float(shown[1]) == pytest.approx(50 * sum(top1), abs=0.006)
        assert float(shown[2]) == pytest.approx(100 * abs(top1[0] - top1[1]) / 2**0.5, abs=0.006)
    assert "| diverging | - | - | - | - | - | - |" in out
    failed = out[out.index("failed:\n") :].splitlines()[1:]
    names = sorted(line.split(":")[0].strip() for line in failed)
    assert names == sorted(
        ["even", *(f"{row} seed {n}" for row in ("diverging", "crashing", "killed") for n in (0, 1))]
    )
    assert any(line.endswith("its process was killed by signal 9") for line in failed)
    for name in ("table.md", "table.csv", "top1-macs.png", "top1-params.png"):
        assert (folder / "out" / name).stat().st_size > 100


@pytest.mark.exhaustive
def test_runs_on_several_devices_are_trained_and_have_their_result_after_a_kill(tmp_path):
    folder = write_files(tmp_path / "work")
    devices = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--num_threads", "1"]
    arguments = ["--out", "out", "--rows", "base", "--", *ONE_EPOCH, *devices]
    file = folder / "out/base/seed-0/result.json"
    results = []
    for _ in range(2):
        process = command(*arguments, folder=folder)
        _, err = process.communicate(timeout=200)
        assert (process.returncode, err) == (0, "")
        results.append(json.loads(file.read_text()))
        file.unlink()  # as if killed before it was written
    assert results[0]["devices"] == 2
    again = {
        "train_s": pytest.approx(results[0]["train_s"], rel=0.5),
        "warnings": [],
    }  # nothing was trained that warned
    assert results[1] == {**results[0], **again}


@pytest.mark.slow
@pytest.mark.parametrize(
    "sign", [pytest.param(signal.SIGKILL, marks=pytest.mark.exhaustive), signal.SIGINT], ids=lambda sign: sign.name
)
def test_an_ablation_that_is_ended_leaves_no_process_and_goes_on(tmp_path, sign):
    folder = write_files(tmp_path / "work")
    epochs = 40
    arguments = ["--out", "out", "--rows", "base", "--", *SHORT, "--trainer.max_epochs", str(epochs)]
    last = folder / "out/base/seed-0/checkpoints/last.ckpt"
    process = command(*arguments, folder=folder)
    deadline = time.monotonic() + 200
    while not last.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(sign)
    _, err = process.communicate(timeout=60)
    if sign == signal.SIGINT:
        assert process.returncode == 130
        assert err == "\npoolformer ablate: interrupted; the same command resumes it\n"
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert not (folder / "out/base/seed-0/result.json").exists()
    if sign == signal.SIGINT:
        return  # and goes on in the same way

    again = command(*arguments, folder=folder)
    _, err = again.communicate(timeout=300)
    assert (again.returncode, err) == (0, "")
    result = json.loads((folder / "out/base/seed-0/result.json").read_text())
    assert result["epochs"] == epochs
    assert not (folder / "out/base/seed-0/previous").exists()
    events = sorted((folder / "out/base/seed-0").glob("events*"), key=lambda path: path.stat().st_mtime)
    assert len(events) == 2
    second = EventAccumulator(str(events[1]))
    second.Reload()
    assert second.Scalars("train/loss")[0].step > 0  # not from scratch


@pytest.mark.exhaustive
def test_a_cluster_trains_them_too(tmp_path):
    pytest.importorskip("submitit")
    folder = write_files(tmp_path / "work")
    cluster = ["--launcher", "submitit", "--slurm", "cluster=local", "timeout_min=10"]
    process = command(*cluster, "--rows", "base", "identity.yaml", "--out", "out", "--", *ONE_EPOCH, folder=folder)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert re.search(r"\| identity \| 74.3 \| [\d.]+ \(n=1\)", out)
    assert (folder / "out/identity/seed-0/checkpoints/last.ckpt").is_file()
