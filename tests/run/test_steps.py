"""A step of training that waits for nothing, between two points of the log."""

import json
import os
from pathlib import Path

import forked
import pytest
from runs import DRAWS, assert_same_run, curves, last
from waits import CountWaits

TESTS = Path(__file__).parents[1]
QUIET = ["--trainer.accelerator", "cpu", "--model.warmup_epochs", "0", "--trainer.num_sanity_val_steps", "0"]
RUN = [*QUIET, *DRAWS, "--data.batch_size", "8", "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "1"]
RUN += ["--trainer.log_every_n_steps", "10"]
UNMIXED = ["--model.mixup", "0", "--model.cutmix", "0"]  # with a top-1 of training


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "first"),
    [
        (["--trainer.limit_train_batches", "22"], 10),  # with its progress bar
        (["--trainer.limit_train_batches", "44", "--trainer.accumulate_grad_batches", "2", *UNMIXED], 10),
        (["--trainer.limit_train_batches", "15", "--trainer.max_epochs", "2"], 20),  # points count steps, not batches
    ],
)
def test_a_step_waits_for_nothing_between_two_points_of_the_log(fit, options, first):
    counting = CountWaits(first, first + 9)
    assert fit("run", *options, callbacks=[counting], base=RUN) == 0
    assert (counting.steps, counting.counts) == (9, {})


@pytest.mark.slow
def test_the_count_finds_what_waits(fit):
    class Asks(CountWaits):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if outputs["loss"] > 0:
                pl_module.log("mine", float(batch_idx), prog_bar=True)

    counting = Asks(10, 12)
    assert fit("run", "--trainer.limit_train_batches", "13", callbacks=[counting], base=RUN) == 0
    counted = {name.split(" in ")[0] for name in counting.counts}
    assert counted == {"waits: __bool__", "waits: tensor", "waits: item"}


@pytest.mark.slow
def test_a_step_of_two_processes_waits_for_gradients_alone(tmp_path):
    """And whether one was asked to stop they tell each other while the next step runs."""
    run_two([TESTS / "waits.py", tmp_path, *RUN, "--trainer.limit_train_batches", "22"], tmp_path / "run")
    losses = []
    for rank in (0, 1):
        steps, counts, found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert counts.pop("allreduce_ of float32") >= 9  # one for each bucket of gradients
        assert (steps, counts) == (9, {"allreduce_ of uint8": 9})
        losses.append(found)
    means = [(one + other) / 2 for one, other in zip(*losses, strict=True)]
    points = dict(curves(tmp_path / "run")["train/loss"])
    assert points == pytest.approx({9: means[9], 19: means[19]})  # of both processes, in the step that is logged


STOPPED = """
import sys
from poolformer.cli import dispatch
from poolformer.run import trainer as run_trainer
from runs import SignalAt

class SignalAtSecond(SignalAt):
    def _reached(self, hook, trainer):
        if trainer.global_rank == 1:
            super()._reached(hook, trainer)

of_a_run, stop = run_trainer.callbacks_of_a_run, SignalAtSecond(sys.argv[1], int(sys.argv[2]))
run_trainer.callbacks_of_a_run = lambda plan, *, logs: [stop, *of_a_run(plan, logs=logs)]
sys.exit(dispatch.main(["fit", *sys.argv[3:]]))
"""


@pytest.mark.exhaustive
def test_two_processes_agree_on_the_step_after_which_they_stop(tmp_path):
    """The second of them alone is asked to, in a step of several batches and then in a validation."""
    (tmp_path / "stopped.py").write_text(STOPPED)
    options = [*QUIET, *DRAWS, "--data.batch_size", "32", "--trainer.accumulate_grad_batches", "2"]
    options += ["--trainer.limit_train_batches", "6", "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1"]
    options += ["--trainer.enable_progress_bar", "false"]
    for run_dir, signals in (("whole", [None]), ("run", [("training", 0), ("validation", 3), None])):
        for number, signalled in enumerate(signals):
            hook, step = signalled or ("nowhere", -1)
            resume = ["--ckpt_path", "last"] if number else []
            run = [tmp_path / "stopped.py", hook, step, *options, *resume]
            assert run_two(run, tmp_path / run_dir) == (143 if signalled else 0)
            if signalled:
                assert last(tmp_path / run_dir)["global_step"] == {"training": 2, "validation": 3}[hook]
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def run_two(program, run_dir):
    two = ["--trainer.strategy", "ddp", "--trainer.devices", "2", "--trainer.default_root_dir", run_dir]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    return forked.run(*program, *two, env=environment, ranks=True).returncode
