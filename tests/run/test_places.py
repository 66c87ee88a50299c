"""Runs at URLs: trained, killed, resumed and read there as in a directory, whatever the store does meanwhile."""

import logging
import os
import re
import signal
import time
from pathlib import Path

import pytest
import s3_server
import yaml
from command_line import ONE_EPOCH, process_left_as_it_was
from forked import Started
from lightning.pytorch.callbacks import Callback
from runs import QUICK, QUICK_STEPS, SignalAt, assert_same_run, assert_same_state, last

from poolformer.cli import dispatch as cli
from poolformer.files.store import Store
from poolformer.run import mirror, places, remote_lock
from poolformer.run.mirror import Sent
from poolformer.run.spool import fetch_run

pytestmark = pytest.mark.filterwarnings("ignore:`_get_value` was deprecated", "ignore:datetime.datetime.utcnow")

QUICK = [*QUICK, "--save_every_n_steps", "3"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch, tmp_path):
    for name, seconds in {"_BEAT_S": 0.5, "_SILENCE_S": 2, "_POLL_S": 0.2, "_SETTLE_S": 0.1}.items():
        monkeypatch.setattr(remote_lock, name, seconds)
    monkeypatch.setattr(mirror, "_EVERY_S", 0.05)
    monkeypatch.setattr(mirror, "_LONGEST_PAUSE_S", 0.5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=["memory", "s3"])
def url(request, tmp_path) -> str:
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('s3').bucket}/runs/run"
    return f"memory://{tmp_path.name}/runs/run"


def fetched(url: str, folder: Path) -> Path:
    store = Store(url)
    fetch_run(store, store.names(), folder, Sent())
    return folder


def names(url: str) -> set[str]:
    return {name for name in Store(url).names() if not name.startswith(".")}


def spools(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").glob("poolformer/runs/*"))


@pytest.mark.slow
def test_a_run_at_a_url_is_the_one_of_a_directory_also_resumed_on_another_machine(fit, url, tmp_path, capsys):
    assert fit("whole", base=QUICK) == 0
    assert fit(url, base=QUICK, callbacks=[SignalAt("training", 5)]) == 143
    out = capsys.readouterr().out
    assert f"run     {url}\nresume  poolformer fit --config {url}/config.yaml --ckpt_path last" in out
    assert str(tmp_path / "cache") not in out
    assert spools(tmp_path) == []  # what is there counts: another machine has no more
    assert cli.main(["fit", "--config", f"{url}/config.yaml", "--ckpt_path", "last"]) == 0
    out = capsys.readouterr().out
    assert f"run          {url}  (config.yaml, TensorBoard events, checkpoints/best.ckpt, last.ckpt)" in out
    assert_same_state("whole", fetched(url, tmp_path / "back"))
    assert_same_state("whole", tmp_path / "back", "best")
    assert yaml.safe_load((tmp_path / "back/config.yaml").read_text())["trainer"]["default_root_dir"] == url
    assert not Path("s3:").exists()
    assert fit(url, "--ckpt_path", "auto", base=QUICK) == 0  # nothing is left to train, and nothing is moved
    assert fit(url, "--trainer.max_epochs", "2", base=QUICK) == 0
    assert {"previous/1/config.yaml", "previous/1/checkpoints/best.ckpt", "checkpoints/last.ckpt"} <= names(url)


@pytest.fixture
def stored(trained, tmp_path) -> str:
    """A run of one epoch at a URL."""
    url = f"memory://{tmp_path.name}/runs/run"
    store = Store(url)
    for path in trained.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                store.send(file, path.stat().st_size, path.relative_to(trained).as_posix())
    return url


@pytest.mark.slow
def test_every_verb_and_command_reads_a_run_at_a_url(stored, call, tmp_path):
    best = f"{stored}/checkpoints/best.ckpt"
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.limit_val_batches", "1"]
    for where in (
        ["--ckpt_path", best],
        ["--ckpt_path", "last", "--trainer.default_root_dir", stored],
        ["--config", f"{stored}/config.yaml", "--ckpt_path", "best"],
    ):
        done = call("validate", *where, *quiet)
        assert (done.code, "val/top1" in done.out) == (0, True), done.err
    assert {"validate-1.json", "validate-2.json", "validate-3.json"} <= names(stored)
    done = call("predict", "--ckpt_path", best, "--trainer.limit_predict_batches", "1", *quiet[:2])
    assert done.code == 0, done.err
    first = Store(stored).read("predictions.csv")
    assert first.startswith(b"image,class_1")
    assert call("predict", "--ckpt_path", best, "--trainer.limit_predict_batches", "2", *quiet[:2]).code == 0
    assert (Store(stored).read("predictions.csv"), "predictions.2.csv" in names(stored)) == (first, True)
    assert call("export", best, "weights.safetensors").code == 0
    assert Path("weights.safetensors").is_file()
    done = call("export", f"{stored}/checkpoints/bets.ckpt")
    assert done.code == 2
    assert f"no checkpoint at '{stored}/checkpoints/bets.ckpt'; there is {stored}/checkpoints/" in done.err
    assert {path.name for path in Path().iterdir()} == {"weights.safetensors", "weights.safetensors.json"}
    assert spools(tmp_path) == []


class Fault(Callback):
    """Has a fault in the requests of some steps."""

    def __init__(self, server: s3_server.Server, name: str, steps: range):
        self.server, self.fault, self.steps = server, getattr(s3_server, name), steps

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step in (self.steps.start, self.steps.stop):
            time.sleep(1)  # for the mirror to notice
            self.server.fault = self.fault if trainer.global_step == self.steps.start else None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [  # what a HEAD is answered has no text
        ("refused", "Reduce your request rate|Service Unavailable"),
        pytest.param("cut", "read back", marks=pytest.mark.exhaustive),
        pytest.param("clock_wrong", "request time|Forbidden", marks=pytest.mark.exhaustive),
        pytest.param("slow", None, marks=pytest.mark.exhaustive),
    ],
)
def test_a_run_goes_on_while_its_store_fails_and_everything_is_there_at_the_end(
    fit, s3, caplog, tmp_path, fault, reason
):
    caplog.set_level(logging.INFO)
    url = f"s3://{s3.bucket}/run"
    assert fit(url, base=QUICK, callbacks=[Fault(s3, fault, range(2, 10))]) == 0
    away = [each for each in caplog.messages if f"'{url}' cannot be written (" in each]
    back = [each for each in caplog.messages if f"'{url}' can be written again" in each]
    assert (len(away), len(back)) == ((1, 1) if reason else (0, 0))
    assert not reason or re.search(reason, away[0])
    assert fit("whole", base=QUICK) == 0
    assert_same_run("whole", fetched(url, tmp_path / "back"))


@pytest.mark.slow
def test_a_store_that_does_not_come_back_is_an_error_and_the_next_start_sends_the_rest(
    fit, s3, capsys, tmp_path, monkeypatch
):
    url = f"s3://{s3.bucket}/run"
    monkeypatch.setattr(mirror, "PATIENCE_S", 1)
    assert fit(url, base=QUICK, callbacks=[Fault(s3, "refused", range(5, 99))]) == 2
    (spool,) = spools(tmp_path)
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert f"of '{url}' could not be sent" in last_line
    assert f"they are in '{spool}'; the next start on this machine sends them" in last_line
    s3.fault = None
    sent = last(fetched(url, tmp_path / "sent"))["global_step"] if "checkpoints/last.ckpt" in names(url) else 0
    assert fit(url, "--ckpt_path", "auto", base=QUICK) == 0
    assert sent < last(fetched(url, tmp_path / "back"))["global_step"] == 3 * QUICK_STEPS
    assert spools(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "fault", "said"),
    [
        (
            "s3://{}/run",
            "forbidden_to_write",
            "the run cannot be written to 's3://{}/run' (PermissionError: Access Denied)",
        ),
        ("s3://{}/run", "clock_wrong", "request time and the current time is too large"),
        ("s3://{}/run", "cut", "read back is not what was written"),
        ("s3://no-such-bucket/run", None, "bucket does not exist"),
        ("gs://bucket/run", None, "pip install gcsfs"),
        ("https://127.0.0.1:9/run", None, "such URLs cannot be written to"),
        ("nothing://x/run", None, "nothing://x/run cannot be opened"),
        ("memory://x/my run", None, "write a URL without blanks"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_built(mistake, s3, given, fault, said, tmp_path):
    s3.fault = fault and getattr(s3_server, fault)
    assert said.format(s3.bucket) in mistake("fit", "--trainer.default_root_dir", given.format(s3.bucket))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_results_that_cannot_be_written_beside_a_checkpoint_are_refused_before_they_are_made(mistake, s3, trained):
    url, checkpoint = f"s3://{s3.bucket}/run", trained / "checkpoints/best.ckpt"
    with checkpoint.open("rb") as file:
        Store(url).send(file, checkpoint.stat().st_size, "checkpoints/best.ckpt")
    s3.fault = s3_server.forbidden_to_write
    said = mistake("predict", "--ckpt_path", f"{url}/checkpoints/best.ckpt")
    assert said == f"'{url}' cannot be written (PermissionError: Access Denied): choose a --trainer.default_root_dir"


@pytest.mark.slow
def test_a_second_run_at_a_url_is_refused(mistake, url):
    holder = remote_lock.RemoteLock(Store(url), "of another machine")
    holder.wait()
    holder.take()
    try:
        said = mistake("fit", "--trainer.default_root_dir", url)
    finally:
        holder.release()
    assert said.startswith(f"another run is writing to '{url}': process {os.getpid()} of ")
    assert names(url) == set()


@pytest.mark.slow
def test_help_and_the_configuration_lock_nothing(call, url):
    for option in ("--help", "--print_config"):
        assert call("fit", "--trainer.default_root_dir", url, option).code == 0
    assert Store(url).names() == []


@pytest.mark.slow
def test_a_url_of_this_machine_is_its_directory(call, tmp_path):
    assert call("fit", *ONE_EPOCH, "--trainer.default_root_dir", f"file://{tmp_path}/run").code == 0
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()
    assert call("validate", "--ckpt_path", f"file://{tmp_path}/run/checkpoints/last.ckpt").code == 0


def test_a_process_of_another_rank_takes_the_directory_of_rank_0(stored, monkeypatch):
    with places.Places() as first:
        run_dir = first.run_dir(stored, keeps=True, writes=True, named="last")
        monkeypatch.setattr(places.rank_zero_only, "rank", 1)
        with places.Places() as second:
            assert second.run_dir(stored, keeps=True, writes=True, named="last") == run_dir
        monkeypatch.delenv(places._INHERITED)  # of a launcher that starts all at once
        with places.Places() as third:
            other = third.run_dir(stored, keeps=True, writes=True, named="last")
            assert other != run_dir
            assert (other / "checkpoints/last.ckpt").read_bytes() == (run_dir / "checkpoints/last.ckpt").read_bytes()
        monkeypatch.setattr(places.rank_zero_only, "rank", 0)


def test_what_callbacks_write_below_the_runs_url_is_written_in_its_directory(url):
    with places.Places() as opened:
        run_dir = opened.run_dir(f"{url}/", keeps=False, writes=False, named=None)
        assert opened.of_trainer(f"{url}/mine") == f"{run_dir}/mine"
        assert opened.of_trainer(f"{url}-2/mine") == f"{url}-2/mine"


KILLED = "import sys, poolformer.run.remote_lock as lock; lock._BEAT_S, lock._SILENCE_S = 1, 4; "
KILLED += "from poolformer.cli.dispatch import main; sys.exit(main())"


@pytest.mark.exhaustive
def test_a_run_at_a_url_survives_kills_here_and_on_other_machines(s3, tmp_path):
    url, options = f"s3://{s3.bucket}/run", ["--trainer.max_epochs", "6", "--trainer.limit_train_batches", "20"]
    command = ["-c", KILLED, "fit", *QUICK, *options, "--trainer.default_root_dir", url]
    with process_left_as_it_was():
        assert cli.main(["fit", *QUICK, *options, "--trainer.default_root_dir", str(tmp_path / "whole")]) == 0
    for count in range(4):
        cache = tmp_path / f"machine-{count // 2}"
        cache.mkdir(exist_ok=True)
        before = Store(url).read("checkpoints/last.ckpt")
        resume = ["--ckpt_path", "last"] if before else []
        process = Started(*command, *resume, env={**os.environ, "XDG_CACHE_HOME": str(cache)})
        deadline = time.monotonic() + 240
        while Store(url).read("checkpoints/last.ckpt") == before and time.monotonic() < deadline:
            time.sleep(0.1 * (1 + count % 3))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    with process_left_as_it_was():
        where = ["--trainer.default_root_dir", url, "--ckpt_path", "last"]
        assert cli.main(["fit", *QUICK, *options, *where]) == 0
    assert_same_run(tmp_path / "whole", fetched(url, tmp_path / "back"), killed=True)
    assert_same_state(tmp_path / "whole", tmp_path / "back")
