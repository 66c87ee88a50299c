"""Signals that stop a run, and the run that goes on: equal to the one that was never stopped, to the bit."""

import os
import pickle
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from data_images import write_class_folders
from forked import Started
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import SLURMEnvironment
from runs import DIGITS, DRAWS, EACH_DIGIT, SHORT, STEPS, Die, Died, SignalAt, assert_same_run, curves, last

from poolformer.checkpoint.reading import read
from poolformer.cli import dispatch as cli
from poolformer.cli import training as training_cli
from poolformer.run import trainer as run_trainer
from poolformer.run.launch import launched

pytestmark = pytest.mark.filterwarnings("ignore:`_get_value` was deprecated")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing stopped."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        assert cli.main(["fit", *DIGITS, "--trainer.default_root_dir", str(run_dir)]) == 0
    return run_dir


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hook", "step", "saved_at"),
    [
        # Of these two there is one in test_loops.py, in a chain of stops.
        pytest.param("sanity check", 0, 0, marks=pytest.mark.exhaustive),
        pytest.param("validation", STEPS, STEPS, marks=pytest.mark.exhaustive),
        ("training", 0, 1),
        ("training", 7, 8),
        ("training", STEPS - 1, STEPS),  # the last batch of an epoch: its validation is still to come
        ("epoch end", 2 * STEPS, 2 * STEPS),
    ],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(fit, whole, hook, step, saved_at):
    assert fit("run", callbacks=[SignalAt(hook, step)]) == 143
    assert last("run")["global_step"] == saved_at
    assert fit("run", "--ckpt_path", "last") == 0
    assert_same_run(whole, "run")


@pytest.mark.exhaustive
def test_five_restarts_in_one_epoch_and_another_seed_change_nothing(fit):
    base = [*EACH_DIGIT, "--data.batch_size", "200"]  # seven steps an epoch
    assert fit("whole", base=base) == 0
    assert fit("run", base=base, callbacks=[SignalAt("training", 7, signal.SIGINT)]) == 130
    options = ["--ckpt_path", "last", "--seed_everything", 7]
    for step in range(8, 12):
        with pytest.warns(UserWarning, match=r"the run keeps its seed, 42; --seed_everything 7 is for new runs"):
            assert fit("run", *options, base=base, callbacks=[SignalAt("training", step)]) == 143
        assert last("run")["global_step"] == step + 1
    with pytest.warns(UserWarning, match="the run keeps its seed, 42"):
        assert fit("run", *options, base=base) == 0  # the fifth restart after step 12 of 14
    assert_same_run("whole", "run")


@pytest.mark.exhaustive
def test_images_in_folders_go_on_to_the_bit(fit, tmp_path):
    images = str(write_class_folders(tmp_path / "images", images=7))
    base = [*SHORT, *DRAWS, "--data", "FolderData", "--data.train", images, "--data.val", images]
    base += ["--data.image_size", "32", "--data.batch_size", "4", "--model.backbone", "poolformer_tiny"]
    base += ["--model.num_classes", "3", "--model.warmup_epochs", "0", "--trainer.max_epochs", "2"]
    base += ["--data.num_workers", "2", "--trainer.accumulate_grad_batches", "2", "--model.cooldown_epochs", "0"]
    assert fit("whole", base=base) == 0
    assert fit("run", base=base, callbacks=[SignalAt("training", 1)]) == 143
    assert last("run")["global_step"] == 2  # of two batches each: none of their gradients is lost
    assert fit("run", "--ckpt_path", "last", base=base, callbacks=[SignalAt("validation", 3)]) == 143
    assert fit("run", "--ckpt_path", "last", base=base) == 0
    assert_same_run("whole", "run")


@pytest.mark.exhaustive
def test_a_run_saved_in_mid_epoch_survives_what_gives_no_warning(fit, whole):
    """Killed without a signal that can be caught: what counts is the last checkpoint, here of every third step."""
    with pytest.raises(Died):
        fit("run", "--save_every_n_steps", 3, callbacks=[Die(1, 2)])
    assert last("run")["global_step"] == 6
    assert fit("run", "--save_every_n_steps", 3, "--ckpt_path", "last") == 0
    assert_same_run(whole, "run")


@pytest.mark.slow
def test_a_run_of_so_many_steps_goes_on_to_the_same_end(fit):
    """From the end of an epoch, where Lightning's own max_steps counts one that it does not train."""
    steps = ["--trainer.max_steps", 2 * STEPS + 2]
    assert fit("whole", *steps) == 0
    assert last("whole")["global_step"] == 2 * STEPS + 2
    with pytest.raises(Died):
        fit("run", *steps, callbacks=[Die(1, 1)])
    assert last("run")["global_step"] == STEPS
    assert fit("run", *steps, "--ckpt_path", "last") == 0
    assert_same_run("whole", "run")


@pytest.mark.slow
def test_gradients_that_are_gathered_are_lost_nowhere(fit):
    """Two batches a step; killed between them, and killed again one batch after the run went on."""
    gathers = ["--trainer.accumulate_grad_batches", 2]
    assert fit("whole", *gathers) == 0
    every = [*gathers, "--save_every_n_steps", 1]
    with pytest.raises(Died):
        fit("run", *every, callbacks=[Die(1, 2)])
    for _ in range(2):
        with pytest.raises(Died):
            fit("run", *every, "--ckpt_path", "last", callbacks=[Die(1, 2)])
    assert fit("run", *every, "--ckpt_path", "last") == 0
    assert_same_run("whole", "run")


@pytest.mark.slow
def test_validation_in_the_middle_of_a_step_is_refused_before_anything_is_moved(fit, capsys):
    options = ["--trainer.accumulate_grad_batches", 4, "--trainer.val_check_interval", 2]
    assert fit("run", *options) == 2
    assert "--trainer.val_check_interval: validation after 2 batches comes in the middle" in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.slow
def test_a_signal_while_data_is_opened_ends_with_its_code(fit, monkeypatch):
    def opened(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr("poolformer.data.DigitsData.train_dataloader", opened)
    assert fit("run", "--trainer.num_sanity_val_steps", 0) == 143
    assert not Path("run").exists()


@pytest.mark.slow
def test_a_training_set_that_changed_is_said(fit, tmp_path):
    images = write_class_folders(tmp_path / "images", images=7)
    base = [*SHORT, "--data", "FolderData", "--data.train", str(images), "--data.val", str(images)]
    base += ["--data.image_size", "32", "--data.batch_size", "4", "--model.backbone", "poolformer_tiny"]
    base += ["--model.num_classes", "3", "--model.warmup_epochs", "0", "--trainer.max_epochs", "2"]
    base += ["--model.cooldown_epochs", "0"]
    assert fit("run", base=base, callbacks=[SignalAt("training", 2)]) == 143
    one = next(path for path in sorted(images.rglob("*")) if path.is_file())
    shutil.copy(one, one.with_stem("another"))
    with pytest.warns(UserWarning, match=r"train_images 22 \(was 21\)"):
        assert fit("run", "--ckpt_path", "last", base=base) == 0


@pytest.mark.slow
def test_the_configuration_says_the_seed_that_the_run_keeps(fit, whole):
    shutil.copytree(whole, "run")
    options = ["--ckpt_path", "last", "--seed_everything", 7, "--trainer.max_epochs", 4]
    with pytest.warns(UserWarning, match="the run keeps its seed, 42"):
        assert fit("run", *options) == 0
    assert "seed_everything: 42" in Path("run/config.yaml").read_text()


@pytest.mark.slow
def test_what_killed_writes_left_is_removed_when_a_run_starts(fit):
    left = Path("run/checkpoints/.last.ckpt.123.tmp")
    left.parent.mkdir(parents=True)
    left.touch()
    assert fit("run", "--trainer.max_epochs", 2) == 0
    assert sorted(path.name for path in left.parent.iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.slow
def test_two_runs_do_not_write_to_one_directory(fit, capsys):
    class StartAnother(Callback):
        code = None

        def on_train_epoch_start(self, trainer, *_):
            if trainer.current_epoch == 1:
                self.code = fit("run", "--trainer.max_epochs", 2)
                for signum in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(signum, signal.SIG_DFL)

    another = StartAnother()
    assert fit("run", callbacks=[another]) == 0
    assert another.code == 2
    assert "another run is writing to 'run': wait for it, stop it, or choose another" in capsys.readouterr().err
    assert not Path("run/previous").exists()
    assert fit("run", "--trainer.max_epochs", 2) == 0  # the lock is gone with the run


@pytest.mark.slow
def test_going_on_from_the_best_keeps_the_last(fit, whole):
    shutil.copytree(whole, "run")
    shutil.copy("run/checkpoints/last.ckpt", "run/checkpoints/best.ckpt")
    assert fit("run", "--ckpt_path", "best", "--trainer.max_epochs", 4) == 0
    assert read(Path("run/previous/1/checkpoints/last.ckpt"))["global_step"] == 3 * STEPS
    assert last("run")["global_step"] == 4 * STEPS


@pytest.mark.slow
def test_fewer_epochs_than_there_were_is_a_line(fit, whole, capsys):
    assert fit(whole, "--ckpt_path", "last", "--trainer.max_epochs", 1, "--model.warmup_epochs", 0) == 2
    assert "last.ckpt' is in epoch 3 already: raise --trainer.max_epochs" in capsys.readouterr().err


@pytest.mark.slow
def test_slurm_does_not_requeue_with_a_checkpoint_outside_of_the_run(fit, monkeypatch):
    for name in ("SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_PROCID"):
        monkeypatch.setenv(name, "1" if name == "SLURM_NTASKS" else "0")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    seen = []

    class Look(Callback):
        def on_train_start(self, trainer, *_):
            seen.append(trainer._accelerator_connector.cluster_environment)

    assert fit("run", "--trainer.max_epochs", 2, callbacks=[Look()]) == 0
    assert type(seen[0]).__name__ == "SLURMEnvironment"
    assert not seen[0].auto_requeue


def test_a_trainer_can_be_sent_to_processes_that_are_spawned(tmp_path):
    start = training_cli.build("fit", ["--trainer.default_root_dir", str(tmp_path / "run")])
    sent = pickle.loads(pickle.dumps(start.trainer))
    assert sent.fit_loop.epoch_loop.stop.waiting is not start.trainer.fit_loop.epoch_loop.stop.waiting
    sent.fit_loop.epoch_loop._on_before_fetch()
    assert sent.fit_loop.epoch_loop.stop.waiting._is_on


@pytest.mark.parametrize("within", [True, False])
def test_torchrun_in_a_slurm_job_has_the_say_over_ranks(monkeypatch, within):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_LOCALID", "0")
    if within:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
        monkeypatch.setenv("WORLD_SIZE", "1")
    slurm = [each for each in run_trainer.plugins(None, "stop", launched()) if isinstance(each, SLURMEnvironment)]
    assert bool(slurm) is not within


@pytest.mark.slow
def test_a_moved_run_keeps_its_best_epoch(fit):
    assert fit("whole", base=EACH_DIGIT) == 0  # with epochs that differ
    shutil.move("whole", "moved")
    best = last("moved", "best")
    options = ["--ckpt_path", "last", "--trainer.max_epochs", 4, "--model.lr", 0]
    said = r"is resumed with other options: lr 0\.0 \(was 0\.006\)"
    with pytest.warns(UserWarning, match=said):
        assert fit("moved", *options, "--model.weight_decay", 0.05, base=EACH_DIGIT) == 0
    scores = [value for _, value in curves("moved")["val/top1"]]
    assert len(scores) == 4
    assert scores[3] < max(scores)
    assert last("moved", "best")["global_step"] == best["global_step"]


@pytest.mark.slow
def test_what_changes_when_a_run_goes_on_is_said_and_holds(fit, whole, lightnings_log):
    shutil.copytree(whole, "run")
    options = ["--model.weight_decay", 0.5, "--data.batch_size", 128, "--trainer.max_epochs", 4]
    said = r"weight_decay 0\.5 \(was 0\.05\), batch_size 128 \(was 32\)"
    with pytest.warns(UserWarning, match=said):
        assert fit("run", *options, "--ckpt_path", "last") == 0
    assert "The schedule is now one of 4 epochs, not of 3" in lightnings_log.text
    assert [group["weight_decay"] for group in last("run")["optimizer_states"][0]["param_groups"]] == [0.5, 0]


# ---- in processes of their own


@pytest.fixture
def poolformer():
    """Start the command in a process of its own, which does not outlive the test."""
    started = []

    def start(*arguments) -> Started:
        started.append(Started("-m", "poolformer", *arguments))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(file: Path, process: Started) -> None:
    deadline = time.monotonic() + 240
    while not file.exists():
        assert process.poll() is None, process.said()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def alive(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


ENDLESS = [*SHORT, "--data.batch_size", "64", "--model.warmup_epochs", "1", "--trainer.max_epochs", "1000"]


@pytest.mark.slow
def test_a_process_that_is_interrupted_says_so_by_its_exit_code(poolformer, tmp_path):
    process = poolformer("fit", *ENDLESS, "--trainer.default_root_dir", tmp_path)
    wait_for(tmp_path / "checkpoints" / "last.ckpt", process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    step = last(tmp_path)["global_step"]
    assert f"Stopped after step {step}; saved in '{tmp_path}/checkpoints/last.ckpt'" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "to", "code"),
    [
        ("TERM", "main", 143),
        pytest.param("KILL", "main", -9, marks=pytest.mark.exhaustive),
        pytest.param("KILL", "child", None, marks=pytest.mark.exhaustive),
    ],
)
def test_two_processes_end_together(poolformer, tmp_path, signum, to, code):
    two = ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
    process = poolformer("fit", *ENDLESS, *two, "--trainer.default_root_dir", tmp_path)
    wait_for(tmp_path / "checkpoints" / "last.ckpt", process)
    (child,) = children(process.pid)
    os.kill(process.pid if to == "main" else child, signal.Signals[f"SIG{signum}"])
    process.communicate(timeout=120)
    assert process.returncode == code if code is not None else process.returncode != 0
    deadline = time.monotonic() + 30
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(child)
    last(tmp_path)  # loads


CYCLES = int(os.environ.get("POOLFORMER_KILL_CYCLES", 2))


@pytest.mark.exhaustive
def test_kills_at_random_moments_do_not_change_the_run(poolformer, tmp_path, whole):
    """SIGKILL and SIGTERM in turn; POOLFORMER_KILL_CYCLES says how often."""
    draw, run_dir = random.Random(0), tmp_path / "run"
    base = ["fit", *DIGITS, "--save_every_n_steps", "1", "--trainer.default_root_dir", run_dir]
    process, kills = poolformer(*base), 0
    while kills < CYCLES:
        before = last(run_dir)["global_step"] if kills else -1
        while process.poll() is None and (
            not (run_dir / "checkpoints/last.ckpt").exists() or last(run_dir)["global_step"] <= before
        ):
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 0.6 / CYCLES))
        process.send_signal(signal.SIGTERM if kills % 2 else signal.SIGKILL)
        said = process.communicate(timeout=120)[1]
        if process.returncode == 0:  # it was done before the signal came
            break
        assert process.returncode in (-signal.SIGKILL, 128 + signal.SIGTERM), said
        kills += 1
        process = poolformer(*base, "--ckpt_path", "last")
    else:
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    assert kills > 0
    assert_same_run(whole, run_dir, killed=True)
