"""`poolformer ablate` from end to end on two batches of the digits."""

import csv
import json
import re
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml
from ablations import ONE_EPOCH, SHORT, made, planned, scalars, write_files
from forked import Started
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.ablation.grid import read_grid
from poolformer.ablation.rows import BASE, Row
from poolformer.ablation.runs import Result, fit_arguments
from poolformer.ablation.tries import plan
from poolformer.cli import dispatch as cli
from poolformer.cli.training import check_start
from poolformer.errors import PoolformerError

MISTAKES = [
    (["--rows", "bass"], "there is no row, file or mixer 'bass'. Did you mean 'base'?"),
    (["--rows", "base", "base"], "--rows: base more than once"),
    (["--rows", "relu", "base"], "there is no row, file or mixer 'relu'. Did you mean 'act-relu' or 'relu.yaml'?"),
    (["--rows", "idenity"], "there is no row, file or mixer 'idenity'. Did you mean 'identity' or 'identity.yaml'?"),
    (["--rows", "identity", "identity.yaml"], "--rows: identity more than once (a file's row has its name without"),
    (
        ["--rows", "base", "--trainer.max_epochs", "2"],
        "there is no --trainer.max_epochs. Flags for every fit stand behi",
    ),
    (["--row", "base"], "there is no --row. Did you mean '--rows' or '--try'? Flags"),
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
    (
        ["--try", "model.lr=1e-3"],
        "--try model.lr=1e-3: one value leaves no choice; a value for every fit stands",
    ),
    (["--try", "model.lr=1,2", "--try_seeds", "-1"], "--try_seeds -1: integers from 0 to 4294967295"),
    (
        ["--rows", "relu.yaml", "--try", "model.act=gelu,relu"],
        "--try model.act replaces what the row relu changes; name the rows it goes with in --rows",
    ),
    (
        ["--rows", "base", "--try", "model.lr=1,2", "--", "--model.lr", "3"],
        "--model.lr is for every fit, and --try model.lr chooses it: leave one of them out",
    ),
    (["--rows", "base", "identity", "--base", "relu.yaml"], "--base relu.yaml is none of the rows, which are base, id"),
    (["--", "--trainer.fast_dev_run", "true"], "--trainer.fast_dev_run is not for every fit; use --trainer.max_ep"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line_before_anything_starts(call, work, arguments, message):
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"poolformer: error: {message}")
    assert err.count("\n") == 1
    assert not Path("runs").exists()


def test_rows_that_would_share_a_folder_are_told(call):
    Path("broken-kill.yaml").write_text("model:\n  act: relu\n")
    told = "the rows 'broken:Kill' and 'broken-kill' would share the folder 'broken-kill': rename one"
    assert call("--rows", "broken:Kill", "broken-kill.yaml") == (2, "", f"poolformer: error: {told}\n")


def test_slurm_parameters_are_pairs(work, capsys):
    with pytest.raises(SystemExit):
        cli.main(["ablate", "--launcher", "submitit", "--slurm", "gpu"])
    assert "'gpu' is not KEY=VALUE" in capsys.readouterr().err


@pytest.fixture(scope="module")
def made_up(tmp_path_factory) -> Path:
    """Runs of three rows and two seeds that are finished with made-up results; copy them."""
    with pytest.MonkeyPatch.context() as patch:
        folder = write_files(tmp_path_factory.mktemp("made_up") / "work", patch)
        for row, scores in {"base": (0.70, 0.72), "identity.yaml": (0.80, 0.84), "relu.yaml": (0.6, 0.6)}.items():
            for seed, top1 in enumerate(scores):
                run = planned(row, seed=seed)
                made(run)
                run.save(Result(**{**json.loads((run.directory / "result.json").read_text()), "top1": top1}))
    return folder / "out"


@pytest.fixture
def finished(work, made_up) -> Path:
    """The same in ``out``."""
    shutil.copytree(made_up, "out")
    return Path("out")


ROWS = ["--rows", "base", "identity.yaml", "relu.yaml", "--out", "out", "--seeds", "0", "1"]


@pytest.mark.slow
def test_finished_runs_are_not_run_again_but_shown(call, finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    code, out, err = call(*ROWS)
    assert (code, err) == (0, "")
    assert out.startswith("runs in out: 6, finished before: 6\n")
    table = (finished / "table.md").read_text()
    assert table in out + "\n"
    assert "| base | 77.2 | 71.00 ± 1.41 (n=2) | - | 309,178 | 0.93 | 100 | 2.0 |" in table
    assert "| identity | 74.3 | 82.00 ± 2.83 (n=2) | +11.00 [-1.71, +23.71] (n=2, few) |" in table
    for note in (
        *(
            "data: DigitsData, image_size 8",
            "epochs: 1",
            "command: poolformer ablate --rows base identity.yaml",
            "ersions: Py",
        ),
        *("paper: top-1 of PoolFormer-S12 on ImageNet-1k", "fewer than 3 seeds are few"),
    ):
        assert note in table
    assert {path: path.stat().st_mtime_ns for path in before} == before
    rows = list(csv.DictReader((finished / "table.csv").read_text().splitlines()))
    assert [row["row"] for row in rows] == ["base", "identity", "relu"]


@pytest.mark.slow
def test_differences_are_to_the_row_that_is_named_and_the_table_is_latex_where_that_is_asked_for(call, finished):
    code, out, _ = call(*ROWS, "--base", "identity.yaml", "--format", "latex")
    assert code == 0
    tex = (finished / "table.tex").read_text()
    assert tex in out
    assert r"base & 77.2 & 71.00 $\pm$ 1.41 (n=2) & $-$11.00 [$-$23.71, +1.71] (n=2, few) & 309,178 &" in tex
    assert "% minus identity: in points" in tex
    assert "| minus identity |" in (finished / "table.md").read_text()
    assert call(*ROWS, "--base", "relu", "--rows", "base", "even.yaml")[0] == 2


TUNED = ["--rows", "base", "--out", "out", "--try", "model.lr=1e-3,2e-3"]


@pytest.mark.slow
def test_what_is_tried_and_chosen_is_in_the_table_and_trained(call, work):
    grid = read_grid(["model.lr=1e-3,2e-3"], share=0.1, seeds=[0])
    arguments = fit_arguments(["digits"], Row(BASE), [])
    for each, top1 in zip(plan(grid, Row(BASE), arguments, Path("out")), (0.6, 0.7), strict=True):
        made(each.run)
        each.run.save(replace(each.run.result(), top1=top1))
    made(planned(BASE, "--model.lr=2e-3"))
    code, out, err = call(*TUNED)
    assert (code, err) == (0, "")
    assert out.startswith("tries: 2, finished before: 2\nchosen for base: model.lr=2e-3 (model.lr=2e-3 is the largest")
    assert "| base | 77.2 | 50.00 (n=1) | model.lr=2e-3 |" in out
    assert "- base: 2e-3 of 1e-3 60.00 %, 2e-3 70.00 %\n" in (work / "out/table.md").read_text()
    assert (work / "out/table.csv").read_text().endswith(",model.lr=2e-3\n")
    code, _, err = call(*TUNED, "--try_share", "0.2")
    assert (code, err.count("\n")) == (2, 1)
    assert "'out/base/tries/model.lr=1e-3/seed-0' was trained with other settings (data.tune_share 0.1, now 0.2)" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--try", "model.lrr=1,2"], "there is no option 'model.lrr'. Did you mean 'model.lr'"),
        (["--try", "model.lr=1,fast"], "--model.lr got 'fast'"),
        (["--try", "model.lr=1,2", "--", "--data.tune_share", "0.3"], "--data.tune_share 0.3 would be of every fit"),
    ],
)
def test_what_cannot_be_tried_is_a_line_before_anything_starts(call, work, monkeypatch, arguments, message):
    monkeypatch.setattr("poolformer.ablation.launchers.warm_up", lambda modules: None)
    code, out, err = call("--rows", "base", "--out", "out", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"poolformer: error: {message}")
    assert not (work / "out").exists()


@pytest.mark.slow
def test_figures_are_drawn_or_how_to_get_them_is_said(call, finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, _ = call(*ROWS)
    assert code == 0
    assert "the figures need another package: pip install 'poolformer-lightning[plots]'" in out
    assert not (finished / "top1-macs.png").exists()


@pytest.mark.slow
def test_finished_runs_of_other_settings_end_it_in_one_line(call, finished):
    code, out, err = call(*ROWS, "--", "--trainer.max_epochs", "3")
    assert (code, out) == (2, "")
    assert err.startswith(
        "poolformer: error: 'out/base/seed-0' was trained with other settings (trainer.max_epochs 80,"
    )
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_row_that_was_asked_for_and_cannot_be_built_is_a_failure_beside_the_others(call, finished):
    code, out, _ = call(*ROWS, "--rows", "base", "even.yaml")
    assert code == 1
    assert "| base | 77.2 |" in out
    failed = out[out.index("failed:") :]
    assert failed.splitlines()[1].startswith("  even: token mixer 'pooling' cannot be built")


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_a_run_warned_of_stands_in_its_result_and_under_the_table(call, finished):
    for row in ("base", "identity.yaml"):
        run = planned(row)
        run.save(replace(run.result(), warnings=["of all rows", f"of {run.row}"]))
    _, out, _ = call(*ROWS, "--rows", "base", "identity.yaml")
    assert "warned of:\n- all rows: of all rows\n- base: of base\n- identity: of identity\n" in out
    assert "- base: of base\n" in (finished / "table.md").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("always:of 1 epochs")
def test_a_run_notes_its_warnings(train, work):
    run = planned(BASE, *SHORT[:6], "--trainer.max_epochs", "1")
    assert train(run) is None
    assert any("none is left for the cosine" in text for text in run.result().warnings)


def command(*arguments: str, folder: Path) -> Started:
    return Started("-m", "poolformer", "ablate", *arguments, cwd=folder)


@pytest.mark.slow
def test_rows_and_seeds_are_trained_at_once_and_failures_stop_nobody(tmp_path):
    folder = write_files(tmp_path / "work")
    rows = ["base", "even.yaml", "diverging.yaml", "crashing.yaml", "killed.yaml"]
    arguments = ["--rows", *rows, "--seeds", "0", "1", "--jobs", "2", "--out", "out", "--", *ONE_EPOCH]
    process = command(*arguments, folder=folder)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (1, "")
    top1 = [scalars(folder / f"out/base/seed-{seed}", "val/top1")[-1][1] for seed in (0, 1)]
    shown = re.search(r"\| base \| [\d.]+ \| ([\d.]+) ± ([\d.]+) \(n=2\)", out)
    assert float(shown[1]) == pytest.approx(50 * sum(top1), abs=0.006)
    assert float(shown[2]) == pytest.approx(100 * abs(top1[0] - top1[1]) / 2**0.5, abs=0.006)
    assert "| diverging | - | - | - | - | - | - | - |" in out
    failed = out[out.index("failed:\n") :].splitlines()[1:]
    names = sorted(line.split(":")[0].strip() for line in failed)
    assert names == sorted(
        ["even", *(f"{row} seed {n}" for row in ("diverging", "crashing", "killed") for n in (0, 1))]
    )
    assert any(line.endswith("its process was killed by signal 9") for line in failed)
    for name in ("table.md", "table.csv", "top1-macs.png", "top1-params.pdf", "curves.svg"):
        assert (folder / "out" / name).stat().st_size > 100


@pytest.mark.slow
def test_every_row_is_tried_with_every_value_and_trained_with_its_best(tmp_path):
    folder = write_files(tmp_path / "work")
    rows = ["--rows", "base", "identity.yaml", "--jobs", "2", "--out", "out"]
    process = command(*rows, "--try", "model.lr=6e-3,1e30", "--", *ONE_EPOCH, folder=folder)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    for row in ("base", "identity"):
        assert (folder / f"out/{row}/tries/model.lr=1e30/seed-0/not_finite.txt").is_file()
        assert f"chosen for {row}: model.lr=6e-3 (model.lr=6e-3 is the smallest that was tried" in out
        config = yaml.safe_load((folder / f"out/{row}/seed-0/config.yaml").read_text())
        assert (config["model"]["lr"], config["data"]["init_args"]["tune_share"]) == (0.006, None)
        tried = yaml.safe_load((folder / f"out/{row}/tries/model.lr=6e-3/seed-0/config.yaml").read_text())
        assert (tried["model"]["lr"], tried["data"]["init_args"]["tune_share"]) == (0.006, 0.1)
    again = command(*rows, "--try", "model.lr=6e-3,1e30", "--", *ONE_EPOCH, folder=folder)
    out, _ = again.communicate(timeout=300)
    assert "tries: 4, finished before: 4" in out
    assert "runs in out: 2, finished before: 2" in out


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
        assert err == "poolformer ablate: interrupted; the same command resumes it\n"
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
    rows = ["--rows", "base", "identity.yaml", "--try", "model.lr=1e-3,4e-3", "--out", "out"]
    process = command(*cluster, *rows, "--", *ONE_EPOCH, folder=folder)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert re.search(r"\| identity \| 74.3 \| [\d.]+ \(n=1\)", out)
    assert len(list(folder.glob("out/tries/**/last.ckpt"))) == 4  # they are trained there as well
    assert (folder / "out/identity/seed-0/checkpoints/last.ckpt").is_file()
