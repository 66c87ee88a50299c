"""Callbacks, loggers and data modules of the user's own: from a file in the current directory, with the reason said."""

import csv
import re
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

import poolformer.cli.training  # before output is captured: Lightning logs to the stderr it finds
from poolformer.checkpoint.reading import read
from poolformer.cli import dispatch as cli
from poolformer.cli import user_classes
from poolformer.run.directory import BestCheckpoint, LastCheckpoint, checkpoints

MINE = '''
import enum

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils.data import DataLoader, TensorDataset


class Every(Callback):
    def __init__(self, every: int = 3):
        self.every = every


class Writes(Callback):
    """Writes a metric of its own."""

    def __init__(self, path: str):
        self.path = path

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/mine", 1.0)


class When(enum.Enum):
    START = 1
    END = 2


class At(Callback):
    def __init__(self, when: When = When.END):
        self.when = when


class NoServer(Callback):
    def __init__(self):
        raise RuntimeError("no server at 10.0.0.1")


class Nameless(Callback):
    def state_dict(self):
        return {}

    @property
    def state_key(self):
        raise ValueError("no key")


class Alone(SingleDeviceStrategy):
    def __init__(self, place: str = "cpu"):
        super().__init__(device=torch.device(place))


class Plain:
    pass


class Images(pl.LightningDataModule):
    """Noise in ten classes.

    Args:
        root: Where it lies.
        batch_size: Images a step.
    """

    def __init__(self, root: str, batch_size: int = 8):
        super().__init__()
        self.root, self.batch_size = root, batch_size

    def train_dataloader(self):
        images = torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8)
        return DataLoader(TensorDataset(images, torch.arange(32) % 10), batch_size=self.batch_size)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class Sized(Images):
    def __init__(self, image_size: int = 16, **kwargs):
        super().__init__("here", **kwargs)


class Missing(Images):
    def __init__(self):
        open("no/such/file")


class Array(Images):
    def __init__(self, mean=torch.zeros(3).numpy(), **kwargs):
        super().__init__("here", **kwargs)


class OfArray(Array):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)


class WithoutArray(Array):
    def __init__(self, batch_size: int = 8):
        super().__init__(mean=None, batch_size=batch_size)
'''
SHORT = [
    *("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1", "--trainer.log_every_n_steps", "1"),
    *("--trainer.enable_progress_bar", "false", "--model.warmup_epochs", "0", "--trainer.max_epochs", "1"),
    *("--trainer.default_root_dir", "run"),
]


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    """The user's module in the current directory, which is not on Python's path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "torn.py").write_text("import torch\nclass X(:\n")
    (tmp_path / "needy.py").write_text("import no_such_package\n")
    (tmp_path / "boom.py").write_text("\nraise KeyError('HOME')\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    yield
    for name in ("mine", "torn", "needy", "boom", "leaves", "my_data", "my_callbacks"):
        sys.modules.pop(name, None)


CALLBACK = "--trainer.callbacks+="
REASONS = {
    f"{CALLBACK}mine.Evry": "--trainer.callbacks got 'mine.Evry': there is no 'Evry' in 'mine'. Did you mean 'Every'?",
    f"{CALLBACK}mine.Plain": "--trainer.callbacks got 'mine.Plain': mine.Plain is no callback, a class that inherits",
    f"{CALLBACK}mien.Every": "--trainer.callbacks got 'mien.Every': there is no module 'mien', neither installed nor",
    f"{CALLBACK}mine.py:Every": "--trainer.callbacks got 'mine.py:Every': a class is written module.Class, here 'min",
    f"{CALLBACK}torn.X": "--trainer.callbacks got 'torn.X', which cannot be imported: SyntaxError: invalid syntax (t",
    f"{CALLBACK}needy.X": "--trainer.callbacks got 'needy.X', which cannot be imported: ModuleNotFoundError: No module "
    "named 'no_such_package' (needy.py, line 1)",
    f"{CALLBACK}boom.X": "--trainer.callbacks got 'boom.X', which cannot be imported: KeyError: 'HOME' (boom.py, lin",
    f"{CALLBACK}leaves.X": "--trainer.callbacks got 'leaves.X', which cannot be imported: SystemExit: 3 (leaves.py, ",
    f"{CALLBACK}mine.Writes": "--trainer.callbacks got 'mine.Writes', which needs path: add --trainer.callbacks.path",
    f"{CALLBACK}mine.Every --trainer.callbacks.evry=3": "Every has no option 'evry'. Did you mean 'every'? It takes ",
    f"{CALLBACK}mine.Every --trainer.callbacks.every=x": "--trainer.callbacks.every got 'x', but expects an integer",
    f"{CALLBACK}mine.At --trainer.callbacks.when NOW": "--trainer.callbacks.when got 'NOW', but expects START or END",
    f"{CALLBACK}mine.NoServer": "mine.NoServer cannot be built: RuntimeError: no server at 10.0.0.1 (mine.py, line ",
    f"{CALLBACK}EarlyStoping": "--trainer.callbacks: there is no callback 'EarlyStoping'. Did you mean 'EarlyStoppin",
    f"{CALLBACK}EarlyStopping": "--trainer.callbacks got 'lightning.pytorch.callbacks.EarlyStopping', which needs mo",
    "--trainer.logger CSVLogger": "--trainer.logger got 'lightning.pytorch.loggers.CSVLogger', which needs save_dir",
    "--trainer.logger CVSLogger": "--trainer.logger: there is no logger 'CVSLogger'. Did you mean 'CSVLogger' or",
    "--trainer.logger mine.Plain": "--trainer.logger got 'mine.Plain': mine.Plain is no logger, a class that inherits",
    "--trainer.profiler torn.X": "--trainer.profiler got 'torn.X', which cannot be imported: SyntaxError",
    "--trainer.plugins+=mine.Nope": "--trainer.plugins got 'mine.Nope': there is no 'Nope' in 'mine'.",
    "--data mine.Images": "--data got 'mine.Images', which needs root: add --data.root ..., or init_args in a file",
    "--data mine.Imges": "--data got 'mine.Imges': there is no 'Imges' in 'mine'. Did you mean 'Images'?",
    "--data mine:Images": "--data got 'mine:Images': a class is written module.Class, here 'mine.Images'",
    "--data mine.Every": "there is no data module 'mine.Every'. There is DigitsData, FFCVData, FolderData: mine.Ever",
    "--data torn.X": "--data got 'torn.X', which cannot be imported: SyntaxError: invalid syntax (torn.py, line 2)",
    "--data mine.Images --data.root x --data.roott x": "Images has no option 'roott'. Did you mean 'root'? It takes r",
    "--data mine.Images --data.root x --data.batch_size x": "--data.batch_size got 'x', but expects an integer.",
    "--data mine.Missing": "mine.Missing cannot be built: FileNotFoundError: [Errno 2] No such file or directory: 'n",
    "--data mine.OfArray": "--data got 'mine.OfArray': the default of its option mean is an array, which no file can",
    "--data mine.WithoutArray --data.batch_size x": "--data.batch_size got 'x', but expects an integer.",
    "--data mine.Sized --model.image_size 16": "there is no option 'model.image_size'. Did you mean 'data.image_size'",
}


@pytest.mark.parametrize("options", REASONS)
def test_the_reason_why_a_class_cannot_be_used_is_said(mistake, options):
    assert mistake("fit", *options.split()).startswith(REASONS[options])


def test_a_class_in_a_file_is_answered_with_the_file(mistake, tmp_path):
    (tmp_path / "own.yaml").write_text("trainer: {callbacks: [{class_path: mine.Evry}]}\n")
    message = mistake("fit", "--config", "own.yaml")
    assert message.startswith("--trainer.callbacks got 'mine.Evry' in 'own.yaml': there is no 'Evry' in 'mine'.")
    (tmp_path / "own.yaml").write_text("trainer: {callbacks: [{class_path: mine.Writes, init_args: {pth: x}}]}\n")
    assert mistake("fit", "--config", "own.yaml").startswith("Writes has no option 'pth' in 'own.yaml'. Did you mean")


def test_what_code_of_the_users_raises_in_the_trainer_keeps_its_traceback():
    with pytest.raises(ValueError, match="no key") as caught:
        cli.main(["fit", f"{CALLBACK}mine.Nameless", *SHORT])
    assert caught.value.__cause__ is None


def test_a_callback_of_the_package_pytorch_lightning_is_told_apart(tmp_path, mistake, on_path):
    (tmp_path / "pytorch_lightning").mkdir()
    (tmp_path / "pytorch_lightning" / "__init__.py").write_text("")
    (tmp_path / "pytorch_lightning" / "callbacks.py").write_text("class Callback: pass\n")
    (tmp_path / "mine.py").write_text("from pytorch_lightning.callbacks import Callback\nclass Old(Callback): pass\n")
    assert "is a callback of the package pytorch_lightning: import it" in mistake("fit", f"{CALLBACK}mine.Old")


def test_what_a_subclass_passes_on_counts_among_its_options(on_path, tmp_path):
    on_path(tmp_path)
    assert user_classes.options_of("mine.Sized") == ["image_size", "batch_size"]


def test_help_has_the_options_of_an_own_data_module(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["fit", "--data", "mine.Images", "--help"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert "Options of --data mine.Images" in out
    assert "SUPPRESS" not in out
    assert "--data.root TEXT" in out
    assert "--model.image_size" in out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:of . epochs, 0 are warm-up")
def test_an_own_data_module_is_told_by_flags_and_the_model_of_its_size(tmp_path):
    options = ["--data", "mine.Images", "--data.root", "/x", "--data.batch_size=4", "--model.image_size", "16"]
    assert cli.main(["fit", *options, *SHORT]) == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["model"]["image_size"] == 16
    assert config["data"] == {"class_path": "mine.Images", "init_args": {"root": "/x", "batch_size": 4}}
    again = ["--config", "run/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "2"]
    assert cli.main(["fit", *again]) == 0


@pytest.mark.slow
def test_own_callbacks_and_several_loggers_stand_beside_ours(tmp_path):
    (tmp_path / "extras.yaml").write_text(
        "trainer:\n"
        "  logger:\n"
        "    - {class_path: TensorBoardLogger, init_args: {save_dir: run, name: '', version: ''}}\n"
        "    - {class_path: CSVLogger, init_args: {save_dir: run, name: csv, version: ''}}\n"
        "  callbacks:\n"
        "    - {class_path: mine.Writes, init_args: {path: x}}\n"
        "    - {class_path: ModelCheckpoint, init_args: {save_last: true}}\n"
        "    - {class_path: ModelCheckpoint, init_args: {monitor: val/top1, mode: max, filename: top}}\n"
        "    - {class_path: EarlyStopping, init_args: {monitor: val/mine}}\n"
        "    - {class_path: LearningRateMonitor}\n"
    )
    short = [*SHORT, "--trainer.num_sanity_val_steps", "0"]
    with pytest.warns(UserWarning, match="EarlyStopping watches 'val/mine', which is not known yet"):
        assert cli.main(["fit", "--config", "digits", "--config", "extras.yaml", *short]) == 0
    with next(tmp_path.rglob("metrics.csv")).open() as file:
        assert any(row.get("val/mine") for row in csv.DictReader(file))
    saved = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert {"best.ckpt", "last.ckpt", "top.ckpt"} <= saved
    keys = read(tmp_path / "run" / "checkpoints" / "last.ckpt")["callbacks"]
    assert sum(key.startswith(("ModelCheckpoint", "LastCheckpoint", "BestCheckpoint")) for key in keys) == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize(
    ("option", "written"),
    [
        ("enable_checkpointing false", {"config.yaml", "hparams.yaml", "metrics.csv", "summary.json"}),
        ("barebones true", set()),
    ],
)
def test_a_run_may_keep_no_checkpoints(tmp_path, option, written):
    assert cli.main(["fit", *SHORT, f"--trainer.{option.split()[0]}", option.split()[1]]) == 0
    found = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()} if written else set()
    assert {name for name in found if "tfevents" not in name} == written
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the data has|.*is smaller than the logging interval|.*classes")
def test_the_example_of_the_data_readme_runs(tmp_path, monkeypatch):
    text = (Path(poolformer.__file__).parents[1] / "data" / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Data modules, callbacks and loggers of your own\n")[2].partition("\n## ")[0]
    module, command, extras = [
        textwrap.dedent(block) for block in re.findall(r"(?:^(?: {4}.*)?\n)+", section, re.M) if block.strip()
    ]
    (tmp_path / "my_data.py").write_text(module)
    (tmp_path / "extras.yaml").write_text(extras)
    (tmp_path / "my_callbacks.py").write_text(
        "from lightning.pytorch.callbacks import Callback\n\n\nclass Note(Callback):\n"
        "    def __init__(self, text: str):\n        self.text = text\n\n"
        "    def on_train_end(self, trainer, pl_module):\n        print(self.text)\n"
    )
    (tmp_path / "mine").mkdir()
    torch.save(torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8), tmp_path / "mine" / "images.pt")
    torch.save(torch.arange(32) % 10, tmp_path / "mine" / "labels.pt")
    words = command.split()
    assert words[:2] == ["poolformer", "fit"]
    assert (
        cli.main([*words[1:], "--config", "extras.yaml", *SHORT[:-2], "--trainer.default_root_dir", "runs/mine"]) == 0
    )
    run = tmp_path / "runs" / "mine"
    assert {"best.ckpt", "last.ckpt"} <= {path.name for path in (run / "checkpoints").iterdir()}
    assert next(run.rglob("metrics.csv")).is_file()


# ---- checkpoints of before


def test_ours_have_names_of_their_own(tmp_path):
    keys = {callback.state_key for callback in (*checkpoints(tmp_path, 5), ModelCheckpoint())}
    assert len(keys) == 4


def test_the_state_of_an_earlier_version_is_ours(tmp_path):
    _, last = checkpoints(tmp_path)
    former = ModelCheckpoint(filename="last", save_on_train_epoch_end=True).state_key
    saved = {"callbacks": {former: {"last_model_path": "x"}}}
    last.on_load_checkpoint(None, None, saved)
    assert saved["callbacks"] == {last.state_key: {"last_model_path": "x"}}
    saved["callbacks"][former] = {"a user's": 1}
    last.on_load_checkpoint(None, None, saved)
    assert saved["callbacks"][former] == {"a user's": 1}
    assert isinstance(last, LastCheckpoint)
    assert not isinstance(last, BestCheckpoint)


@pytest.mark.slow
def test_a_strategy_is_named_by_its_class_as_a_callback_is(capsys):
    flags = ["--trainer.strategy", "mine.Alone", "--trainer.strategy.place", "cpu"]
    assert cli.main(["fit", *SHORT, *flags]) == 0
    saved = yaml.safe_load(Path("run/config.yaml").read_text())["trainer"]["strategy"]
    assert saved == {"class_path": "mine.Alone", "init_args": {"place": "cpu"}}
    assert cli.main(["validate", "--config", "run/config.yaml", "--ckpt_path", "best"]) == 0
