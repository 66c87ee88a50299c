import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import LAST, ONE_EPOCH

from poolformer.commands import new_plugin
from poolformer.commands.new_plugin import main, write_plugin
from poolformer.errors import ConfigError
from poolformer.testing import check_mixer

PLUGINS = Path(__file__).parents[2] / "plugins"
KINDS = ("mixer", "backbone", "data")
SPELLING = "; write lower-case letters, digits and underscores"


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch):
    # The example itself may be installed here, and would then take the name.
    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", "1")


def _files(folder: Path) -> dict[str, str]:
    ignored = {"__pycache__", ".pytest_cache", "dist"}
    found = (path for path in folder.rglob("*") if path.is_file() and not ignored.intersection(path.parts))
    return {str(path.relative_to(folder)): path.read_text() for path in found}


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_name_gives_the_example(tmp_path, kind):
    write_plugin(f"my_{kind}", tmp_path / "new", kind=kind)
    assert _files(tmp_path / "new") == _files(PLUGINS / f"my-{kind}-plugin")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_of_the_examples_name(tmp_path, kind):
    write_plugin("gated_conv2", tmp_path, kind=kind)
    assert not re.search(f"my.?{kind}", "".join(_files(tmp_path).values()), flags=re.IGNORECASE)


def test_the_name_is_filled_in_everywhere(tmp_path):
    write_plugin("gated_conv2", tmp_path)
    files = _files(tmp_path)
    assert set(files) == {
        "pyproject.toml",
        "README.md",
        "src/gated_conv2_plugin/__init__.py",
        "tests/test_gated_conv2.py",
    }
    assert 'gated_conv2 = "gated_conv2_plugin:GatedConv2"' in files["pyproject.toml"]
    assert 'name = "gated-conv2-plugin"' in files["pyproject.toml"]
    assert "class GatedConv2(nn.Module)" in files["src/gated_conv2_plugin/__init__.py"]


@pytest.mark.slow
def test_the_written_mixer_keeps_the_contract(tmp_path, on_path):
    write_plugin("gated_conv", tmp_path)
    on_path(tmp_path / "src")
    check_mixer("gated_conv_plugin:GatedConv")


@pytest.mark.exhaustive
def test_the_written_package_passes_its_own_tests(tmp_path):
    write_plugin("gated_conv", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_next_commands_are_printed(tmp_path, capsys):
    assert main(["gated_conv", str(tmp_path / "with space")]) == 0
    folder = tmp_path / "with space"
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {folder} with the token mixer 'gated_conv'; next:",
        f"  pip install -e '{folder}[test]'",
        f"  pytest '{folder}'",
        "  poolformer mixers gated_conv",
        "  poolformer fit --model.mixer gated_conv --trainer.default_root_dir runs/gated_conv",
        "  poolformer judge gated_conv",
    ]


@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        ("backbone", ["models photos", "fit --model.backbone photos --trainer.default_root_dir runs/photos"]),
        ("data", ["data photos", "fit --config digits --data photos --trainer.default_root_dir runs/photos"]),
    ],
)
def test_next_commands_are_those_of_the_kind(tmp_path, capsys, kind, commands):
    assert main(["--kind", kind, "photos", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == [f"  poolformer {command}" for command in commands]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["backbone", "data"])
def test_what_is_written_trains_by_its_name(tmp_path, call, fake_plugin, monkeypatch, kind):
    monkeypatch.delenv("POOLFORMER_DISABLE_PLUGINS")
    write_plugin("photos", tmp_path / "new", kind=kind)
    source = (tmp_path / "new" / "src" / "photos_plugin" / "__init__.py").read_text()
    group = {"backbone": "poolformer.backbones", "data": "poolformer.data"}[kind]
    points = {group: {"photos": "photos_plugin:Photos"}}
    fake_plugin(name="photos-plugin", entry_points=points, modules={"photos_plugin": source})
    option = ["--model.backbone", "photos"] if kind == "backbone" else ["--data", "photos", "--data.images", "128"]
    done = call("fit", "--config", "digits", *option, "--trainer.default_root_dir", "run", *ONE_EPOCH)
    assert done.code == 0, done.err
    assert Path("run", LAST).is_file()


@pytest.mark.parametrize(
    ("name", "reason", "instead"),
    [
        *((name, SPELLING, "gated_conv") for name in ("GatedConv", "gated-conv", "gated__conv")),
        ("2d", SPELLING, "my_mixer"),
        ("../up", SPELLING, "up"),
        ("Class", SPELLING, "my_mixer"),
        ("class", ": it is a keyword of Python; choose another name", "my_mixer"),
        ("none", ": its class would be None, a keyword of Python; choose another name", "my_mixer"),
        ("on", ": in a configuration it is no text but true; choose another name", "my_mixer"),
        ("null", ": in a configuration it is no text but null; choose another name", "my_mixer"),
    ],
)
def test_unusable_name_is_refused_with_its_reason_and_one_to_use(name, reason, instead, tmp_path):
    with pytest.raises(ConfigError) as caught:
        write_plugin(name, tmp_path)
    assert str(caught.value) == f"new-plugin cannot use the name {name!r}{reason}, such as {instead!r}"
    assert not any(tmp_path.iterdir())


def test_name_that_is_taken_is_refused(tmp_path, fake_plugin, monkeypatch):
    monkeypatch.delenv("POOLFORMER_DISABLE_PLUGINS")
    fake_plugin(name="other-mixers", entry_points={"poolformer.mixers": {"gated_conv": "other:Mixer"}})
    with pytest.raises(
        ConfigError, match=r"'gated_conv': other-mixers 1\.0 has a token mixer of that name; choose another"
    ):
        write_plugin("gated_conv", tmp_path / "new")
    with pytest.raises(ConfigError, match=r"poolformer-lightning .* has a token mixer of that name"):
        write_plugin("pooling", tmp_path / "new")


@pytest.mark.parametrize(("kind", "name"), [("mixer", "tensor"), ("backbone", "tensor"), ("data", "data_loader")])
def test_name_whose_class_is_imported_there_is_refused(tmp_path, kind, name):
    with pytest.raises(ConfigError, match=r"its class would be (Tensor|DataLoader), which its module imports"):
        write_plugin(name, tmp_path / "new", kind=kind)


def test_a_class_is_told_from_an_import_of_several_lines_and_from_one_under_another_name():
    with pytest.raises(ConfigError, match="its class would be Tensor"):
        new_plugin._check_class("tensor", "from torch import (\n    Tensor,\n    nn,\n)\n")
    new_plugin._check_class("tensor", "from torch import Tensor as T, nn\n")


def test_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"which is not empty; name a new folder"):
        write_plugin("gated_conv", tmp_path)
    assert _files(tmp_path) == {"notes.txt": "mine"}


def test_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(ConfigError, match=r"which is a file; name a new folder"):
        write_plugin("gated_conv", tmp_path / "taken")
    with pytest.raises(ConfigError, match=r"cannot write .*pyproject\.toml.*; name another folder"):
        write_plugin("gated_conv", tmp_path / "taken" / "below")


def test_help_is_the_docstring(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert " ".join(inspect.getdoc(main).split()) in " ".join(capsys.readouterr().out.split())
