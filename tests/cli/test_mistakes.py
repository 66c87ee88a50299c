"""Mistaken command lines: each is a line, code 2, and says what to do; nothing is trained or left behind."""

import pytest

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.cli import dispatch as cli
from poolformer.cli import field_words

# ---- numbers and words that are found when the options are parsed or the model is built

FIT = {
    "--model.lr -1": "--model.lr got '-1.0', but expects a number from 0 up",
    "--model.lr .nan": "--model.lr got 'nan', but expects a number from 0 up",
    "--model.lr .inf": "--model.lr got 'inf', but expects a number from 0 up",
    "--model.weight_decay -1": "--model.weight_decay got '-1.0', but expects a number from 0 up",
    "--model.warmup_epochs -1": "--model.warmup_epochs got '-1', but expects an integer from 0 up",
    "--model.cooldown_epochs -1": "--model.cooldown_epochs got '-1', but expects an integer from 0 up",
    "--model.mixup -1": "--model.mixup got '-1.0', but expects a number from 0 up",
    "--model.erase_prob 5": "--model.erase_prob got '5.0', but expects a number from 0 to 1",
    "--model.label_smoothing 2": "--model.label_smoothing got '2.0', but expects a number from 0 to less than 1",
    "--model.drop_path_rate 2": "--model.drop_path_rate got '2.0', but expects a number from 0 to less than 1",
    "--model.std [-1,1,1]": "--model.std got '[-1.0, 1.0, 1.0]', but expects numbers above 0",
    "--model.std [0,1,1]": "--model.std got '[0.0, 1.0, 1.0]', but expects numbers above 0",
    "--model.num_classes -1": "--model.num_classes got '-1', but expects an integer from 0 up",
    "--model.num_classes 0": "the data has 10 classes and the model 0: pass --model.num_classes 10",
    "--model.position_embedding 7": "--model.position_embedding got '7', but expects a stage from 1 to 4",
    "--data.batch_size 2000": "there are 1437 digits to train on, fewer than one batch of 2000",
    "--data.image_size 0": "--data.image_size got '0', but expects pixels from 1 to 16384",
    "--data.image_size 100000": "--data.image_size got '100000', but expects pixels from 1 to 16384",
    "--data.shift 3": "--data.shift got '3.0', but expects a number from 0 to 1",
    "--data FolderData --data.crop_pct 0": "--data.crop_pct got '0.0', but expects a number above 0, at most 1",
    "--data FolderData --data.scale [1,0.1]": "--data.scale got '[1.0, 0.1]', but expects two numbers above 0, at most",
    "--data FolderData --data.hflip 2": "--data.hflip got '2.0', but expects a number from 0 to 1",
    "--seed_everything -1": "--seed_everything got '-1', but expects an integer from 0 to 4294967295",
    "--seed_everything true": "--seed_everything got 'True', but expects an integer from 0 to 4294967295",
    "--seed_everything 18446744073709551616": "--seed_everything got '18446744073709551616', but expects an integer",
    "--trainer.max_epochs 0": "--trainer.max_epochs got '0', but expects an integer from 1 up",
    "--trainer.max_steps -5": "--trainer.max_steps got '-5', but expects an integer from 1 up, or -1 for no limit",
    "--trainer.log_every_n_steps -1": "--trainer.log_every_n_steps got '-1', but expects an integer from 0 up",
    "--trainer.accumulate_grad_batches 0": "--trainer.accumulate_grad_batches got '0', but expects an integer from 1",
    "--trainer.limit_train_batches 1.5": "--trainer.limit_train_batches got '1.5', but expects a share from 0 to 1 or",
    "--trainer.limit_val_batches -1": "--trainer.limit_val_batches got '-1', but expects a share from 0 to 1 or",
    "--trainer.limit_train_batches 0.001": "--trainer.limit_train_batches: You requested to check 0.001",
    "--trainer.val_check_interval 1.5": "--trainer.val_check_interval got '1.5', but expects a share from 0 to 1",
    "--trainer.val_check_interval 100": "--trainer.val_check_interval: `val_check_interval` (100) must be less",
    "--trainer.val_check_interval soon": "--trainer.val_check_interval: Invalid time format",
    "--trainer.val_check_interval 00:00:01:00 --trainer.accumulate_grad_batches 2": "--trainer.val_check_interval: a t",
    "--trainer.gradient_clip_val -1": "--trainer.gradient_clip_val got '-1', but expects a number from 0 up",
    "--trainer.devices 0.5": "--trainer.devices: `devices` selected with `CPUAccelerator` should be an int > 0.",
    "--trainer.devices 999": "--trainer.devices 999: on a CPU each is a process, and there are",
    "--trainer.strategy nonsense": "--trainer.strategy: You selected an invalid strategy name",
    "--trainer.profiler nonsense": "--trainer.profiler: When passing string value for the `profiler`",
    "--trainer.precision 17": "--trainer.precision got '17', but expects 64 or 32 or",
    "--trainer.max_time tomorrow": "`Timer(duration='tomorrow')` is not a valid duration",
    "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/acc": "EarlyStopping watches 'val/acc', a met",
    "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/topp1": "EarlyStopping watches 'val/topp1', a "
    "metric that nobody logs. Did you mean 'val/top1' or",
    "--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.monitor=val/acc": "ModelCheckpoint watches 'val/acc', a ",
    "--trainer.callbacks+=LearningRateMonitor": "Cannot use `LearningRateMonitor` callback with `Trainer` that has no",
    "--trainer.callbacks+=ModelCheckpoint --trainer.callbacks+=ModelCheckpoint": "Found more than one stateful",
    "--lr 1": "there is no option 'lr'. Did you mean 'model.lr'?",
    "-lr 1": "there is no option 'lr'. Did you mean 'model.lr'?",
    "-b 64": "there is no option 'b'. Did you mean 'data.batch_size'?",
    "--batch-size 64": "there is no option 'batch-size'. Did you mean 'data.batch_size'?",
    "--epochs 3": "there is no option 'epochs'. Did you mean 'trainer.max_epochs'?",
    "--resume": "there is no option 'resume'. Did you mean '--ckpt_path last'?",
    "--output_dir out": "there is no option 'output_dir'. Did you mean 'trainer.default_root_dir'?",
    "--trainer.gpus 1": "there is no option 'trainer.gpus'. Did you mean 'trainer.devices'?",
    "--model.learning_rate 1": "there is no option 'model.learning_rate'. Did you mean 'model.lr'?",
    "--model s12": "--model got 's12', but expects a file. Did you mean --config s12?",
    "s12": "'s12' stands alone. Did you mean --config s12?",
    "poolformer_s12": "'poolformer_s12' stands alone. Did you mean --model.backbone poolformer_s12?",
    "model.lr=3": "'model.lr=3' stands alone. Did you mean --model.lr=3?",
    "\u2014model.lr 3": "'\u2014model.lr' stands alone. Did you mean --model.lr?",
    "best": "'best' stands alone. Did you mean --ckpt_path best?",
    "run/last.ckpt --data.val x": "'run/last.ckpt' stands alone. Did you mean --ckpt_path run/last.ckpt?",
    "cat.jpg": "'cat.jpg' stands alone. Did you mean --data FolderData --data.predict cat.jpg?",
    "--data /some/folder": "--data takes a data module, not '/some/folder'. Did you mean --data FolderData --data.",
    "--data.train-dir x": "there is no option 'data.train-dir'. Did you mean 'data.train'?",
    "--model.lr=": "--model.lr got '', but expects a number.",
}
SHORT = "--model.warmup_epochs 0 --trainer.max_epochs 1 --trainer.logger false --trainer.enable_progress_bar false"


@pytest.mark.filterwarnings("ignore:.*is smaller than the logging interval")
@pytest.mark.parametrize("options", FIT)
def test_a_mistaken_fit_is_a_line(mistake, options):
    # Defaults in the file, so that what is given twice is not the mistake.
    assert mistake("fit", *SHORT.split(), "--trainer.default_root_dir", "x", *options.split()).startswith(FIT[options])


COMMANDS = {
    "train": "there is no command 'train'. Did you mean 'fit'?",
    "trian": "there is no command 'trian'. Did you mean 'fit'?",
    "eval": "there is no command 'eval'. Did you mean 'validate'?",
    "s12": "there is no command 's12'. Did you mean 'fit --config s12'?",
    "pack a": "pack: error: the following arguments are required: dst",
    "pack a b --num_workers -1": "pack: error: argument --num_workers: '-1' is not an integer from 0 up",
    "pack a b --num_worker 1 --qualty 90": "pack: error: unrecognized arguments: --qualty 90. Did you mean '--quality'",
    "verify f --num_workers -1": "verify: error: argument --num_workers: '-1' is not an integer from 0 up",
    "export c --tolerance nan": "export: error: argument --tolerance: 'nan' is not a number above 0",
    "cam c i --crop_pct 0": "cam: error: argument --crop_pct: '0' is not a number above 0, at most 1",
    "bench data d --num_workers -1": "bench data: error: argument --num_workers: '-1' is not an integer from 0 up",
    "bench model --image_size 1000000": "bench model: error: argument --image_size: '1000000' is not pixels from 1 to",
    "bench modl": "bench: error: argument SUBJECT: invalid choice: 'modl'",
    "ablate --seeds a": "ablate: error: argument --seeds: invalid int value: 'a'",
    "configs foo": "configs: error: unrecognized arguments: foo",
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_mistaken_command_is_a_line(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(line.split())
    except SystemExit as left:
        code = left.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.removeprefix("poolformer: error: ").removeprefix("poolformer ").startswith(COMMANDS[line])


def test_resnet50_is_known_to_be_timm_s(mistake):
    assert mistake("fit", "resnet50") == "'resnet50' stands alone. Did you mean --model.backbone timm/resnet50?"
    assert "Did you mean 'timm/resnet50'?" in mistake("fit", "--model.backbone", "resnet50")


def test_the_words_of_the_field_lead_to_options_and_commands_there_are(capsys):
    with pytest.raises(SystemExit):
        cli.main(["fit", "--config", "s12", "--help"])
    there_is = capsys.readouterr().out
    options = {word for ours in field_words.OPTIONS.values() for word in ours.split() if word.startswith("--")}
    assert [option for option in sorted(options) if f"{option} " not in there_is] == []
    assert set(field_words.COMMANDS.values()) <= {*cli.VERBS, *cli.COMMANDS}


# ---- what the system refuses


def _raising(error):
    def raising(argv):
        raise error

    return raising


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "out/config.yaml"), "'out/config.yaml': No space left on device"),
        (PermissionError(13, "Permission denied", "table.md"), "'table.md': Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "out of memory: "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory: "),
    ],
)
def test_what_the_system_refuses_is_a_line(monkeypatch, capsys, error, line):
    monkeypatch.setattr(cli, "_dispatch", _raising(error))
    assert cli.main(["configs"]) == 2
    assert capsys.readouterr().err.startswith(f"poolformer: error: {line}")


@pytest.mark.parametrize("error", [OSError("a library's own"), RuntimeError("a bug"), KeyError("x")])
def test_a_bug_keeps_its_traceback(monkeypatch, error):
    monkeypatch.setattr(cli, "_dispatch", _raising(error))
    with pytest.raises(type(error)):
        cli.main(["configs"])
