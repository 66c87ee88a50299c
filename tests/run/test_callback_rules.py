"""Lightning's callbacks by name: each works, also from the saved configuration, or is refused."""

from pathlib import Path

import pytest
from runs import QUICK, last

from poolformer.cli import dispatch as cli

pytestmark = pytest.mark.filterwarnings("ignore:`_get_value` was deprecated")

REFUSED = {
    "BackboneFinetuning": "nothing would be trained",
    "BaseFinetuning": "it is a base for callbacks of your own",
    "BasePredictionWriter": "it is a base for callbacks of your own",
    "BatchSizeFinder": "pass --data.batch_size",
    "LearningRateFinder": "extras/lr-finder says which --model.lr to pass",
    "ModelPruning": "checkpoints do not keep its masks",
    "SpikeDetection": "could not be resumed",
    "StochasticWeightAveraging": "use EMAWeightAveraging or WeightAveraging",
}
OPTIONS = {
    "EarlyStopping": ["--trainer.callbacks.monitor", "val/loss"],
    "GradientAccumulationScheduler": ["--trainer.callbacks.scheduling", "{1: 2}"],
    "ModelCheckpoint": ["--trainer.callbacks.train_time_interval", "1:00:00"],
    "ModelPruning": ["--trainer.callbacks.pruning_fn", "l1_unstructured"],
    "OnExceptionCheckpoint": ["--trainer.callbacks.dirpath", "kept"],
    "StochasticWeightAveraging": ["--trainer.callbacks.swa_lrs", "0.01"],
    "ThroughputMonitor": ["--trainer.callbacks.batch_size_fn", "builtins.len"],
    "Timer": ["--trainer.callbacks.duration", "12:00:00:00"],
}

CHANGE_SOMETHING = ("EMAWeightAveraging", "GradientAccumulationScheduler", "ModelCheckpoint", "Timer")


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_a_callback_that_could_not_hold_is_refused_by_name(fit, name, capsys):
    assert fit("run", f"--trainer.callbacks+={name}", *OPTIONS.get(name, []), base=QUICK) == 2
    said = capsys.readouterr().err
    assert f"--trainer.callbacks {name}: " in said
    assert REFUSED[name] in said
    assert not Path("run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGE_SOMETHING)
def test_a_callback_works_again_from_the_saved_configuration(fit, name):
    options = [*OPTIONS.get(name, []), "--trainer.max_steps", 5]
    assert fit("run", f"--trainer.callbacks+={name}", *options, base=QUICK) == 0
    again = ["fit", "--config", "run/config.yaml", "--ckpt_path", "last", "--trainer.max_steps", "-1"]
    assert cli.main(again) == 0
    steps = last("run")["global_step"]
    assert steps == (4 + 2 * 2 if name == "GradientAccumulationScheduler" else 12)


@pytest.mark.slow
def test_a_run_begins_anew_beside_a_callback_for_which_lightning_would_resume(fit):
    for steps in (5, 3):
        options = ["--trainer.callbacks+=OnExceptionCheckpoint", *OPTIONS["OnExceptionCheckpoint"]]
        assert fit("run", *options, "--trainer.max_steps", steps, base=QUICK) == 0
        assert last("run")["global_step"] == steps
