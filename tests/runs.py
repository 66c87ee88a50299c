"""Runs for the tests of stopping and resuming: what ends them, and how two of them are compared."""

import os
import signal
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from poolformer.checkpoint.reading import read

SHORT = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"]
# All that draws: mixing, erasing, drop path, and the data's own augmentation.
DRAWS = ["--model.drop_path_rate", "0.3", "--model.mixup", "0.8", "--model.cutmix", "1", "--model.erase_prob", "0.25"]
EACH_DIGIT = [*SHORT, *DRAWS, "--data.batch_size", "256", "--model.warmup_epochs", "1", "--trainer.max_epochs", "3"]
# The same in a third of the time: as many steps an epoch, of fewer images. What is logged beside the run's course costs
# a third of so short a run: tests that have a say on it ask for it with LOGGED.
DIGITS = [*EACH_DIGIT, "--data.batch_size", "32", "--trainer.limit_train_batches", "5"]
DIGITS += ["--trainer.limit_val_batches", "2", "--log_without", "all"]
LOGGED = ["--log_without", "null"]
STEPS = 5  # an epoch: 1437 digits in whole batches of 256, or as many as are asked for


class SignalAt(Callback):
    """Sends this process a signal, once, in a step and hook of training."""

    def __init__(self, hook: str, step: int, signum: int = signal.SIGTERM):
        self.hook, self.step, self.signum = hook, step, signum

    def _reached(self, hook, trainer):
        if (hook, trainer.global_step) == (self.hook, self.step):
            self.step = None
            os.kill(os.getpid(), self.signum)

    def on_train_batch_start(self, trainer, *_):
        self._reached("training", trainer)

    def on_validation_batch_start(self, trainer, *_):
        self._reached("sanity check" if trainer.sanity_checking else "validation", trainer)

    def on_train_epoch_end(self, trainer, *_):
        self._reached("epoch end", trainer)


class Died(Exception):
    """Of `Die`: no error that a command answers with a line."""


class Die(Callback):
    """Ends the run after a batch, as SIGKILL would: what counts is the last checkpoint."""

    def __init__(self, epoch: int, batch: int):
        self.place = epoch, batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.place:
            raise Died


def last(run_dir, name="last"):
    return read(Path(run_dir, "checkpoints", f"{name}.ckpt"))


def curves(run_dir) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: tags to points, without those that measure time."""
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("throughput")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def assert_same_run(first, second, *, killed=False):
    for name in ("last", "best"):
        one, other = last(first, name), last(second, name)
        assert one["global_step"] == other["global_step"]
        for key, weights in one["state_dict"].items():
            assert torch.equal(weights, other["state_dict"][key]), f"{name}: {key}"
    one, other = curves(first), curves(second)
    if killed:  # it may do a validation again, and lose the points of its last moment: none has another value
        assert one.keys() == other.keys()
        assert all(set(points) <= set(one[tag]) for tag, points in other.items())
        return
    assert one == other


QUICK = [*SHORT, *DRAWS, "--data.batch_size", "16", "--model.warmup_epochs", "1", "--trainer.max_epochs", "3"]
QUICK += ["--trainer.limit_train_batches", "4", "--trainer.limit_val_batches", "2", "--log_without", "all"]
QUICK_STEPS = 4


def assert_same_state(first, second, name="last"):
    """Compare all that a checkpoint has of a run's course: weights, averages, optimisers, counts."""
    one, other = last(first, name), last(second, name)
    assert one["global_step"] == other["global_step"]
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        assert_equal(one.get(key), other.get(key), key)
    for loops in (one["loops"]["fit_loop"], other["loops"]["fit_loop"]):
        del loops["epoch_loop.val_loop.batch_progress"]  # says how often validation was begun
    assert_equal(one["loops"]["fit_loop"], other["loops"]["fit_loop"], "loops")


def assert_equal(one, other, where):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{where}.{number}")
    else:
        assert one == other, where
