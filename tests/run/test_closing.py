"""What a run says at its end is what is there: read off the disk, not off what a run usually leaves."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command_line import BEST, LAST, ONE_EPOCH, SHORT, files, scalars

from poolformer.checkpoint.reading import read
from poolformer.checkpoint.record import METRICS
from poolformer.files.shell import quoted
from poolformer.run.closing import nothing_trained, place

pytestmark = pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
CALLBACKS = """
trainer:
  callbacks:
    - class_path: EarlyStopping
      init_args: {monitor: val/loss, mode: min}
    - class_path: ModelCheckpoint
      init_args: {monitor: val/loss, mode: min, dirpath: mine, filename: mine}
    - class_path: ModelCheckpoint
      init_args: {monitor: val/top1, mode: min, dirpath: worst, filename: worst}
"""


def closing_of(done) -> dict[str, str]:
    """Return the lines of the block, by what stands before them."""
    assert done.code == 0, done.err
    headline, *rest = done.out.rpartition("\n\n")[2].strip().splitlines()
    return {"": headline, **{line[:13].strip(): line[13:] for line in rest}}


@pytest.mark.slow
def test_the_headline_is_of_the_accuracy_whatever_other_callbacks_watch(call, work):
    (work / "callbacks.yaml").write_text(CALLBACKS)
    three = [*SHORT, "--trainer.max_epochs", "3", "--model.cooldown_epochs", "0", "--trainer.default_root_dir", "r"]
    said = closing_of(call("fit", "--config", "digits", "--config", "callbacks.yaml", *three))
    curve = [value for _, value in scalars(work / "r")["val/top1"]]
    assert said[""] == f"val/top1 {curve[-1]:.4f} after {len(curve)} epochs, best {max(curve):.4f}"
    assert read(work / "r" / BEST)[METRICS]["val/top1"] == pytest.approx(max(curve), abs=1e-6)


@pytest.mark.parametrize(
    ("option", "value", "bound"),
    [
        pytest.param("max_steps", "30", [], marks=pytest.mark.slow),
        pytest.param("max_time", "00:00:00:03", ["--trainer.max_steps", "9999"], marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:the run is resumed with other options. callbacks")
def test_what_ended_a_run_is_what_is_raised_to_train_on(call, work, option, value, bound):
    quick = ["--trainer.limit_train_batches", "20", "--trainer.limit_val_batches", "1"]
    said = closing_of(call("fit", *quick, f"--trainer.{option}", value))
    steps = read(work / "runs/digits" / LAST)["global_step"]
    assert f"after {steps} steps" in said[""]
    assert said["train on"].endswith(f" --trainer.{option} {2 * steps if option == 'max_steps' else 'null'}")
    bound = [word.replace("9999", str(steps + 5)) for word in bound]
    more = call(*shlex.split(said["train on"])[1:], *bound)
    assert more.code == 0, more.err
    assert read(work / "runs/digits" / LAST)["global_step"] == (steps + 5 if bound else 2 * steps)


@pytest.mark.slow
def test_all_limits_that_a_run_has_reached_are_raised(call, work):
    quick = ["--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "1", "--model.warmup_epochs", "0"]
    quick += ["--trainer.log_every_n_steps", "1"]
    said = closing_of(call("fit", *quick, "--trainer.max_epochs", "1", "--trainer.max_steps", "3"))
    assert said["train on"].endswith(" --trainer.max_epochs 2 --trainer.max_steps 6")
    assert call(*shlex.split(said["train on"])[1:]).code == 0
    assert read(work / "runs/digits" / LAST)["global_step"] == 6
    spawned = SimpleNamespace(global_step=0, current_epoch=0)  # whose processes have trained
    assert place(work / "runs/digits/checkpoints", spawned) == (2, 6)


@pytest.mark.slow
def test_a_run_without_validation_says_so_and_offers_what_there_is(call, work):
    said = closing_of(call("fit", *ONE_EPOCH, "--trainer.limit_val_batches", "0"))
    assert re.fullmatch(r"train/loss [\d.]+ after 1 epoch; nothing was validated", said[""])
    assert said["run"] == "runs/digits  (config.yaml, TensorBoard events, checkpoints/last.ckpt)"
    assert said["evaluate"].endswith("--ckpt_path last")


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["false", "CSVLogger"])
def test_no_events_are_announced_where_there_are_none(call, work, logger):
    more = ["--trainer.logger.save_dir", "my logs"] if logger == "CSVLogger" else []
    said = closing_of(call("fit", *ONE_EPOCH, "--trainer.logger", logger, *more))
    assert said["run"] == "runs/digits  (config.yaml, checkpoints/best.ckpt, last.ckpt)"
    assert "look at it" not in said
    assert said.get("also") == ("'my logs/lightning_logs/version_0'" if more else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--trainer.limit_train_batches", "0"], "Nothing was trained: --trainer.limit_train_batches is 0"),
        (["--trainer.max_time", "00:00:00:00"], "Nothing was trained: the time of --trainer.max_time was over"),
    ],
)
def test_a_run_that_has_not_begun_announces_nothing(call, work, options, why):
    done = call("fit", *ONE_EPOCH, *options)
    assert (done.code, done.out) == (0, f"{why}\n")
    assert not (work / "runs/digits" / LAST).exists()


@pytest.mark.slow
def test_a_run_that_was_there_before_is_not_taken_for_this_one(call, work):
    assert call("fit", *ONE_EPOCH).code == 0
    before = files(work / "runs/digits")
    done = call("fit", *ONE_EPOCH, "--trainer.limit_train_batches", "0")
    assert done.out == "Nothing was trained: --trainer.limit_train_batches is 0\n"
    assert files(work / "runs/digits") >= before


def test_what_a_run_is_at_already_names_the_limit_it_has_reached():
    options = {"max_epochs": 9, "max_steps": 40}
    said = nothing_trained(options, Path("r/last.ckpt"), epochs=3, steps=40, limits=["max_steps"])
    assert said == "'r/last.ckpt' is at 3 epochs, 40 steps already: raise --trainer.max_steps"
    said = nothing_trained(options | {"max_steps": 0}, Path("r/last.ckpt"), epochs=9, steps=40, limits=["max_epochs"])
    assert said == "Nothing was trained: --trainer.max_steps is 0"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["my runs/a (1)", "it's a & b"])
def test_the_printed_commands_can_be_pasted(call, work, name):
    said = closing_of(call("fit", *ONE_EPOCH, "--trainer.default_root_dir", name))
    program, *arguments = shlex.split(said["evaluate"])
    done = call(*arguments, "--trainer.limit_val_batches", "1")
    assert (program, done.code) == ("poolformer", 0)
    assert shlex.split(said["look at it"])[-1] == str(Path(name).parent)
    assert shlex.split(said["another mix"])[-1] == f"{name}-identity"
    more = call(*shlex.split(said["train on"])[1:])
    assert "after 2 epochs" in more.out


@pytest.mark.slow
def test_checkpoints_beside_the_usual_ones_are_counted(call, work):
    (work / "runs/digits/checkpoints").mkdir(parents=True)
    torch.save({}, work / "runs/digits/checkpoints/other.ckpt")
    said = closing_of(call("fit", *ONE_EPOCH, "--trainer.logger", "false"))
    there = said["run"].removeprefix("runs/digits  ")
    expected = len(list((work / "runs/digits/checkpoints").glob("*.ckpt"))) - 2
    assert there == f"(config.yaml, checkpoints/best.ckpt, last.ckpt{', 1 other checkpoint' if expected else ''})"


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (Path("runs/a"), "runs/a"),
        (Path("a b"), "'a b'"),
        (Path("-x/y"), "./-x/y"),
        ("my:Mixer", "my:Mixer"),
        ("a:b; rm -rf ~", "'a:b; rm -rf ~'"),
        ({"name": "a:b's"}, """'{"name": "a:b'"'"'s"}'"""),
    ],
)
def test_a_value_is_one_word_of_a_shell(value, word):
    assert quoted(value) == word
    assert len(shlex.split(word)) == 1
