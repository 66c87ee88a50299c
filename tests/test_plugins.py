"""The packages of ``plugins/``: found, built, installed and run as a user's own would be."""

import importlib.metadata
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from poolformer import registry
from poolformer.backbones import create_backbone
from poolformer.errors import (
    AmbiguousNameError,
    BrokenPluginError,
    OptionsError,
    PoolformerError,
    UnknownNameError,
)
from poolformer.network.mixer_spec import resolve
from poolformer.testing import RULES, check_mixer

PLUGINS = Path(__file__).parents[1] / "plugins"
EXAMPLE = PLUGINS / "my-mixer-plugin"
SOURCE = (EXAMPLE / "src" / "my_mixer_plugin" / "__init__.py").read_text()
SHIPPED = sorted(file.parent.name for file in PLUGINS.glob("*/pyproject.toml"))


@pytest.fixture
def example(shipped_plugin) -> Path:
    """The example package, installed."""
    return shipped_plugin(EXAMPLE.name)


def test_example_is_listed_with_its_origin_and_not_imported(example):
    entry = registry.listing(registry.MIXERS)["my_mixer"]
    assert entry.origin == "my-mixer-plugin 0.1.0"
    assert not entry.builtin
    assert "my_mixer_plugin" not in sys.modules


@pytest.mark.slow
def test_example_keeps_the_contract(example):
    check_mixer("my_mixer")
    check_mixer("my-mixer-plugin/my_mixer", kernel_size=3)


def test_example_mixes_in_a_backbone(example):
    mixer = {"name": "my_mixer", "kernel_size": "5"}  # as text, as the command line gives it
    backbone = create_backbone("poolformer_tiny", num_classes=10, mixer=mixer)
    assert backbone.stages[0].blocks[0].token_mixer.along_rows.kernel_size == (1, 5)
    assert backbone(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    "folder",
    [
        name
        for name in SHIPPED
        if name not in ("my-data-plugin", "poolformer-dense", "poolformer-ffcv", "poolformer-text")
    ],
)
def test_shipped_package_of_networks_depends_on_torch_alone(folder):
    assert 'dependencies = ["torch"]\n' in (PLUGINS / folder / "pyproject.toml").read_text()
    for file in (PLUGINS / folder / "src").rglob("*.py"):
        assert not re.search(r"^(import|from) poolformer\b", file.read_text(), flags=re.MULTILINE), file


@pytest.mark.parametrize("folder", SHIPPED)
def test_gallery_says_how_long_each_package_is(folder):
    sources = [file.read_text() for file in (PLUGINS / folder / "src").rglob("*.py")]
    lines = sum(bool(line.strip()) for source in sources for line in source.splitlines())
    assert re.search(rf"^\| \[`{folder}`\].*\| {lines} \|$", (PLUGINS / "README.md").read_text(), flags=re.MULTILINE)


def test_extra_mixers_are_as_large_as_their_table_says(shipped_plugin):
    shipped_plugin("poolformer-extra-mixers")
    table = (PLUGINS / "poolformer-extra-mixers" / "README.md").read_text()
    listed = registry.listing(registry.MIXERS).items()
    ours = {name: entry for name, entry in listed if entry.distribution == "poolformer-extra-mixers"}
    assert list(ours) == NAMES["poolformer-extra-mixers"]
    for name, entry in ours.items():
        mixer = resolve(name)[0].build(64, resolution=(14, 14))
        lines = sum(bool(line.strip()) for line in inspect.getsource(entry.load()).splitlines())
        parameters = sum(parameter.numel() for parameter in mixer.parameters())
        assert re.search(rf"^\| `{name}` .*\| {parameters:,} \| {lines} \|$", table, flags=re.MULTILINE), name


def test_disabled_plugins_leave_the_built_in_ones(example, monkeypatch):
    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", "1")
    assert all(entry.builtin for entry in registry.entries(registry.MIXERS))
    with pytest.raises(UnknownNameError, match="turned off by POOLFORMER_DISABLE_PLUGINS"):
        registry.find(registry.MIXERS, "my_mixer")
    assert registry.find(registry.MIXERS, "pooling").builtin


def test_two_packages_with_one_name_get_it_neither(example, fake_plugin):
    fake_plugin(name="other", entry_points={"poolformer.mixers": {"my_mixer": "other:Mixer"}})
    with pytest.raises(AmbiguousNameError, match="write 'my-mixer-plugin/my_mixer' or 'other/my_mixer'"):
        registry.find(registry.MIXERS, "my_mixer")
    assert registry.find(registry.MIXERS, "my-mixer-plugin/my_mixer").load().__name__ == "MyMixer"


def test_built_in_keeps_its_name_from_a_plugin(fake_plugin):
    fake_plugin(
        name="loud",
        entry_points={"poolformer.mixers": {"pooling": "my_mixer_plugin:MyMixer"}},
        modules={"my_mixer_plugin": SOURCE},
    )
    assert resolve("pooling")[0].origin.startswith(f"{registry.DISTRIBUTION} ")
    assert resolve("loud/pooling")[0].origin == "loud 1.0"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a_missing_dependency", "ModuleNotFoundError: No module named 'a_missing_dependency'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("Mixer = 3", "is int and cannot be called"),
        ("", "AttributeError"),
    ],
)
def test_broken_package_harms_only_itself(example, fake_plugin, source, found):
    fake_plugin(
        name="broken",
        entry_points={"poolformer.mixers": {"broken": "broken_one:Mixer"}},
        modules={"broken_one": source},
    )
    with pytest.raises(BrokenPluginError, match=r"token mixer 'broken' of broken 1\.0 \(broken_one:Mixer\)") as caught:
        resolve("broken")
    assert found in str(caught.value)
    assert {"broken", "my_mixer", "pooling"} <= set(registry.listing(registry.MIXERS))
    assert resolve("my_mixer")[0].origin == "my-mixer-plugin 0.1.0"


@pytest.mark.slow
def test_module_in_the_current_directory_needs_no_package(tmp_path, monkeypatch):
    (tmp_path / "tried_this_morning.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    try:
        check_mixer("tried_this_morning:MyMixer", kernel_size=5)
    finally:
        sys.modules.pop("tried_this_morning", None)


BACKBONE = '''
from torch import nn


def linear_probe(num_classes: int, *, side: int = 8) -> nn.Module:
    """One linear layer on the pixels."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(side), nn.Flatten(), nn.Linear(3 * side * side, num_classes))
'''


def test_backbone_comes_in_by_its_group(fake_plugin):
    fake_plugin(
        entry_points={"poolformer.backbones": {"linear_probe": "probes:linear_probe"}}, modules={"probes": BACKBONE}
    )
    assert create_backbone("linear_probe", num_classes=7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    with pytest.raises(OptionsError, match="has no option 'mixer'"):
        create_backbone("linear_probe", mixer="identity")


@pytest.mark.parametrize("file", ["pyproject.toml", "src/my_mixer_plugin/__init__.py", "tests/test_my_mixer.py"])
def test_tutorial_shows_the_files_of_the_example(file):
    assert (EXAMPLE / file).read_text() in (PLUGINS / "README.md").read_text()


def test_tutorial_backbone_is_the_one_tested_here():
    assert BACKBONE.strip() in (PLUGINS / "README.md").read_text()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_contract_in_words_has_the_rule(rule):
    assert f"| `{rule.name}` | {rule.sentence.replace('``', '`')} |" in (PLUGINS / "README.md").read_text()


# For each message that the tutorial shows, in its order: a plugin's source and what is asked for.
MISTAKES = [
    (SOURCE, "my_mixr"),
    ("import a_missing_dependency", "my_mixer"),
    (SOURCE.replace("kernel_size % 2 == 0", "kernel_size % 2"), "my_mixer"),
    (SOURCE.replace("self.along_rows(x)", "self.along_rows(x).transpose(2, 3)"), "my_mixer"),
    (SOURCE, {"name": "my_mixer", "kernel": 3}),
    (SOURCE, "twice"),
]


def test_messages_in_the_tutorial_are_the_ones_one_meets(fake_plugin, monkeypatch):
    shown = re.findall(r"^\| ((?:no )?token mixer .*?) \|", (PLUGINS / "README.md").read_text(), flags=re.MULTILINE)
    for message, (source, spec) in zip(shown, MISTAKES, strict=True):
        monkeypatch.delitem(sys.modules, "my_mixer_plugin", raising=False)
        points = {"poolformer.mixers": {"my_mixer": "my_mixer_plugin:MyMixer", "twice": "my_mixer_plugin:MyMixer"}}
        modules = {"my_mixer_plugin": source}
        fake_plugin(name="my-mixer-plugin", version="0.1.0", entry_points=points, modules=modules)
        fake_plugin(name="other", entry_points={"poolformer.mixers": {"twice": "other:Mixer"}})
        with pytest.raises(PoolformerError) as caught:
            resolve(spec)[0].build(64, resolution=(7, 7))
        assert re.match(re.escape(message).replace(r"\.\.\.", ".*"), str(caught.value)), str(caught.value)


ASK_THE_REGISTRY = """
from poolformer import registry
for group in (registry.BACKBONES, registry.MIXERS, registry.DATA):
    for entry in registry.entries(group):
        if not entry.builtin:
            print(entry.name, entry.origin, callable(entry.load()))
"""
# What an installed package offers.
NAMES = {
    "my-mixer-plugin": ["my_mixer"],
    "my-backbone-plugin": ["my_backbone"],
    "my-data-plugin": ["my_data"],
    "poolformer-dense": [],
    "poolformer-extra-mixers": [
        "axis_mlp",
        "fourier",
        "global_filter",
        "large_kernel_attention",
        "multi_granularity_pooling",
        "shift",
        "strip_pooling",
        "summary_mixing",
        "window_attention",
    ],
    "poolformer-ffcv": ["ffcv"],
    "poolformer-text": ["byte_former", "languages", "listops", "texts"],
    "poolformer-pvt": ["pvt_large", "pvt_medium", "pvt_small", "pvt_tiny", "spatial_reduction_attention"],
}
# How many tests pass of those that are templates of a user's own.
PASSED = {"my-mixer-plugin": 3, "my-backbone-plugin": 4, "my-data-plugin": 3}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> dict[str, str]:
    """The wheels of all packages of ``plugins/``, installed side by side: the environment that sees them first."""
    folder = tmp_path_factory.mktemp("shipped")
    for name in SHIPPED:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist"]
        _run(command, cwd=PLUGINS / name)
    wheels = sorted((folder / "dist").glob("*.whl"))
    assert len(wheels) == len(SHIPPED)
    site = folder / "site-packages"
    _run([*_installer(), "--no-deps", "--no-index", "--target", site, *wheels], cwd=folder)
    return {**os.environ, "PYTHONPATH": str(site)}


@pytest.mark.slow
def test_shipped_packages_are_built_installed_and_found(shipped, tmp_path):
    printed = _run([sys.executable, "-c", ASK_THE_REGISTRY], cwd=tmp_path, env=shipped).splitlines()
    for folder in SHIPPED:
        if folder != "poolformer-ffcv" or importlib.util.find_spec("ffcv") is not None:
            found = [line for line in printed if f" {folder} " in line]
            assert found == [f"{name} {folder} 0.1.0 True" for name in NAMES[folder]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "folders",
    [
        # In one process, as most of a test's time is that of its imports.
        [name for name in SHIPPED if name not in ("poolformer-ffcv", "poolformer-pvt")],
        pytest.param(["poolformer-ffcv"], marks=pytest.mark.ffcv),
        pytest.param(["poolformer-pvt"], marks=pytest.mark.exhaustive),
    ],
    ids=["others", "ffcv", "pvt"],
)
def test_tests_of_shipped_packages_pass_where_they_are_installed(shipped, folders, tmp_path):
    if folders == ["poolformer-ffcv"] and importlib.util.find_spec("ffcv") is None:
        pytest.skip("ffcv is not installed")
    for folder in folders:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PLUGINS / folder / "tests", tmp_path / folder / "tests", ignore=ignored)
        for beside in (PLUGINS / folder).glob("*.yaml"):
            shutil.copy(beside, tmp_path / folder)
    tests = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *folders]
    if len(folders) > 1:  # whose files share their names
        tests.append("--import-mode=importlib")
    said = _run(tests, cwd=tmp_path, env=shipped)
    for folder in folders:
        passed = len(re.findall(rf"^{folder}/tests/.* PASSED", said, flags=re.MULTILINE))
        assert passed == PASSED.get(folder, max(passed, 1)), said


def _installer() -> list[str]:
    # Not by find_spec: to look for pip's module has setuptools leave distutils alone, and then fail to import.
    if any(importlib.metadata.distributions(name="pip")):
        return [sys.executable, "-m", "pip", "install"]
    if shutil.which("uv"):
        return ["uv", "pip", "install", "--python", sys.executable]
    pytest.skip("needs pip or uv")


def _run(command: list[str | Path], **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
