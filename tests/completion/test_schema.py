"""The schema of configurations: what is shipped and what is printed is valid by it, what is misspelt is not."""

import json
import sys
from importlib.metadata import version

import pytest
import yaml
from jsonschema import Draft7Validator

from poolformer.cli import dispatch as cli
from poolformer.configs import config_dir, config_names

SHIPPED = json.loads((config_dir() / "schema.json").read_text(encoding="utf-8"))
VALID = Draft7Validator(SHIPPED)
OWN = f"Of lightning {version('lightning')} and jsonargparse {version('jsonargparse')}"


def test_the_shipped_schema_is_one():
    Draft7Validator.check_schema(SHIPPED)


@pytest.mark.parametrize("name", config_names())
def test_a_shipped_configuration_is_valid_and_leads_editors_to_the_schema(name):
    file = config_dir() / f"{name}.yaml"
    text = file.read_text(encoding="utf-8")
    assert [error.message for error in VALID.iter_errors(yaml.safe_load(text))] == []
    (named,) = [line for line in text.splitlines() if line.startswith("# yaml-language-server: $schema=")]
    assert (file.parent / named.partition("=")[2]).resolve() == (config_dir() / "schema.json").resolve()


EMA = "class_path: lightning.pytorch.callbacks.EMAWeightAveraging"


@pytest.mark.parametrize(
    "text",
    [
        "modle: {lr: 1.0}",
        "model: {lrr: 1.0}",
        "model: {lr: fast}",
        "model: {norm: grupo}",
        "model: {mixer: {name: pooling, pool_sise: 3}}",
        "model: {mixer: [pooling, pooling]}",
        "trainer: {max_epoch: 3}",
        f"trainer: {{callbacks: [{{{EMA}, init_args: {{decai: 0.9}}}}]}}",
        f"trainer: {{callbacks+: {{{EMA}, init_arg: {{decay: 0.9}}}}}}",
        "data: {class_path: poolformer.data.FFCVData, init_args: {crop_pt: 0.9}}",
        "data: {class_path: FolderData, init_args: {batch_sise: 9}}",
        "data: {class_path: FolderData, init_args: {scale: [0.5]}}",
    ],
)
def test_what_is_misspelt_is_not_valid(text):
    assert not VALID.is_valid(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        "model: {backbone: their_net, mixer: {name: theirs, pool_sise: 3}, optimizer: {name: muon, momentum: 0.9}}",
        "model: {mixer: my_file:Mixer}",
        "model: {mixer: {pool_size: 5}, freeze+: [head]}",
        "model: {mixer: [pooling, pooling, pooling, {name: attention, head_dim: 16}]}",
        "data: {class_path: my_data.MyData, init_args: {anything: 3}}",
        "data: FolderData",
        "data: {class_path: my_data.MyData, dict_kwargs: {anything: 3}}",
        "model.lr: 0.1",
        "return_predictions: false",
        "{top_k: 3, out: a.csv, sheet: a.png}",
        "data: {class_path: DigitsData}",
        "trainer: {callbacks+: [{class_path: mine.Callback, init_args: {anything: 3}}], strategy: ddp, logger: false}",
        "trainer: {logger: {class_path: CSVLogger, init_args: {save_dir: x}}, profiler: simple, devices: 2}",
    ],
)
def test_what_the_parser_takes_or_may_be_of_another_package_is_valid(text):
    assert [error.message for error in VALID.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.slow
@pytest.mark.parametrize("names", [["digits"], ["s12", "extras/ema", "hardware/ddp"]], ids=" ".join)
def test_what_a_run_writes_of_its_options_is_valid(names, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.main(["fit", *(word for name in names for word in ("--config", name)), "--print_config"])
    assert [error.message for error in VALID.iter_errors(yaml.safe_load(capsys.readouterr().out))] == []


@pytest.mark.slow
@pytest.mark.skipif(SHIPPED["$comment"] != OWN, reason=f"the shipped schema is not {OWN[0].lower()}{OWN[1:]}")
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="it is that of the pinned versions")
def test_the_shipped_schema_is_that_of_this_package(capsys):
    assert cli.main(["schema", "--without_plugins"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown) == SHIPPED, "poolformer schema --without_plugins > configs/schema.json"


def test_a_plugin_has_its_options_and_a_broken_one_is_free(fake_plugin):
    from poolformer.cli import schema

    fake_plugin(
        entry_points={"poolformer.mixers": {"theirs": "theirs:Theirs", "broken": "theirs:Nowhere"}},
        modules={"theirs": "class Theirs:\n    def __init__(self, dim: int, width: int = 3): ...\n"},
    )
    valid = Draft7Validator(schema.of_a_mixer()).is_valid
    assert valid({"name": "theirs", "width": 5})
    assert not valid({"name": "theirs", "widht": 5})
    assert not valid({"name": "theirs", "dim": 5})
    assert valid({"name": "broken", "anything": 5})
    assert Draft7Validator(schema.of_a_mixer(plugins=False)).is_valid({"name": "theirs", "widht": 5})
