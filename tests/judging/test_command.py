"""`poolformer judge` from end to end, on probes that train nothing and, slow, on two batches of the digits."""

import json
import re
import signal
import time
from pathlib import Path

import forked
import pytest
import stub_probes

from poolformer.ablation import launchers
from poolformer.cli import dispatch as cli
from poolformer.judging import jobs

PROTOCOL = """# Probes that train nothing.
# Record: rho 0.60 (-0.10 to 0.90).
kind: probes
rows: [identity, pooling, depthwise]
seeds: [0, 1, 2]
"""
FITS = """# Two batches of the digits.
kind: fits
config: digits
rows: [pooling]
flags:
  {trainer.max_epochs: 2, trainer.limit_train_batches: 2, trainer.limit_val_batches: 2, model.warmup_epochs: 0,
   log_without: all}
tries: {model.lr: [1.0e+30, 6e-3]}
"""


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("short.yaml").write_text(PROTOCOL)
    stub_probes.put_in_place(monkeypatch)

    def call(*arguments: str, protocol: str = "short.yaml") -> tuple[int, str, str]:
        return cli.main(["judge", *arguments, "--protocol", protocol]), *capsys.readouterr()

    return call


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_trained(call):
    code, out, err = call("random_matrix", "--out", "short.yaml/page")
    assert (code, out, err) == (2, "", "poolformer: error: 'short.yaml/page/rows': Not a directory\n")


def test_a_mixer_is_judged_on_one_page_written_three_times(call):
    code, out, err = call("random_matrix", "--out", "page")
    assert (code, err) == (0, "")
    assert "36 trainings, finished before: 0" in out
    assert "better than pooling by 10.00 points" in out
    numbers = json.loads(Path("page/judge.json").read_text())
    assert (numbers["schema"], numbers["judged"], len(numbers["outcomes"])) == (1, "random_matrix", 36)
    texts = Path("page/judge.md").read_text(), Path("page/judge.html").read_text()
    for text in texts:
        for part in (
            *("Differences, paired by seed", "What it can mix", "Score and cost", "Learning curves"),
            *("What this protocol can tell", "How this was made", "rho 0.60", "How many markers are there?"),
            *("poolformer judge random_matrix --out page", "cores of", "images/s, alone", "0, 1, 2", "0.5 points"),
            "random_matrix does in part count (4x4, 8x8), order (8x8).",
        ):
            assert part in text
        assert numbers["verdict"] in text
    assert texts[1].count("<svg viewBox") > 5
    assert not re.search(r"(?:src|href)=", texts[1])
    assert Path("page/profile.svg").is_file()
    assert Path("page/curves.svg").is_file()


def test_at_equal_time_the_slower_row_has_what_it_had_by_then(call):
    call("random_matrix", "--out", "page", "--seeds", "0", "1")
    pooling = json.loads(Path("page/judge.json").read_text())["comparisons"][0]
    assert (pooling["base"], pooling["slower"], pooling["share"]) == ("pooling", "random_matrix", 0.5)
    assert pooling["at_time"]["mean"] == pytest.approx(30.25 - 50.45)  # its curve is half as high halfway


def test_what_is_finished_is_kept_and_other_settings_are_told(call):
    call("attention", "--seeds", "0")
    code, out, _ = call("depthwise", "--options", "kernel_size=5", "--seeds", "0")
    assert (code, "12 trainings, finished before: 9" in out) == (0, True)
    assert Path("runs/judge/short/depthwise-kernel_size=5/judge.html").is_file()
    Path("short.yaml").write_text(PROTOCOL + "settings: {steps: 9}\n")
    code, _, err = call("depthwise", "--seeds", "0")
    assert (code, err.count("\n")) == (2, 1)
    assert "was trained with other settings (steps 8, now 9): take another --out, or delete" in err


def test_a_training_that_fails_stops_no_other_and_is_on_the_page(call):
    code, out, _ = call("attention", "--seeds", "0", "--out", "page")
    assert code == 1
    assert "failed: attention, order 8x8, seed 0: attention gave NaN" in out
    assert "attention, order 8x8, seed 0: attention gave NaN" in Path("page/judge.md").read_text()
    depthwise = json.loads(Path("page/judge.json").read_text())["comparisons"][-1]
    assert depthwise["at_end"]["mean"] == pytest.approx(60 - (80.8 + 81.6) / 2)  # over what both have: not order


def test_a_side_at_which_a_mixer_fails_is_told_first_and_the_others_are_judged(call):
    code, out, _ = call("depthwise", "--options", "kernel_size=9", "--seeds", "0", "--out", "page")
    assert code == 1
    assert out.startswith("wide fails on 4 x 4 tokens; it is judged without this side\n11 trainings")
    assert "depthwise kernel_size=9, 4x4: wide fails on 4 x 4 tokens" in Path("page/judge.md").read_text()


def test_a_first_failure_is_told_before_anything_is_trained(call):
    assert call("spatial_fc") == (2, "", "poolformer: error: spatial_fc gives NaN\n")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("sign", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "ended by SIGTERM")], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_judgement_that_is_ended_says_so_and_is_resumed_by_the_same_command(call, monkeypatch, sign, said):
    here = launchers.run_here

    def ended(function, jobs, **options):
        here(function, jobs[:5], **options)
        signal.raise_signal(sign)

    monkeypatch.setattr(launchers, "run_here", ended)
    code, _, err = call("pooling", "--seeds", "0")
    assert (code, err) == (128 + sign, f"poolformer judge: {said}; the same command resumes it\n")
    monkeypatch.setattr(launchers, "run_here", here)
    assert "9 trainings, finished before: 5" in call("pooling", "--seeds", "0")[1]


MISTAKES = [
    (["pooling"], "shrt.yaml", "there is no file 'shrt.yaml' and no protocol of that name."),
    (["poling"], "short.yaml", "there is no row, file or mixer 'poling'. Did you mean 'pooling'"),
    (
        ["pooling", "--options", "pool_sise=5"],
        "short.yaml",
        "token mixer 'pooling' has no option 'pool_sise'. Did you mean 'pool_size'?",
    ),
    (["pooling", "--options", "5"], "short.yaml", "--options 5: expects NAME=VALUE"),
    (["hybrid-pppa"], "short.yaml", "'hybrid-pppa' has a mixer for each stage"),
    (["norm-none"], "short.yaml", "'norm-none' chooses no mixer"),
    (["[pooling, attention]"], "short.yaml", "a list of mixers, one a stage, is judged as an overlay"),
    (["pooling", "--try", "model.lr=1,2"], "short.yaml", "--try model.lr=1,2: the protocol short has no fits to tune"),
    (["pooling", "--out", "short.yaml"], "short.yaml", "--out short.yaml: there is a file of that name"),
]


@pytest.mark.parametrize(("arguments", "protocol", "message"), MISTAKES)
def test_a_mistake_is_one_line_before_anything_starts(call, arguments, protocol, message):
    code, out, err = call(*arguments, protocol=protocol)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"poolformer: error: {message}")


def test_flags_for_fits_are_refused_where_there_are_none(tmp_path, monkeypatch, capsys):
    (tmp_path / "short.yaml").write_text(PROTOCOL)
    assert cli.main(["judge", "pooling", "--protocol", str(tmp_path / "short.yaml"), "--", "--model.lr", "1"]) == 2
    assert "--model.lr: the protocol short has no fits" in capsys.readouterr().err


@pytest.mark.slow
def test_a_mixer_is_tuned_and_judged_by_fits_as_ablate_trains_them(tmp_path):
    (tmp_path / "two.yaml").write_text(FITS)
    command = ["-m", "poolformer", "judge", "attention", "--options", "head_dim=16", "--protocol", "two.yaml"]
    done = forked.run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs/judge/two/attention-head_dim=16"
    page = json.loads((folder / "judge.json").read_text())
    assert [one["base"] for one in page["comparisons"]] == ["pooling"]
    assert {len(one["curve"]) for one in page["outcomes"]} == {2}
    assert "one seed cannot tell" in page["verdict"]
    assert len(page["images_per_s_alone"]) == 2
    assert [one["chosen"] for one in page["tries"]] == [{"model.lr": "6e-3"}] * 2
    assert "attention head_dim=16: 6e-3 of 1e+30 diverged, 6e-3" in (folder / "judge.md").read_text()
    again = forked.run(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "tries: 4, finished before: 4" in again.stdout
    assert "2 trainings, finished before: 2" in again.stdout


def test_a_long_time_without_a_result_is_said_to_be_work(monkeypatch):
    class Row:
        title = "pooling, seed 0"

        def outcome(self):
            return None

    def slowly(function, todo, *, at_once, report):
        time.sleep(0.3)
        report(0, "no")

    monkeypatch.setattr(launchers, "run_here", slowly)
    lines = []
    assert jobs.finish([Row()], print, at_once=2, say=lines.append, every_s=0.05) == {"pooling, seed 0": "no"}
    assert lines[0] == "1 trainings, finished before: 0, at once: 2"
    assert lines[1].startswith("[0/1] at work for 0 s, 1 at once")
    assert lines[-1] == "[1/1] pooling, seed 0: failed: no"
    before = len(lines)
    time.sleep(0.15)
    assert len(lines) == before
