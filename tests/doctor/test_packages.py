"""What is said of Python, requirements, PyTorch and plugins, by what came of their imports."""

import platform
import sys

import pytest

from poolformer.doctor import packages
from poolformer.registry import MIXERS, entries

NEEDED = {"torch": "torch>=2.9", "pyyaml": "pyyaml>=6"}
CPU = {"version": "2.15.0", "threads": 2, "built_for": None, "available": False, "runs_on": [], "gpus": []}
FINE = {"error": None, "facts": {}}


def of_torch(**facts):
    return {"torch": {"error": None, "facts": {**CPU, **facts}}}


def failed(error):
    return {"error": error, "facts": {}}


def states(checks):
    return [(check.name, check.state) for check in checks]


def test_pytorch_is_imported_first_and_packages_by_the_name_of_their_module():
    targets = packages.targets({"scikit-learn": "scikit-learn", "torch": "torch", "not-there": "not-there"})
    assert targets[:2] == ["torch", "sklearn"]
    assert "not-there" not in targets
    assert {entry.value for entry in entries(MIXERS)} <= set(targets)


def test_the_interpreter_is_named_and_one_that_is_too_old_is_wrong(monkeypatch):
    assert packages.python().state == "ok"
    assert packages.python().text.startswith(platform.python_version())
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert packages.python().state == "wrong"


def test_what_is_not_installed_is_one_line_to_paste():
    needed = {**NEEDED, "no-such-a": "no-such-a>=1", "no-such-b": "no-such-b[x]<2"}
    [check] = packages.required(needed, {})
    assert (check.state, check.text) == ("wrong", "not installed: no-such-a, no-such-b")
    assert check.remedy == "pip install 'no-such-a>=1' 'no-such-b[x]<2'"


def test_a_version_that_is_too_old_is_wrong():
    [check] = packages.required({"pyyaml": "pyyaml>=99"}, {})
    assert check.state == "wrong"
    assert check.text.endswith("is installed, pyyaml>=99 is needed")
    assert check.remedy == "pip install 'pyyaml>=99'"


def test_a_package_that_cannot_be_imported_is_named_and_not_for_what_pytorch_does():
    found = {"yaml": failed("ImportError: x"), "torch": FINE}
    assert states(packages.required(NEEDED, found)) == [("pyyaml", "wrong")]
    found = {"yaml": failed("ImportError: x"), "torch": failed("ImportError: x")}
    assert states(packages.required(NEEDED, found)) == [("packages", "ok")]


@pytest.mark.parametrize(
    ("found", "state", "text"),
    [
        ({"torch": failed("OSError: libx")}, "wrong", "cannot be imported: OSError: libx"),
        (of_torch(), "ok", "2.15.0, built for CPUs alone, 2 threads"),
        (of_torch(built_for="13.2"), "ok", "2.15.0, built for CUDA 13.2, 2 threads"),
    ],
)
def test_pytorch_is_what_its_import_says(found, state, text):
    check = packages.pytorch(NEEDED, found)[0]
    assert (check.name, check.state) == ("torch", state)
    assert check.text.endswith(text)


GPU = {"name": "NVIDIA X", "bytes": 3 << 30, "is": "90"}


@pytest.mark.parametrize(
    ("facts", "driver", "state", "text"),
    [
        ({}, False, "note", "no NVIDIA GPU here: runs train on the CPU"),
        ({}, True, "wrong", "there is an NVIDIA GPU, which this PyTorch is not built for"),
        ({"built_for": "13.2"}, True, "wrong", "there is an NVIDIA GPU, which PyTorch does not see"),
        ({"built_for": "13.2", "gpus": [GPU], "runs_on": ["sm_80", "sm_90"]}, True, "ok", "NVIDIA X, 3.0 GiB"),
        (
            {"built_for": "13.2", "gpus": [GPU], "runs_on": ["sm_100"]},
            True,
            "wrong",
            "NVIDIA X, 3.0 GiB: this PyTorch runs on sm_100",
        ),
    ],
)
def test_gpus_are_those_that_pytorch_sees_and_can_run_on(monkeypatch, facts, driver, state, text):
    monkeypatch.setattr(packages, "_has_driver", lambda: driver)
    check = packages.pytorch(NEEDED, of_torch(**facts))[1]
    assert (check.name, check.state, check.text) == ("CUDA", state, text)


def test_a_broken_plugin_is_wrong_with_its_package_and_harms_no_other(fake_plugin):
    fake_plugin(name="fine-mixer", entry_points={MIXERS: {"fine_mixer": "fine_mixer:Net"}})
    fake_plugin(name="broken-mixer", entry_points={MIXERS: {"broken_mixer": "broken_mixer:Nope"}})
    checks = packages.plugins({"fine_mixer:Net": FINE, "broken_mixer:Nope": failed("ImportError: x")})
    by_text = {check.text.split()[2]: check for check in checks if check.name == "plugin"}
    assert by_text["fine_mixer"].state == "ok"
    assert by_text["fine_mixer"].text.startswith("token mixer fine_mixer of fine-mixer 1.0")
    assert by_text["broken_mixer"].state == "wrong"
    assert by_text["broken_mixer"].text.endswith("cannot be imported: ImportError: x")
    assert "pip uninstall broken-mixer" in by_text["broken_mixer"].remedy
    assert checks[0].state == "ok"


def test_without_pytorch_no_plugin_is_blamed():
    assert states(packages.plugins({"torch": failed("x")})) == [("plugins", "note")]
