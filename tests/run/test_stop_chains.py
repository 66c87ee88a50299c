"""Runs that are stopped in a random manner several times over, each equal to the one that nothing stopped."""

import os
import random
import signal

import pytest
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from runs import QUICK, QUICK_STEPS, SignalAt, assert_same_state

pytestmark = pytest.mark.filterwarnings("ignore:`_get_value` was deprecated")

CHAINS = int(os.environ.get("POOLFORMER_STOP_CHAINS", 2))
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]


class StopAt(Callback):
    """Asks Lightning to stop, after any batch of the run."""

    def __init__(self, batch: int):
        self.batch = batch

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop |= trainer.fit_loop.total_batch_idx == self.batch


def options_of(draw: random.Random) -> tuple[list[str], bool]:
    """Draw how validation, steps and checkpoints lie, and whether weights are averaged."""
    options = draw.choice([[], ["--trainer.val_check_interval", "2"]])
    options = options + draw.choice([[], ["--trainer.accumulate_grad_batches", "2"]])
    return options + draw.choice(
        [[], ["--save_every_n_steps", "1"], ["--save_every_n_steps", "3"]]
    ), draw.random() < 0.6


def stop_of(draw: random.Random, steps: int) -> tuple[list[str], list[Callback]]:
    kind, step = draw.choice(["signal", "signal", "max_steps", "should_stop"]), draw.randrange(steps)
    if kind == "signal":
        return [], [SignalAt(draw.choice(["training", "validation", "epoch end"]), step, draw.choice(SIGNALS))]
    if kind == "max_steps":
        return ["--trainer.max_steps", str(step + 1)], []
    return [], [StopAt(draw.randrange(3 * QUICK_STEPS))]


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(CHAINS))
def test_any_chain_of_stops_leads_to_the_same_end(fit, seed):
    """POOLFORMER_STOP_CHAINS says how many."""
    draw = random.Random(seed)
    options, averages = options_of(draw)
    steps = 3 * QUICK_STEPS // (2 if "--trainer.accumulate_grad_batches" in options else 1)

    def always():
        return [EMAWeightAveraging(decay=0.5, update_starting_at_epoch=0)] if averages else []

    assert fit("whole", *options, base=QUICK, callbacks=always()) == 0
    for _ in range(draw.randint(2, 4)):
        resumes = ["--ckpt_path", "last"] if os.path.exists("run/checkpoints/last.ckpt") else []
        limit, stops = stop_of(draw, steps)
        said = [limit, [vars(stop) for stop in stops]]
        assert fit("run", *options, *limit, *resumes, base=QUICK, callbacks=[*always(), *stops]) in (0, *CODES), said
    assert fit("run", *options, "--ckpt_path", "last", base=QUICK, callbacks=always()) in (0, 2)  # 2: it was done
    assert_same_state("whole", "run")


CODES = [128 + signum for signum in SIGNALS]
