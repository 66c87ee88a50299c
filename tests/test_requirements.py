"""What is installed: floors that keep known bad versions out, one pin for each package, and what is said of a lack."""

import re
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

from poolformer.cli import dispatch
from poolformer.requirements import module_of, of_missing, requirements

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with hatchling

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = {one.name: one for one in map(Requirement, PROJECT["dependencies"])}
LINTERS = {one.name: one for one in map(Requirement, PROJECT["optional-dependencies"]["lint"])}
PINS = (ROOT / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("package", "version", "reason"),
    [
        ("lightning", "2.6.2", "stole credentials (GHSA-w37p-236h-pfx3)"),
        ("lightning", "2.6.3", "stole credentials (GHSA-w37p-236h-pfx3)"),
        ("lightning", "2.6.5", "a checkpoint could run code through _instantiator"),
        ("jsonargparse", "5.0.0", "lacks what lightning 2.6 calls"),
        ("torch", "2.5.1", "weights_only could be escaped (CVE-2025-32434)"),
    ],
)
def test_known_bad_versions_are_not_accepted(package, version, reason):
    assert not REQUIRED[package].specifier.contains(version), reason


def test_every_pin_is_one_version_and_no_address():
    assert [line for line in PINS if not re.fullmatch(r"[a-z0-9.-]+==[0-9][\w.]*", line)] == []
    names = [line.partition("==")[0] for line in PINS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("required", [*REQUIRED.values(), *LINTERS.values()], ids=lambda required: required.name)
def test_the_pins_meet_the_requirements(required):
    pins = dict(line.split("==") for line in PINS)
    assert required.specifier.contains(pins[required.name])


def test_a_wheel_says_that_the_package_is_typed(tmp_path):
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    assert "poolformer/py.typed" in zipfile.ZipFile(wheel).namelist()


def test_requirements_are_those_of_the_package_itself():
    needed = requirements()
    assert needed["torch"].startswith("torch")
    assert {"lightning", "pyyaml", "scikit-learn"} <= needed.keys()
    assert "pytest" not in needed
    assert "ffcv" not in needed
    assert [module_of(name) for name in ("scikit-learn", "torch")] == ["sklearn", "torch"]


@pytest.mark.parametrize(("module", "name"), [("lightning", "lightning"), ("yaml", "pyyaml"), ("PIL", "pillow")])
def test_a_command_whose_requirement_is_missing_ends_in_a_line(monkeypatch, capfd, module, name):
    def lacks(argv: list[str]) -> int:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(dispatch, "_dispatch", lacks)
    assert dispatch.main(["fit"]) == 2
    assert capfd.readouterr().err.startswith(f"poolformer: error: {name} is not installed: `poolformer doctor` says")


@pytest.mark.parametrize(
    "module", ["my_package.net", "poolformer.nowhere", "timm.nowhere", "lightning.pytorch.nowhere", None]
)
def test_what_is_no_requirement_keeps_its_traceback(module):
    assert of_missing(ModuleNotFoundError("No module", name=module)) is None
