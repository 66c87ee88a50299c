"""``--ckpt_path auto``: a job that is started again resumes its own run, begins it, or says what differs."""

import re
import shutil
from pathlib import Path

import pytest
from command_line import LAST, ONE_EPOCH, contents, process_left_as_it_was
from data_images import write_class_folders
from runs import DIGITS, Die, Died, assert_same_run

from poolformer import cli
from poolformer.run.same_run import differences, find

AUTO = ["--ckpt_path", "auto"]


def test_an_empty_directory_has_nothing_to_resume(tmp_path):
    assert find(tmp_path / "nowhere", {}) is None
    assert find(tmp_path, {}) is None


@pytest.mark.parametrize(
    ("section", "option", "value", "other"),
    [
        ("model", "lr", 0.1, 0.2),
        ("model", "mixer", {"name": "pooling"}, {"name": "pooling", "pool_size": 5}),
        ("trainer", "max_epochs", 3, 4),
        ("trainer", "callbacks", None, [{"class_path": "mine.Callback"}]),
        ("trainer", "precision", None, "bf16-mixed"),
    ],
)
def test_an_option_that_decides_what_is_computed_makes_another_run(section, option, value, other):
    base = {"model": {"backbone": "poolformer_tiny", "mixer": {"name": "pooling"}}}
    one, two = ({**base, section: {**base.get(section, {}), option: each}} for each in (value, other))
    assert not differences(one, one)
    assert list(differences(one, two)) == [f"{section}.{option}"]


@pytest.mark.parametrize(
    ("section", "option"),
    [("trainer", "devices"), ("trainer", "enable_progress_bar"), ("data", "num_workers"), ("model", "compile")],
)
def test_where_it_runs_and_what_it_shows_makes_no_other_run(section, option):
    base = {"model": {"backbone": "poolformer_tiny"}}
    one, two = ({**base, section: {**base.get(section, {}), option: value}} for value in (1, 2))
    assert not differences(one, two)


def test_another_data_module_and_its_free_arguments_make_another_run():
    def data(class_path, **options):
        return {"data": {"class_path": class_path, "init_args": {"size": 1}, "dict_kwargs": options}}

    assert list(differences(data("mine.Data"), data("mine.Other"))) == ["data"]
    assert list(differences(data("mine.Data", root="a"), data("mine.Data", root="b"))) == ["data.dict_kwargs"]


def test_the_same_data_by_another_path_is_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    relative, absolute = (
        {"data": {"class_path": "D", "init_args": {"train": p}}} for p in ("images", str(tmp_path / "images"))
    )
    assert not differences(relative, absolute)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two epochs that nothing has interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch, process_left_as_it_was():
        patch.chdir(folder)
        assert cli.main(["fit", *DIGITS, *AUTO, "--trainer.default_root_dir", "run"]) == 0
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("place", [(0, 2), (1, 2)], ids=["before its first checkpoint", "later"])
def test_a_job_that_is_started_again_resumes_its_run_in_place(fit, whole, place, capsys):
    with pytest.raises(Died):
        fit("run", *AUTO, callbacks=[Die(*place)])
    assert fit("run", *AUTO) == 0
    assert_same_run(whole, "run", killed=True)
    assert not Path("run/previous").exists()
    assert fit("run", *AUTO) == 0
    assert "The run in 'run' is complete: 3 epochs, 15 steps" in capsys.readouterr().out


@pytest.fixture
def run(whole, work):
    """A copy of that run in a directory of its own."""
    shutil.copytree(whole, "run")
    return Path("run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model.lr", "0.1"],
            r"the run in 'run' has other options: model\.lr 0\.1 \(was 0\.006\)\. --ckpt_path last",
        ),
        (
            ["--trainer.max_epochs", "9", "--data.image_size", "4"],
            r"data\.image_size 4 \(was 8\), trainer\.max_epochs 9",
        ),
        (["--seed_everything", "3"], r"seed_everything 3 \(was 42\)"),
    ],
)
def test_another_command_line_changes_nothing(call, run, options, message):
    before = contents(run)
    done = call("fit", *DIGITS, *AUTO, "--trainer.default_root_dir", "run", *options)
    assert done.code == 2
    assert re.search(message, done.err)
    assert contents(run) == before


@pytest.mark.slow
def test_a_run_without_its_last_checkpoint_is_not_begun_over_the_others(call, run):
    (run / LAST).unlink()
    done = call("fit", *DIGITS, *AUTO, "--trainer.default_root_dir", "run")
    assert (done.code, "has no 'last' checkpoint; there is run/checkpoints/best.ckpt" in done.err) == (2, True)


@pytest.mark.parametrize("left", ["last", "best"])
def test_a_checkpoint_without_a_configuration_could_be_of_any_run(call, run, left):
    (run / "config.yaml").unlink()
    for path in (run / "checkpoints").glob("*.ckpt"):
        if path.stem != left:
            path.unlink()
    done = call("fit", *DIGITS, *AUTO, "--trainer.default_root_dir", "run")
    assert (done.code, "has no config.yaml to tell whether it is of this run" in done.err) == (2, True)


@pytest.mark.slow
def test_other_images_in_the_same_place_are_refused(fit, capsys):
    write_class_folders(Path("images"))
    data = ["--data", "FolderData", "--data.train", "images", "--data.val", "images", "--data.image_size", "32"]
    small = ["--data.batch_size", "4", "--model.backbone", "poolformer_tiny", "--model.num_classes", "3"]
    words = ["--config", "s12", *data, *small, *ONE_EPOCH, "--trainer.max_epochs", "2", "--model.cooldown_epochs", "0"]
    with pytest.raises(Died):
        fit("run", *AUTO, base=words, callbacks=[Die(1, 0)])
    Path("images/class_0/0.JPEG").rename("images/class_1/moved.JPEG")
    before = contents(Path("run"))
    assert fit("run", *AUTO, base=words) == 2
    message = "the run has other data than before: labels of the training images (changed), files of the training"
    assert message in capsys.readouterr().err
    assert sorted(contents(Path("run")).values()) == sorted(before.values())  # events have another name: see `fit`
