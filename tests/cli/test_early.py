"""What is answered before the heavy imports: the same as the parser says, and never what it would have taken."""

import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest

from poolformer import data
from poolformer.cli import early, user_classes
from poolformer.cli import training as late
from poolformer.cli.asked import Asked
from poolformer.errors import ConfigError, PoolformerError


@pytest.mark.parametrize("verb", ["fit", "predict"])
def test_options_are_those_of_the_parser(verb):
    actions = late._SettingsCLI(Asked(verb, ["--model.pretrained", "x", "--data", "DigitsData"])).verb_parser._actions
    names = {action.dest for action in actions if not action.dest.endswith(".help")} - {"print_config"}
    assert {name.partition(".")[0] for name in names} <= {*early.OF_A_VERB}
    for section in ("model", "trainer"):
        options = {name.partition(".")[2] for name in names if name.startswith(f"{section}.")}
        assert options <= {*early.options_of(section)}
        assert {*early.options_of(section)} - options <= {"image_size"}  # which is linked to the data's


@pytest.mark.parametrize("name", data.__all__)
def test_options_of_data_modules_are_theirs(name):
    options = user_classes.options_of(f"poolformer.data.{name}")
    assert {*early.options_of(name)} == {option for option in options if not option.endswith(".help")}


WRONG = [
    "--config s1",
    "--config",
    "--config nowhere/config.yaml",
    "--config broken.yaml",
    "--model.lrr 1",
    "--trainer.max_epoch=1",
    "--modle.lr 1",
    "--max_epochs 1",
    "--trainer.max-epochs 1",
    "--xyz 1",
    "--optimizer SGD",
    "--data.batchsize 1",
    "--data.train x",
    "--data FolderData --data.crop_pc 1",
    "--config s12 --data.shift 0",
    "--model.image_size 32",
    "--data FolderDat",
    "--weights_only false",
    "--config wrong.yaml",
    "--config other.yaml",
    "--model.lr fast",
    "--model.fused maybe",
    "--model.drop_path_rate none!",
    "--model.lr_interval batch",
    "--model.lr_interval epochs",
    "--trainer.max_epochs ten",
    "--trainer.max_epochs=ten",
    "--trainer.limit_train_batches few",
    "--trainer.benchmark maybe",
    "--data.batch_size many",
    "--data FolderData --data.augment_on gpu",
    "--data FFCVData --data.val_share all",
    "--num_threads 0",
    "--save_every_n_steps often",
    "--if_saving_fails go",
    "--log_without first_bach",
    "--log_without errors,cam",
    "--log_without [errors,cm]",
    "--log_without ['errors','all']",
    "--config parts.yaml",
    "--config letters.yaml",
    "--config s12 --config letters.yaml",
]
OF_WHAT_IS_BUILT = [
    "--model.lr -1",
    "--model.lr .nan",
    "--model.num_classes=-2 --model.lr=-1e-3",
    "--model.drop_path_rate 2",
    "--data.batch_size 0",
    "--data FolderData --data.crop_pct 0",
    "--data FFCVData --data.init_args.hflip 2",
    "--trainer.max_epochs 0",
    "--trainer.max_epochs -1 --trainer.max_steps 3",
    "--seed_everything -1",
    "--trainer.val_check_interval 0",
    "--trainer.limit_val_batches 1.5",
    "--config negative.yaml",
    "--model.backbone poolformer_s13",
    "--model.mixer poling",
]
REPLACED = [
    "--config negative.yaml --config over/config.yaml",
    "--config negative.yaml --model good.yaml",
    '--config negative.yaml --model {"lr":0.1}',
    '--model.mixer poling --model {"mixer":"pooling"}',
    "--config negative.yaml --model.lr 0.1",
    "--model.backbone resnet18",
]
FILES = {
    "parts.yaml": "log_without: [errors, cm]",
    "broken.yaml": "model: [",
    "wrong.yaml": "trainer: {max_epoch: 1}",
    "other.yaml": "model: {lrr: 1}",
    "letters.yaml": "model: {weight_decay: a little}",
    "shares.yaml": "data: {class_path: poolformer.data.FolderData, init_args: {val_share: some}}",
    "negative.yaml": "model: {lr: -0.1}",
    "fine.yaml": "data: {class_path: mine.Data, init_args: {own: 1}}",
}


@pytest.fixture
def files(work) -> Path:
    for name, text in FILES.items():
        Path(name).write_text(text)
    return work


def said(refuse, *arguments: object) -> str:
    with pytest.raises(PoolformerError) as error:
        refuse(*arguments)
    return str(error.value)


@pytest.mark.parametrize("options", WRONG)
def test_a_mistake_is_answered_in_the_words_of_the_parser(files, options):
    words = options.split()
    assert said(early.refuse, "fit", words) == said(late.settings, "fit", words)


@pytest.mark.parametrize("options", OF_WHAT_IS_BUILT)
def test_what_could_not_be_built_is_answered_in_the_words_of_that(files, options):
    words = options.split()
    assert said(early.refuse, "fit", words) == said(late.build, "fit", words)


@pytest.mark.parametrize("options", REPLACED)
def test_what_something_else_replaces_is_left_to_the_parser(files, options):
    Path("over").mkdir()
    Path("over", "config.yaml").write_text("model: {lr: 0.1}")
    early.refuse("fit", options.split())


@pytest.mark.parametrize(
    "options",
    [
        "--data mine.Data --data.own 1 --model.image_size 32",
        "--data sized.yaml --model.image_size 32",
        "--data FolderData --data.train x --data.init_args.val y",
        "--data some-package/plugged --data.own 1",
        "--config fine.yaml --data.own 2",
        "--ckpt_path last --data.own 1",
        "--config https://somewhere/config.yaml --data.own 1",
        "--trainer.callbacks+=mine.Callback --trainer.callbacks.own=1",
        "--trainer.logger=CSVLogger --trainer.logger.save_dir=x",
        "--model.mixer.pool_size 5 --model.optimizer.name sgd",
        "--print_config=skip_null",
        "--help --modle.lr 1",
        "--trainer.callbacks.help EarlyStopping",
        "--data.help FolderData",
        "--model.backbone timm/x --model options.yaml",
        "--model.mixer [pooling,pooling,pooling,attention] --model.norm own --model.mean [0.5]",
        "--model.mixer mine:Mixer --model.backbone poolformer-pvt/pvt_tiny --model.lr 1_0e-4",
        "--model.lr_batch_size null --model.mixer null",
        "--data.batch_size 0x20 --trainer.devices all --trainer.precision half --model.fused on",
        "--print_config --model.lr -1",
        "--log_without null --num_threads null --save_every_n_steps ~ --log_without []",
        "--log_without ['errors',cam] --log_without+ cam --if_saving_fails continue --num_threads 0x2",
    ],
)
def test_what_may_be_an_option_of_something_else_passes(files, options):
    early.refuse("fit", options.split())


def test_a_value_of_a_class_in_a_file_is_named_and_not_the_class_alone(files):
    expected = "--data.val_share got 'some' in 'shares.yaml', but expects a number or null."
    assert said(early.refuse, "fit", ["--config", "shares.yaml"]) == expected


def test_values_that_begin_as_options_do_pass():
    early.refuse("fit", ["--data.train", "--a folder", "--data", "FolderData"])


def test_what_is_tried_is_refused_and_files_are_read_once(files, monkeypatch):
    read = []
    monkeypatch.setattr(early, "read_config", lambda file: read.append(file) or {"model": {"lr": 1}})
    arguments = ["--config", "shares.yaml"]
    early.refuse("fit", arguments, [[f"--model.lr={lr}"] for lr in range(1, 9)])
    assert len(read) == 1
    with pytest.raises(ConfigError, match=r"--model\.lr got 'fast'"):
        early.refuse("fit", arguments, [["--model.lr=1"], ["--model.lr=fast"]])
    with pytest.raises(ConfigError, match=r"there is no option 'model\.lrr'"):
        early.refuse("fit", arguments, [["--model.lrr=1"]])


def test_where_the_trainer_s_source_is_not_found_its_options_pass(monkeypatch):
    early.options_of.cache_clear()
    monkeypatch.setattr(early, "_home_of_trainer", lambda: (Path(pl.__file__), "Trainer"))
    try:
        early.refuse("fit", ["--trainer.max_epoch", "1"])
    finally:
        early.options_of.cache_clear()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "s12", "--trainer.max_epoch", "1"], "Did you mean 'trainer.max_epochs'"),
        (["--model.mixer", "poling"], "Did you mean 'pooling'"),
        (["--model.backbone", "poolformer_s13"], "Did you mean 'poolformer_s12' or"),
        (["--model.lr", "fast"], "expects a number"),
        (["--data", "FolderDat"], "Did you mean 'FolderData'?"),
    ],
)
def test_a_mistake_imports_nothing_heavy(words, said):
    code = (
        f"import sys; from poolformer.cli import main; code = main(['fit', *{words}]); "
        "print(code, sorted({'torch', 'lightning', 'numpy', 'jsonargparse', 'timm'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
    assert said in done.stderr


def test_data_that_the_environment_may_name_is_left_to_the_parser(monkeypatch):
    with pytest.raises(ConfigError, match=r"there is no option 'data\.train' for the digits"):
        early.refuse("fit", ["--data.train", "photos"])
    monkeypatch.setenv("JSONARGPARSE_DEFAULT_ENV", "true")
    early.refuse("fit", ["--data.train", "photos"])
