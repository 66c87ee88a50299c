"""The packaged configurations: each parses, builds and is found by name from anywhere."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import poolformer
from poolformer import cli
from poolformer.classifier import ImageClassifier
from poolformer.configs import config_dir, config_names, find_config
from poolformer.errors import ConfigError

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


@pytest.mark.parametrize("name", NAMES)
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
        return [found for key in part for found in _missing(part[key], whole.get(key), f"{path}.{key}")]
    return [] if part == whole else [path]


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
        ("", r"there is no file '' and no packaged configuration"),
        ("../digits", r"there is no file '../digits'"),
    ],
)
def test_what_is_not_there_is_said_with_the_nearest_name(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
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
