"""What a log file of a run says, line by line."""

import re
import sys

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import Callback, RichProgressBar, TQDMProgressBar
from runs import QUICK, Die, Died, SignalAt

from poolformer.run import epoch_lines
from poolformer.run.epoch_lines import clock_time
from poolformer.run.lightning_internals import Bar

NUMBER, PLACE = r"\d[\d.,]*", r"epoch +(\d+)/(\d+)(?:  (\d+) %)?"
VALIDATED = rf"  val/loss {NUMBER}  val/top1 {NUMBER} \(best {NUMBER}\)"
LINE = re.compile(rf"{PLACE}  train/loss {NUMBER}({VALIDATED})?(.*)  lr {NUMBER}e-\d  {NUMBER} img/s  (\S+) left")


@pytest.fixture
def said(fit, capsys):
    """Train four batches an epoch, three epochs; return the lines: epoch, epochs, per cent, validated, others."""

    def said(run_dir, *options, callbacks=(), code=0):
        try:
            assert fit(run_dir, *options, callbacks=callbacks, base=QUICK) == code
        finally:
            lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
        found = [LINE.fullmatch(line) for line in lines]
        assert None not in found, lines
        return [(match[1], match[2], match[3], bool(match[4])) for match in found]

    return said


WHOLE = [(epoch, "3", None, True) for epoch in "123"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.ModelCheckpoint")  # of a run without validation, whose best nobody knows
@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ([], WHOLE),
        (["--trainer.limit_val_batches", "0"], [(epoch, "3", None, False) for epoch in "123"]),
        (["--trainer.check_val_every_n_epoch", "2"], [(epoch, "3", None, epoch == "2") for epoch in "123"]),
        (
            ["--trainer.val_check_interval", "0.5", "--trainer.max_epochs", "2"],
            [(epoch, "2", share, True) for epoch in "12" for share in ("50", None)],
        ),
        (["--trainer.max_steps", "6"], [("1", "2", None, True), ("2", "2", "50", True)]),
        (["--trainer.logger", "false", "--trainer.enable_checkpointing", "false"], WHOLE),
    ],
    ids=["plain", "no validation", "every second epoch", "twice an epoch", "max_steps", "no logger"],
)
def test_each_epoch_has_a_line_with_what_was_validated_in_it(said, tmp_path, options, lines):
    assert said(tmp_path / "run", *options) == lines


@pytest.mark.slow
def test_a_resumed_run_counts_on_and_knows_its_best(said, fit, tmp_path, capsys):
    steps = ["--save_every_n_steps", "1"]
    with pytest.raises(Died):
        said(tmp_path / "run", *steps, callbacks=[Die(1, 1)])
    fit(tmp_path / "run", *steps, "--ckpt_path", "last", base=QUICK)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [LINE.fullmatch(line)[1] for line in lines] == ["2", "3"]
    shown = [[float(number) for number in re.search(r"val/top1 (\S+) \(best (\S+)\)", line).groups()] for line in lines]
    assert all(best >= top1 for top1, best in shown)


class Mine(Callback):
    """Logs as users' callbacks do: in training, in validation, at the end of an epoch."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.log("mine/step", 5.0, prog_bar=True)

    def on_train_epoch_end(self, trainer, pl_module):
        self.log("mine/epoch", 0.123456, prog_bar=True)

    def on_validation_epoch_end(self, trainer, pl_module):
        self.log("val/mine", 12345.0, prog_bar=True)
        self.log("val/unseen", 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("bar", [None, RichProgressBar, TQDMProgressBar, lambda: TQDMProgressBar(refresh_rate=0)])
def test_what_callbacks_of_the_user_show_in_the_bar_stands_in_the_line_too(fit, tmp_path, capsys, bar):
    extra = [] if bar is None else [bar()]
    base = QUICK if bar is None else [*QUICK, "--trainer.enable_progress_bar", "true"]
    assert (
        fit(
            tmp_path / "run",
            "--trainer.max_epochs",
            "1",
            "--model.warmup_epochs",
            "0",
            callbacks=[Mine(), *extra],
            base=base,
        )
        == 0
    )
    text = capsys.readouterr().out.replace("\r", "\n")
    [line] = [line for line in re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text).splitlines() if line.startswith("epoch ")]
    for part in ("mine/step 5.00", "mine/epoch 0.123", "val/mine 1.23e+04", "val/top1"):
        assert f"  {part}" in line
    assert "unseen" not in line


def test_the_bar_counts_epochs_as_the_lines_do():
    bar = Bar()
    bar._trainer = pl.Trainer(logger=False, enable_checkpointing=False, max_epochs=12, accelerator="cpu")
    assert bar._get_train_description(0).rstrip() == "Epoch 1/12"
    assert bar._get_train_description(10).rstrip() == "Epoch 11/12"


@pytest.mark.slow
def test_a_long_epoch_has_lines_inside(said, monkeypatch, tmp_path):
    monkeypatch.setattr(epoch_lines, "FIRST_S", 0.0)
    lines = said(tmp_path / "run", "--trainer.max_epochs", "1", "--model.warmup_epochs", "0")
    assert [share for *_, share, _ in lines] == [
        "50",
        None,
    ]  # once there is a batch beside the first to go by, and the next one in three minutes


def test_a_log_file_gets_no_bar_unless_it_was_asked_for(monkeypatch):
    options = {"enable_progress_bar": None, "callbacks": None, "barebones": False}
    assert epoch_lines.has_bar(options) is False
    assert epoch_lines.has_bar({**options, "enable_progress_bar": True}) is True
    assert epoch_lines.has_bar({**options, "callbacks": [RichProgressBar()]}) is None
    assert epoch_lines.has_bar({**options, "barebones": True}) is None
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert epoch_lines.has_bar(options) is True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (72.4, "1:12"), (3599.6, "1:00:00"), (11100, "3:05:00"), (183600, "2 d 3:00:00")],
)
def test_times_are_written_as_on_a_clock(seconds, text):
    assert clock_time(seconds) == text


@pytest.mark.slow
def test_what_a_signal_did_is_said_when_no_bar_can_be_drawn_over_it_any_more(fit, tmp_path, capsys):
    code = fit(tmp_path / "run", callbacks=[SignalAt("training", 2)], base=QUICK)
    assert code == 143
    said = capsys.readouterr().out.splitlines()
    assert said[-3] == "stopped by SIGTERM after step 3"
