"""The packaged configurations: each parses, builds and is found by name from anywhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import poolformer
from poolformer.backbones import create_backbone
from poolformer.classifier import ImageClassifier
from poolformer.cli import dispatch as cli
from poolformer.configs import config_dir, config_names, find_config
from poolformer.errors import ConfigError
from poolformer.network.complexity import count
from poolformer.network.frame_options import built_options, own_options, with_built

NAMES = config_names()
TEXTS = {name: (config_dir() / f"{name}.yaml").read_text(encoding="utf-8") for name in NAMES}


@pytest.fixture
def printed(monkeypatch, tmp_path, capsys):
    """Return what the parser of ``fit`` makes of options, called in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def printed(*options: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as left:
            cli.main(["fit", *options, "--print_config"])
        assert left.value.code == 0
        return yaml.safe_load(capsys.readouterr().out)

    return printed


def test_there_are_configurations():
    assert "digits" in NAMES


def slow(name: str) -> list[pytest.MarkDecorator]:
    """Of the many files that differ in a number alone, and of networks that take a second to build."""
    return [pytest.mark.slow] if name.startswith(("baselines/", "long/", "short/")) else []


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=slow(name)) for name in NAMES])
def test_every_file_parses_reaches_the_configuration_and_its_model_builds(printed, name):
    base = ["--config", "s12"] if "/" in name else []  # files in folders lie over a size
    config = printed(*base, "--config", name)
    assert _missing(yaml.safe_load(TEXTS[name]), config) == []
    image_size = config["data"]["init_args"]["image_size"]
    with torch.device("meta"):
        model = ImageClassifier(**{**config["model"], "image_size": image_size})
        logits = model(torch.zeros(2, 3, image_size, image_size))
    assert logits.shape == (2, config["model"]["num_classes"])


def _missing(part: Any, whole: Any, path: str = "") -> list[str]:
    if isinstance(part, dict) and isinstance(whole, dict):
        pairs = [(part[key], whole.get(key.removesuffix("+")), f"{path}.{key}") for key in part]
        return [found for one, other, place in pairs for found in _missing(one, other, place)]
    if isinstance(part, list) and isinstance(whole, list) and len(part) == len(whole):
        pairs = [(one, other, f"{path}[]") for one, other in zip(part, whole, strict=True)]
        return [found for one, other, place in pairs for found in _missing(one, other, place)]
    return [] if part == whole else [path]


# arXiv 2111.11418, section 4.1 and table 6; where it is silent or contradicts itself, the scripts of
# sail-sg/poolformer@a075575. Of a name's two parts the first is the section.
RECIPE = {
    "model.lr": 1e-3,  # 4e-3 for the paper's batch of 4096
    "model.lr_batch_size": 1024,
    "model.weight_decay": 0.05,
    "model.warmup_epochs": 5,
    "model.warmup_lr": 1e-6,
    "model.min_lr": 1e-5,
    "model.cooldown_epochs": 10,
    "model.mixup": 0.8,
    "model.cutmix": 1.0,
    "model.label_smoothing": 0.1,
    "model.erase_prob": 0.25,
    "model.mean": [0.485, 0.456, 0.406],
    "model.std": [0.229, 0.224, 0.225],
    "model.mixer": {"name": "pooling"},
    "model.norm": "group",
    "model.act": "gelu",
    "data.image_size": 224,
    "data.auto_augment": "rand-m9-mstd0.5-inc1",
    "data.hflip": 0.5,
    "data.scale": [0.08, 1.0],
    "data.ratio": [3 / 4, 4 / 3],
    "data.interpolation": "random",
    "data.growth": None,
    "trainer.max_epochs": 310,  # 300, and 10 to cool down
    "trainer.gradient_clip_val": None,
    "trainer.accumulate_grad_batches": 1,
}
# Layer scale, stochastic depth, crop ratio of the evaluation.
SIZES = {
    "s12": (1e-5, 0.1, 0.9),
    "s24": (1e-5, 0.1, 0.9),
    "s36": (1e-6, 0.2, 0.9),
    "m36": (1e-6, 0.3, 0.95),
    "m48": (1e-6, 0.4, 0.95),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_a_size_is_trained_by_the_papers_recipe(printed, name):
    config = printed("--config", name)
    options = {"model": with_built(config["model"]), "data": config["data"]["init_args"], "trainer": config["trainer"]}
    found = {key: options[key.partition(".")[0]][key.partition(".")[2]] for key in RECIPE}
    assert found == RECIPE
    layer_scale, drop_path, crop_pct = SIZES[name]
    assert config["data"]["init_args"]["crop_pct"] == crop_pct
    with torch.device("meta"):
        blocks = [block for stage in ImageClassifier(**config["model"]).backbone.stages for block in stage.blocks]
    assert blocks[-1].drop_path1.rate == pytest.approx(drop_path)
    assert options["model"]["layer_scale_init"] == layer_scale  # test_backbones.py builds each size with its own


# The scripts of sail-sg/metaformer@64c534a: stochastic depth and dropout of the head.
FOLLOW_UP = {
    "convformer_s18": (0.2, 0.0),
    "convformer_s36": (0.3, 0.0),
    "convformer_m36": (0.4, 0.0),
    "convformer_b36": (0.6, 0.0),
    "caformer_s18": (0.15, 0.0),
    "caformer_s36": (0.3, 0.4),
    "caformer_m36": (0.4, 0.4),
    "caformer_b36": (0.6, 0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLLOW_UP)
def test_a_network_of_the_follow_up_is_trained_by_its_recipe(printed, name):
    config = printed("--config", name)
    model, lamb = config["model"], name.startswith("caformer")
    differing = {"mixer", "norm", "act", "lr", "warmup_epochs"}
    options = {"model": with_built(model), "data": config["data"]["init_args"], "trainer": config["trainer"]}
    same = {key: value for key, value in RECIPE.items() if key.partition(".")[2] not in differing}
    assert {key: options[key.partition(".")[0]][key.partition(".")[2]] for key in same} == same
    assert (model["optimizer"], model["lr"]) == (({"name": "lamb"}, 2e-3) if lamb else ("adamw", 1e-3))
    assert (model["warmup_epochs"], options["data"]["crop_pct"]) == (20, 1.0)
    with torch.device("meta"):
        network = ImageClassifier(**model).backbone
    drop_path, dropout = FOLLOW_UP[name]
    assert network.stages[-1].blocks[-1].drop_path1.rate == pytest.approx(drop_path)
    assert network.head.fc.dropout.p == dropout


@pytest.mark.slow
@pytest.mark.parametrize("overlay", [name for name in NAMES if name.startswith("ablation/")])
def test_every_ablation_lies_over_convformer_and_caformer_too(overlay):
    options = yaml.safe_load(TEXTS[overlay])["model"]
    for name in ("convformer_s18", "caformer_s18"):
        with torch.device("meta"):
            network = create_backbone(name, num_classes=10, image_size=64, **options)
            assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 10)
        assert built_options(name, options) == {**own_options(name), **built_options(name, {}), **options}


# arXiv 2111.11418, table 5, row by row: what differs from PoolFormer-S12, and the top-1.
P, A, F = {"name": "pooling"}, {"name": "attention"}, {"name": "spatial_fc"}
TABLE_5 = {
    "identity": ({"mixer": {"name": "identity"}}, 74.3),
    "random-matrix": ({"mixer": {"name": "random_matrix"}}, 75.8),
    "depthwise": ({"mixer": {"name": "depthwise"}}, 78.1),
    "pooling-5": ({"mixer": P | {"pool_size": 5}}, 77.2),
    "pooling-7": ({"mixer": P | {"pool_size": 7}}, 77.1),
    "pooling-9": ({"mixer": P | {"pool_size": 9}}, 76.8),
    "norm-layer": ({"norm": "layer"}, 76.5),
    "norm-batch": ({"norm": "batch"}, 76.4),
    "norm-none": ({"norm": "none"}, 46.1),
    "act-relu": ({"act": "relu"}, 76.4),
    "act-silu": ({"act": "silu"}, 77.2),
    "no-residual": ({"residual": False}, 0.1),
    "no-channel-mlp": ({"channel_mlp": False}, 5.7),
    "hybrid-pppa": ({"mixer": [P, P, P, A], "norm": "layer", "position_embedding": 4}, 78.3),
    "hybrid-ppaa": ({"mixer": [P, P, A, A], "norm": "layer", "position_embedding": 3}, 81.0),
    "hybrid-pppf": ({"mixer": [P, P, P, F]}, 77.5),
    "hybrid-ppff": ({"mixer": [P, P, F, F]}, 77.9),
}
TABLE_7 = {400: 77.5, 500: 77.9, 1000: 78.4, 1500: 78.6, 2000: 78.8, 2500: 78.8, 3000: 78.8}


def test_the_files_of_table_5_and_7_are_its_rows():
    expected = {f"ablation/{row}": ({"model": options}, top1) for row, (options, top1) in TABLE_5.items()}
    expected |= {f"long/{n}": ({"trainer": {"max_epochs": n + 10}}, top1) for n, top1 in TABLE_7.items()}
    found = {name: yaml.safe_load(TEXTS[name]) for name in NAMES if name.startswith(("ablation/", "long/"))}
    assert found == {name: options for name, (options, _) in expected.items()}
    for name, (_, top1) in expected.items():
        assert f"# Paper: {top1} % top-1 (table {7 if name.startswith('long/') else 5})." in TEXTS[name].splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_every_file_opens_with_what_to_expect(name):
    first = TEXTS[name].splitlines()[0]
    assert first.startswith("# ")
    assert len(first) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_mixers_in_files_are_mappings_so_that_options_merge(name):
    mixer = yaml.safe_load(TEXTS[name]).get("model", {}).get("mixer")
    if mixer is None:
        return
    stages = mixer if isinstance(mixer, list) else [mixer]
    assert len(stages) in (1, 4)
    assert all(isinstance(stage, dict) and "name" in stage for stage in stages)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_found_from_any_directory(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = config_dir() / f"{name}.yaml"
    for spelling in (name, f"{name}.yaml", f"configs/{name}.yaml", f"configs/{name}"):
        assert find_config(spelling) == expected


@pytest.mark.parametrize("spelling", ["digits", "digits.yaml", "configs/digits.yaml"])
def test_a_file_in_the_current_directory_wins_over_a_name(printed, tmp_path, spelling):
    file = tmp_path / spelling
    file.parent.mkdir(exist_ok=True)
    file.write_text("model: {num_classes: 7}\n")
    assert find_config(spelling) == Path(spelling)
    assert printed("--config", spelling)["model"]["num_classes"] == 7


def test_a_folder_in_the_current_directory_does_not_hide_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert find_config("digits") == config_dir() / "digits.yaml"


def test_a_file_called_digits_is_not_taken_for_the_default(printed, tmp_path):
    (tmp_path / "digits").write_text("0 1 2 3 4 5 6 7 8 9\n")
    assert printed()["model"]["backbone"] == "poolformer_tiny"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("digts", r"there is no file 'digts' and no packaged configuration of that name\. Did you mean 'digits'\?"),
        ("configs/digts.yaml", r"there is no file 'configs/digts.yaml' .* Did you mean 'digits'\?"),
        ("my/own.yaml", r"there is no file 'my/own.yaml' and no packaged configuration of that name\. 'poolformer "),
        ("confg.yaml", r"there is no file 'confg.yaml' .* Did you mean 'config.yaml'\?"),
        ("", r"there is no file '' and no packaged configuration"),
        ("../digits", r"there is no file '../digits'"),
    ],
)
def test_what_is_not_there_is_said_with_the_nearest_name(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").touch()
    with pytest.raises(ConfigError, match=message) as caught:
        find_config(given)
    assert str(caught.value).endswith("'poolformer configs' lists them.")


@pytest.fixture
def copied(tmp_path) -> Path:
    """A folder with our package, as a checkout or an installation would hold it, and no configurations yet."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(poolformer.__file__).parent, tmp_path / "site" / "poolformer", ignore=ignore)
    return tmp_path / "site"


FIND = "import sys; from poolformer.configs import *; print(*config_names()); print(find_config(sys.argv[1]))"


@pytest.mark.parametrize("place", ["configs", "poolformer/_configs"], ids=["checkout", "installed"])
def test_names_may_have_folders(copied, tmp_path, place):
    folder = copied / place
    for name in ("own", "ablation/identity", "ablation/deep/er"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text("# A line.\nmodel: {mixer: {name: identity}}\n")
    (folder / "README.md").write_text("not a configuration")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for spelling in ("ablation/identity", "ablation/identity.yaml", "configs/ablation/identity.yaml"):
        names, found = _python(FIND, spelling, cwd=elsewhere, path=copied).splitlines()
        assert names == "ablation/deep/er ablation/identity own"
        assert found == str(folder / "ablation" / "identity.yaml")


def test_installed_files_win_over_a_folder_beside_the_package(copied, tmp_path):
    # site-packages/configs may be anybody's.
    for folder, name in (("configs", "theirs"), ("poolformer/_configs", "ours")):
        (copied / folder).mkdir()
        (copied / folder / f"{name}.yaml").write_text("# A line.\n")
    assert _python(FIND, "ours", cwd=tmp_path, path=copied).splitlines()[0] == "ours"


def _python(code: str, *arguments: str, cwd: Path, path: Path) -> str:
    # Not through PYTHONPATH: the copy has to come before an editable installation.
    start = f"import sys; sys.path.insert(0, {str(path)!r}); {code}"
    done = subprocess.run(
        [sys.executable, "-c", start, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


README_ROWS = re.findall(
    r"^\| `((?:ablation|baselines)/[\w-]+)\.yaml` \|(?: .* \|)? ([\d.]+) % "
    r"\| ([\d,]+)(?: \+ ([\d,]+) frozen)? \| ([\d.]+) G \|$",
    (config_dir() / "README.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def test_the_readme_has_a_row_for_each_ablation_and_baseline():
    names = [name for name in NAMES if name.startswith(("ablation/", "baselines/"))]
    assert sorted(name for name, *_ in README_ROWS) == names


@pytest.mark.parametrize("row", [pytest.param(row, id=row[0], marks=slow(row[0])) for row in README_ROWS])
def test_a_row_of_the_readme_says_what_the_network_costs(row):
    name, top1, *figures = row
    options = {"backbone": "poolformer_s12"} | yaml.safe_load(TEXTS[name])["model"]
    with torch.device("meta"):
        size = count(create_backbone(options.pop("backbone"), **options), image_size=224)
    frozen = f"{size.frozen:,}" if size.frozen else ""
    assert figures == [f"{size.parameters:,}", frozen, f"{size.macs / 1e9:.4f}"]
    assert f"# Paper: {top1} % top-1" in TEXTS[name]
