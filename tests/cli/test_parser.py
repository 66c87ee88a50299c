"""The wording of mistakes in options and configuration files; each is a line, and none trains."""

import json

import pytest

import poolformer.cli.training  # noqa: F401  before output is captured: Lightning logs to the stderr it finds
from poolformer.cli import dispatch as cli
from poolformer.configs import read_config
from poolformer.errors import ConfigError
from poolformer.option_ranges import RENAMED

MIXER = "from torch import nn\n\n\ndef mixer(dim: int, slope: float = 0.1):\n    return nn.LeakyReLU(slope)\n"


UNKNOWN = {
    "--model.lrr 1": "there is no option 'model.lrr'. Did you mean 'model.lr' or 'model.min_lr'? '--help' lists them.",
    "--trainer.max_epoch 1": "there is no option 'trainer.max_epoch'. Did you mean 'trainer.max_epochs'",
    "--trainer.max_epoch=1": "there is no option 'trainer.max_epoch'. Did you mean 'trainer.max_epochs'",
    "--modle.lr 1": "there is no option 'modle.lr'. Did you mean 'model.lr'",
    "--max_epochs 1": "there is no option 'max_epochs'. Did you mean 'trainer.max_epochs'",
    "--data.batchsize 1": "there is no option 'data.batchsize'. Did you mean 'data.batch_size'",
    "--data FolderData --data.crop_pc 1": "there is no option 'data.crop_pc'. Did you mean 'data.crop_pct'",
    "--xyz 1": "there is no option 'xyz'. '--help' lists them.",
    "extra": "there is no option 'extra'. '--help' lists them.",
    "--model.l 1": "there is no option 'model.l'.",
    "--optimizer SGD": "there is no option 'optimizer'.",
    "--data.train x": "there is no option 'data.train' for the digits, which take no files: add --config s12 or",
    "--data.shft x": "there is no option 'data.shft'. Did you mean 'data.shift'",
    "--config s12 --data.shift 0": "there is no option 'data.shift'. ",
    "runs/digits/checkpoints/best.ckpt": "'runs/digits/checkpoints/best.ckpt' stands alone. Did you mean --ckpt_path r",
    "s12.yaml": "'s12.yaml' stands alone. Did you mean --config s12.yaml?",
    "--ckpt_pth best.ckpt": "there is no option 'ckpt_pth'. Did you mean 'ckpt_path'",
}


@pytest.mark.parametrize("options", UNKNOWN)
def test_an_unknown_option_is_answered_with_the_nearest(mistake, options):
    assert mistake("fit", *options.split()).startswith(UNKNOWN[options])


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_no_verb_has_a_switch_to_load_checkpoints_as_code(mistake, verb, capsys):
    assert mistake(verb, "--weights_only", "false").startswith("there is no option 'weights_only'.")
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    assert "weights_only" not in capsys.readouterr().out


WRONG = [
    (["--model.lr", "quick"], "--model.lr got 'quick', but expects a number."),
    (["--model.num_classes", "ten"], "--model.num_classes got 'ten', but expects an integer."),
    (["--model.num_classes", "1.5"], "--model.num_classes got '1.5', but expects an integer."),
    (["--model.residual", "maybe"], "--model.residual got 'maybe', but expects true or false or null."),
    (
        ["--model.norm", "grup"],
        "--model.norm got 'grup', but expects group or layer or batch or none or null. Did you mean 'group'?",
    ),
    (["--model.act", "swish"], "--model.act got 'swish', but expects gelu or relu or silu or star_relu or null."),
    (["--trainer.max_epochs", "many"], "--trainer.max_epochs got 'many', but expects an integer or null."),
    (["--model.mean", "0.5"], "--model.mean got '0.5', but expects a list."),
    (["--num_threads", "0"], "--num_threads got '0', but expects an integer from 1 up or null."),
    (["--model.lr"], "argument --model.lr: expected one argument"),
    (
        ["--num_threads", "two"],
        "--num_threads got 'two', but expects an integer from 1 up or null.",
    ),
    (
        ["--data.batch_size", "many"],
        "--data.batch_size got 'many', but expects an integer.",
    ),
    (
        ["--data", "FolderData", "--data.scale", "[1,2,3]"],
        "--data.scale got '[1, 2, 3]', but expects 2 numbers.",
    ),
    (
        ["--model.backbone.dims", "[8]"],
        "--model.backbone is a name: a backbone takes the options of the model, and no dims of its own",
    ),
    (
        ["--model.image_size", "16"],
        "there is no option 'model.image_size'. Did you mean 'data.image_size'",
    ),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_value_is_answered_with_what_the_option_takes(mistake, options, message):
    assert mistake("fit", *options).startswith(message)


def test_choices_are_named_once(mistake):
    message = mistake("fit", "--trainer.precision", "bf17")
    assert message.count("'bf16'") == 1
    assert message.count("bf16-mixed") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "DigitData",
            "no data module is called 'DigitData'. Did you mean 'DigitsData'? Installed: DigitsData, FFCVData, Folder",
        ),
        ("digits", "no data module is called 'digits'."),
        ("os.system", "there is no data module 'os.system'. There is DigitsData, FFCVData, FolderData"),
        (
            "no_such_module.Data",
            "there is no data module 'no_such_module.Data'. There is DigitsData, FFCVData, FolderData",
        ),
    ],
)
def test_an_unknown_data_module_is_answered_with_those_there_are(mistake, name, message):
    assert mistake("fit", "--data", name).startswith(message)


NAMES = [
    ("--model.mixer poling", "no token mixer is called 'poling'. Did you mean 'pooling'? Installed: attention, "),
    ("--model.mixer pooling/pooling", "no token mixer is called 'pooling/pooling'. Did you mean 'pooling'?"),
    ("--model.mixer 5", "no token mixer is called '5'."),
    (
        "--model.mixer no_such_module:Mixer",
        "token mixer 'no_such_module:Mixer' cannot be loaded: ModuleNotFoundError: No ",
    ),
    ("--model.mixer a:b:c", "token mixer 'a:b:c' cannot be loaded: ImportError: 'a:b:c' is not of the form"),
    ("--model.mixer json:loads2", "token mixer 'json:loads2' cannot be loaded: AttributeError:"),
    ("--model.mixer buggy.py:Shape", "No module named 'buggy'. Write 'buggy:Shape'."),
    ("--model.backbone s12", "no backbone is called 's12'. Did you mean 'poolformer_s12'?"),
    ("--model.backbone poolformer_s11", "no backbone is called 'poolformer_s11'. Did you mean 'poolformer_s12'"),
    pytest.param(
        *("--model.backbone timm/resnet81", "no model 'resnet81'. Did you mean 'resnet18'"),
        marks=pytest.mark.slow,  # imports timm
    ),
]


@pytest.mark.parametrize(("options", "message"), NAMES)
def test_an_unknown_name_is_answered_with_the_nearest(mistake, options, message):
    assert message in mistake("fit", *options.split())


MIXERS = [
    (
        ["--model.mixer.poolsize", "3"],
        "token mixer 'pooling' has no option 'poolsize'. Did you mean 'pool_size'? It takes: pool_size: int = 3.",
    ),
    (["--model.mixer.pool_size", "five"], "token mixer 'pooling' got {'pool_size': 'five'}; "),
    (
        ["--model.mixer.pool_size", "4"],
        "token mixer 'pooling' cannot be built with dim=16: ValueError: pool_size must be odd and positive",
    ),
    (
        ["--model.mixer.pool_size", "5", "--model.mixer.name", "attention"],
        "token mixer 'attention' has no option 'pool_size'. It takes: head_dim: int = 32, qkv_bias: bool = False, "
        "proj_bias: bool = True. "
        "To drop the options of another mixer, write --model.mixer NAME.",
    ),
    (
        ["--model.mixer", "attention", "--model.mixer.head_dims", "8"],
        "token mixer 'attention' has no option 'head_dims'. Did you mean 'head_dim'?",
    ),
    (["--model.mixer", "{pool_size: 5}"], "a token mixer's mapping needs its name, got {'pool_size': 5}; write "),
    (["--model.mixer", "[pooling,pooling]"], "a list gives one token mixer for each of 4 stages; got 2"),
    (
        ["--model.mixer", "[pooling,pooling,pooling,poling]"],
        "no token mixer is called 'poling'. Did you mean 'pooling'?",
    ),
    (
        ["--model.mixer", "[pooling,pooling,pooling,pooling]", "--model.mixer+", "identity"],
        "a list gives one token mixer",
    ),
    (
        ["--model.mixer", "[pooling,pooling,pooling,pooling]", "--model.mixer.name", "identity"],
        "the configuration lists a token mixer for each stage, so --model.mixer.name does not say which: write all "
        "four, --model.mixer '[pooling, pooling, pooling, {name: attention, head_dim: 16}]'",
    ),
    (
        ["--model.mixer", "[attention,pooling,pooling,pooling]", "--model.mixer.pool_size=5"],
        "the configuration lists a token mixer for each stage, so --model.mixer.pool_size does not say which: ",
    ),
]


@pytest.mark.parametrize(("options", "message"), MIXERS)
def test_a_mixer_that_does_not_fit_is_answered_with_the_spelling(mistake, options, message):
    assert mistake("fit", "--trainer.fast_dev_run", "true", *options).startswith(message)


@pytest.mark.parametrize("verb", ["fit", "validate"])
def test_a_dotted_override_of_a_list_in_a_file_is_refused(mistake, tmp_path, verb):
    (tmp_path / "list.yaml").write_text("model: {mixer: [pooling, pooling, attention, attention]}\n")
    message = mistake(verb, "--config", "digits", "--config", "list.yaml", "--model.mixer.name", "identity")
    assert "write all four, --model.mixer '[" in message


FILES = [
    ("a wrong value", b"model: {lr: quick}\n", "--model.lr got 'quick' in 'own.yaml', but expects a number."),
    ("a number for a mixer", b"model: {mixer: 3}\n", "--model.mixer got '3' in 'own.yaml', but expects a string or"),
    (
        "half a list",
        b"model: {mixer: [pooling, pooling]}\n",
        "a list gives one token mixer for each of 4 stages; got 2",
    ),
    ("no name", b"model: {mixer: {pool_siz: 3}}\n", "token mixer 'pooling' has no option 'pool_siz'. Did you mean 'po"),
    (
        "an option of the data",
        b"data: {class_path: DigitsData, init_args: {batch_siz: 3}}\n",
        "there is no option 'data.ba",
    ),
    ("bad YAML", b"model: [1\n  a: {", "'own.yaml' is not YAML: "),
    ("a tab", b"model:\n\tlr: 1\n", "'own.yaml' is not YAML: "),
    ("a call", b'model: !!python/object/apply:os.system ["touch was-run"]\n', "'own.yaml' is not YAML: "),
    ("empty", b"", ""),
    ("a comment alone", b"# nothing yet\n", ""),
    ("a word", b"hello\n", ""),
    ("a list", b"- 1\n- 2\n", ""),
    ("a key without a value", b"model:\n", ""),
]


@pytest.mark.parametrize(("content", "message"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_a_wrong_file_is_a_line(mistake, tmp_path, content, message):
    (tmp_path / "own.yaml").write_bytes(content)
    assert mistake("fit", "--config", "digits", "--config", "own.yaml").startswith(message)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"model: [1\n  a: {", b"model: {lr: quick}\n", b"model: {lrr: 1}\n"]
)
def test_a_wrong_file_is_named(mistake, tmp_path, content):
    (tmp_path / "own.yaml").write_bytes(content)
    assert "own.yaml" in mistake("fit", "--config", "digits", "--config", "own.yaml")


def test_a_file_that_is_no_configuration_is_not_printed(mistake, tmp_path):
    (tmp_path / "readme.md").write_text("Some words that go on. " * 200)
    assert len(mistake("fit", "--config", "readme.md")) < 300


@pytest.mark.parametrize("content", [bytes(range(256)), b"\x80\x02}q\x00.", "lr: ü".encode("latin-1")])
def test_a_binary_file_is_a_line(mistake, tmp_path, content):
    (tmp_path / "own.yaml").write_bytes(content)
    assert "own.yaml" in mistake("fit", "--config", "own.yaml")


@pytest.mark.parametrize(
    "content",
    [
        "model:\n  lr: 1.0\n  lr: 2.0\n",
        "model:\n  lr: 1.0\nmodel:\n  num_classes: 10\n",
        "model:\n  lr: 1.0\nmodel.lr: 2.0\n",
        "model: {mixer: {name: pooling, pool_size: 3}, mixer.pool_size: 5}\n",
        "model: {mixer.pool_size: 3}\nmodel.mixer.pool_size: 5\n",
    ],
)
def test_a_key_that_stands_twice_is_refused(mistake, tmp_path, content):
    (tmp_path / "own.yaml").write_text(content)
    arguments = ["fit", "--config", "digits", "--config", "own.yaml", "--trainer.fast_dev_run", "true"]
    assert "twice" in mistake(*arguments, "--model.warmup_epochs", "0")


NESTED = {
    "model": {"mixer": {"name": "depthwise", "kernel_size": 5}},
    "data": {"class_path": "A", "init_args": {"b": 3}},
}
DOTTED = {
    "all in dots": "model.mixer.kernel_size: 5\nmodel.mixer: depthwise\ndata.b: 3\ndata.class_path: A\n",
    "beside names": "model: {mixer: depthwise}\nmodel.mixer.kernel_size: 5\ndata: A\ndata.b: 3\n",
    "beside mappings": "model.mixer: {name: depthwise}\nmodel.mixer.kernel_size: 5\ndata: {class_path: A}\ndata.b: 3\n",
    "in sections": "model: {mixer.kernel_size: 5, mixer: depthwise}\ndata: {class_path: A, init_args.b: 3}\n",
    "null": "model.mixer: {name: depthwise, kernel_size: 5}\ndata: {class_path: A, init_args: null}\ndata.b: 3\n",
    "with init_args": "model.mixer: {name: depthwise, kernel_size: 5}\ndata: A\ndata.init_args: {b: 3}\n",
}


@pytest.mark.parametrize("content", DOTTED.values(), ids=DOTTED)
def test_an_option_with_dots_stands_in_its_section(tmp_path, content):
    (tmp_path / "own.yaml").write_text(content)
    assert read_config(tmp_path / "own.yaml") == NESTED


def test_a_logger_that_is_named_has_its_options_too(tmp_path):
    (tmp_path / "own.yaml").write_text("trainer.logger: CSVLogger\ntrainer.logger.save_dir: x\n")
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "x"}}
    assert read_config(tmp_path / "own.yaml") == {"trainer": {"logger": logger}}


def test_options_of_no_class_are_answered_with_what_is_missing(mistake, tmp_path):
    (tmp_path / "own.yaml").write_text("trainer.logger.save_dir: logs\n")
    said = mistake("fit", "--config", "digits", "--config", "own.yaml")
    assert (
        said == "--trainer.logger got options in 'own.yaml' and not of which logger: write 'trainer.logger: NAME', too"
    )


def test_dots_below_an_option_and_before_no_section_stay(tmp_path):
    content = {"model": {"lr_by": {"head.fc": 2}}, "my.key": 1, "trainer": {"callbacks+": []}}
    (tmp_path / "own.yaml").write_text(json.dumps(content))
    assert read_config(tmp_path / "own.yaml") == content


def test_an_option_of_what_has_none_is_refused(tmp_path):
    (tmp_path / "own.yaml").write_text("model: {lr: 1.0}\nmodel.lr.x: 3\n")
    with pytest.raises(ConfigError, match=r"'model\.lr\.x' is an option of 'model\.lr', which is no mapping there: 1"):
        read_config(tmp_path / "own.yaml")
    (tmp_path / "own.yaml").write_text("data: {class_path: A, init_args: [1]}\ndata.b: 3\n")
    with pytest.raises(ConfigError, match=r"'data\.init_args\.b' is an option of 'data\.init_args', which is no mapp"):
        read_config(tmp_path / "own.yaml")


@pytest.mark.parametrize("key", ["model.", "model..lr"])
def test_dots_without_a_name_are_refused(tmp_path, key):
    (tmp_path / "own.yaml").write_text(f"{key}: 3\n")
    with pytest.raises(ConfigError, match=f"has the key '{key}', which names no option"):
        read_config(tmp_path / "own.yaml")


ODD = {
    "an anchor in itself": ("model: &m {lr: *m}\n", "'own.yaml' has a value that no option takes: "),
    "deep brackets": ("[" * 2000, "'own.yaml' is not a configuration: it is nested too deeply"),
    "deep dashes": ("- " * 100_000, "'own.yaml' is not a configuration: it is nested too deeply"),
    "large": ("#" * 1_000_001, "'own.yaml' is not a configuration: it is larger than 1000000 bytes"),
    "NUL": ("model: {lr: \0}\n", "'own.yaml' is not YAML: unacceptable character"),
    "a date": ("model: {lr: 2020-01-01}\n", "--model.lr got '2020-01-01' in 'own.yaml', but expects a number"),
    "no date": ("model: {lr: 2020-99-99}\n", "--model.lr got '2020-99-99' in 'own.yaml', but expects a number"),
    "a set": ("model: {lr: !!set {a}}\n", "'own.yaml' has a value that no option takes: "),
    "half a number": ("model: {lr: !!int x}\n", "'own.yaml' has a value that no option takes: "),
    "5000 digits": (f"model: {{lr: {'9' * 5000}}}\n", "'own.yaml' has a value that no option takes: "),
}


@pytest.mark.slow
@pytest.mark.parametrize(("content", "message"), ODD.values(), ids=ODD)
def test_an_odd_file_is_a_line(mistake, tmp_path, content, message):
    (tmp_path / "own.yaml").write_text(content)
    assert mistake("fit", "--config", "own.yaml").startswith(message)


def test_anchors_and_merges_are_read(tmp_path):
    content = "model: {mixer: [&p {name: pooling, pool_size: 5}, *p, *p, {<<: *p, pool_size: 3}]}\n"
    (tmp_path / "own.yaml").write_text(content)
    sizes = [mixer["pool_size"] for mixer in read_config(tmp_path / "own.yaml")["model"]["mixer"]]
    assert sizes == [5, 5, 5, 3]


BESIDE_THE_CLASS = {
    "init_arg: {batch_size: 3}": "there is no option 'data.init_arg' beside class_path in 'own.yaml'. Did you mean",
    "batch_size: 3": "there is no option 'data.batch_size' beside class_path in 'own.yaml'. Options of the data",
    "3: 3": "there is no option 'data.3' beside class_path in 'own.yaml'. Options",
    "init_args: [1, 2]": "'own.yaml': init_args of 'data' are options by name, not [1, 2]",
    "init_args: x": "'own.yaml': init_args of 'data' are options by name, not 'x'",
}


@pytest.mark.parametrize("line", BESIDE_THE_CLASS)
def test_options_of_the_data_in_the_wrong_place_are_not_passed_over(mistake, tmp_path, line):
    (tmp_path / "own.yaml").write_text(f"data:\n  class_path: DigitsData\n  {line}\n")
    assert mistake("fit", "--config", "own.yaml").startswith(BESIDE_THE_CLASS[line])


UNKNOWN_IN_FILES = {
    "model: {lrr: 1}": "there is no option 'model.lrr' in 'own.yaml'. Did you mean 'model.lr'",
    "modl: {lr: 1}": "there is no option 'modl.lr' in 'own.yaml'. Did you mean 'model.lr'",
    "trainer: {max_epoch: 1}": "there is no option 'trainer.max_epoch' in 'own.yaml'. Did you mean 'trainer.max_",
    "fit: {model: {lr: 1}}": "there is no option 'fit.model.lr' in 'own.yaml'.",
}


@pytest.mark.parametrize("content", UNKNOWN_IN_FILES)
def test_an_unknown_key_of_a_file_is_answered_as_on_the_command_line(mistake, tmp_path, content):
    (tmp_path / "own.yaml").write_text(content)
    assert mistake("fit", "--config", "own.yaml").startswith(UNKNOWN_IN_FILES[content])


def test_a_renamed_option_is_answered_with_its_present_name(mistake, tmp_path, monkeypatch):
    monkeypatch.setitem(RENAMED, "learning_rate", "lr")
    (tmp_path / "old.yaml").write_text("model: {learning_rate: 0.1}\n")
    said = "the option 'model.learning_rate'{} is called 'model.lr' now."
    assert mistake("fit", "--config", "old.yaml") == said.format(" in 'old.yaml'")
    assert mistake("fit", "--model.learning_rate", "0.1") == said.format("")


def test_an_unknown_option_of_a_callback_is_not_taken_for_the_data_s(mistake, tmp_path):
    (tmp_path / "own.yaml").write_text(
        "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitr: val/loss}}]}\n"
    )
    assert "data.monitr" not in mistake("fit", "--config", "own.yaml")


def test_an_unknown_callback_is_a_line(mistake):
    assert mistake("fit", "--trainer.callbacks", "no_such_module.Callback").startswith(
        "--trainer.callbacks got 'no_such"
    )


@pytest.mark.parametrize("option", ["--config", "-c"])
def test_config_without_a_value_says_what_it_needs(mistake, option):
    assert mistake("fit", option) == f"{option} needs a file or a name; 'poolformer configs' lists the packaged ones"


@pytest.mark.parametrize("files", [["ablation/hybrid-pppa"], ["short/16", "s12"]], ids=" ".join)
def test_an_overlay_has_to_lie_over_something(mistake, files):
    said = [word for file in files for word in ("--config", file)]
    message = f"'{files[0]}' is an overlay: name what it changes before it, as --config s12 or --config digits"
    assert mistake("fit", *said) == message


def test_an_unknown_configuration_is_answered_with_the_nearest(mistake):
    assert mistake("fit", "--config", "digts").startswith("there is no file 'digts' and no packaged configuration of ")
    assert "Did you mean 'digits'?" in mistake("fit", "--config=digts")


CLASHES = [
    (["--model.num_classes", "3"], "the data has 10 classes and the model 3: pass --model.num_classes 10"),
    (["--trainer.max_epochs", "-1"], "the cosine needs an end: set --trainer.max_epochs"),
    (["--data", "FolderData"], "FolderData has no train images: pass --data.train PATH"),
    (["--data", "FolderData", "--data.train", "nowhere"], "--data.train: there is no folder 'nowhere'"),
    (["--data", "FFCVData", "--data.train", "x.beton"], "--data.train: there is no file 'x.beton'; `poolformer pack"),
    (["--data.batch_size", "0"], "--data.batch_size"),
    (["--data.num_workers", "-1"], "--data.num_workers"),
    (["--trainer.accelerator", "tpuu"], "--trainer.accelerator"),
    (["--trainer.strategy", "dpp"], "--trainer.strategy"),
]


@pytest.mark.filterwarnings("ignore:of 1 epochs")
@pytest.mark.parametrize(("options", "message"), CLASHES)
def test_options_that_contradict_each_other_are_a_line(mistake, options, message, tmp_path):
    run_dir = ["--trainer.default_root_dir", tmp_path / "run", "--trainer.logger", "false", "--trainer.max_epochs", "1"]
    assert mistake("fit", *run_dir, *options).startswith(message)


def test_a_run_directory_that_cannot_be_made_is_a_line(mistake, tmp_path):
    (tmp_path / "file").touch()
    assert "file/run" in mistake("fit", "--trainer.default_root_dir", "file/run")


def test_plugins_that_are_turned_off_are_said_to_be(mistake, fake_plugin, monkeypatch):
    fake_plugin(entry_points={"poolformer.mixers": {"leaky": "leaky_mixer:mixer"}}, modules={"leaky_mixer": MIXER})
    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", "1")
    message = mistake("fit", "--model.mixer", "leaky")
    assert message.startswith("no token mixer is called 'leaky'. Plugins are turned off by POOLFORMER_DISABLE_PLUGINS.")


def test_more_classes_an_image_than_there_are_are_refused_before_the_network_is_built(mistake):
    options = ["--model.pretrained", "nowhere.pth", "--data", "DigitsData", "--model.num_classes", "10"]
    assert mistake("predict", *options, "--top_k", "11") == "--top_k 11: the network knows 10 classes: from 1 to 10"
