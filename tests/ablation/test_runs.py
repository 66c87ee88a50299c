"""Runs of an ablation and their results, trained on two batches of the digits."""

import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from ablations import ONE_EPOCH, RESULT, SHORT, made, planned, scalars

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.ablation import runs as ablation
from poolformer.ablation.rows import BASE
from poolformer.cli.training import settings
from poolformer.errors import ConfigError


def test_what_is_imported_before_the_runs_is_there():  # nothing is said of a module that is not
    assert all(map(find_spec, ablation.IMPORTED))


@pytest.mark.slow
def test_a_run_is_one_of_fit_in_a_directory_of_its_own(train):
    run = planned("identity.yaml", *ONE_EPOCH, seed=3)
    assert train(run) is None
    assert run.directory == Path("out/identity/seed-3")
    config = yaml.safe_load((run.directory / "config.yaml").read_text())
    assert (config["seed_everything"], config["model"]["mixer"]) == (3, {"name": "identity"})
    assert run.last_checkpoint.is_file()
    assert "val/top1" in run.log.read_text()
    assert sys.argv[1:3] == ["fit", "--config"]  # by which Lightning starts further ranks


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_run_that_was_interrupted_goes_on_and_adds_up_its_time(train):
    one, two = planned(BASE, *ONE_EPOCH), planned(BASE, *SHORT, "--trainer.max_epochs", "2")
    assert train(one) is None
    before = one.result()
    (one.directory / "result.json").unlink()
    assert train(two) is None
    assert two.result().epochs == 2
    assert two.result().train_s > before.train_s
    assert [step for step, _ in scalars(two.directory, "train/loss")] == [0, 1, 2, 3]


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Encountered `nan` values in tensor")
@pytest.mark.parametrize(("row", "message", "logged"), FAILURES)
def test_a_run_that_fails_says_why_in_a_line_and_the_rest_in_its_log(train, row, message, logged):
    run = planned(row, *ONE_EPOCH)
    assert re.search(message, failure := train(run))
    assert "\n" not in failure
    assert run.result() is None
    assert logged in run.log.read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_an_epoch_has_to_be_evaluated(train):
    failure = train(planned(BASE, *ONE_EPOCH, "--trainer.limit_val_batches", "0"))
    assert failure == "val/top1 was not measured: no epoch was evaluated"


@pytest.mark.slow
def test_two_processes_do_not_train_the_same_run(work, train, monkeypatch):
    run = planned(BASE, *ONE_EPOCH)
    run.log.parent.mkdir(parents=True)
    code = (
        f"import fcntl, sys; f = open({str(run.log)!r}, 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert train(run) == "another process is training it (it writes 'out/base/seed-0.log')"
        with run.log.open("a") as log, monkeypatch.context() as of_task:
            of_task.setenv("SLURM_PROCID", "1")  # a further task of the job that trains it
            assert ablation._lock(log)
        other.stdin.close()
    assert not run.directory.exists()
    assert train(run) is None


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--num_threads", "2"], ["--data.num_workers", "1"]])
def test_runs_made_with_the_same_settings_are_kept_wherever_they_run(work, flags):
    made(planned(BASE))
    again = planned(BASE, *flags)
    ablation.check_settings(again, settings("fit", list(again.arguments)))


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'w.pth'")
def test_rows_start_from_the_same_weights_and_not_from_others_unsaid(train):
    import torch

    from poolformer.backbones import create_backbone

    torch.save(create_backbone("poolformer_tiny", num_classes=10, mixer="depthwise").state_dict(), "w.pth")
    torch.save(create_backbone("poolformer_tiny", num_classes=10).state_dict(), "other.pth")
    skip = ["--model.pretrained_skip", "mixers"]
    for row in ("identity.yaml", "attention.yaml"):
        run = planned(row, *ONE_EPOCH, "--model.pretrained", "w.pth", *skip)
        assert train(run) is None
        assert yaml.safe_load((run.directory / "config.yaml").read_text())["model"]["pretrained_skip"] == "mixers"
    ablation.check_settings(run, settings("fit", list(run.arguments)))
    other = planned(row, *ONE_EPOCH, "--model.pretrained", "other.pth", *skip)
    with pytest.raises(ConfigError, match=r"model.pretrained .*w.pth without mixers, now .*other.pth without mixers"):
        ablation.check_settings(other, settings("fit", list(other.arguments)))
