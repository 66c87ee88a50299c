"""What is said of the machine."""

import os
import shutil
from collections import namedtuple

import pytest

from poolformer.doctor import machine

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def no_programs(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)


def test_a_compiler_that_is_missing_can_be_done_without_and_its_install_line_is_whole(no_programs, monkeypatch):
    monkeypatch.setattr(machine, "_is_root", lambda: False)
    check = machine.compiler()
    assert (check.state, check.remedy) == ("note", "sudo apt-get install -y g++")


def test_the_compiler_is_the_one_that_CXX_names(monkeypatch, tmp_path):
    named = tmp_path / "my++"
    named.write_text("#!/bin/sh\necho my compiler 7.0\n")
    named.chmod(0o755)
    monkeypatch.setenv("CXX", f"{named} -flag")
    assert machine.compiler().text == "my compiler 7.0"


def _without_ffcv(monkeypatch):
    def version(name):
        raise machine.PackageNotFoundError(name)

    monkeypatch.setattr(machine, "version", version)


def test_ffcv_is_optional_and_its_line_installs_what_is_missing(no_programs, monkeypatch):
    monkeypatch.setattr(machine, "_is_root", lambda: False)
    _without_ffcv(monkeypatch)
    check = machine.ffcv({})
    assert check.state == "note"
    packages = "libopencv-dev libturbojpeg0-dev pkg-config g++"
    assert check.remedy == f"sudo apt-get install -y {packages} && pip install 'ffcv==1.0.2' setuptools"


def test_where_ffcv_can_be_built_pip_is_enough_and_root_needs_no_sudo(monkeypatch):
    _without_ffcv(monkeypatch)
    monkeypatch.setattr(machine, "missing_system_packages", list)
    assert machine.ffcv({}).remedy == "pip install 'ffcv==1.0.2' setuptools"
    monkeypatch.setattr(machine, "missing_system_packages", lambda: ["pkg-config"])
    monkeypatch.setattr(machine, "_is_root", lambda: True)
    assert machine.ffcv({}).remedy.startswith("apt-get install -y pkg-config && ")


def test_ffcv_that_cannot_be_imported_is_wrong_unless_pytorch_is(monkeypatch):
    monkeypatch.setattr(machine, "version", lambda name: "1.0.2")
    broken, fine = {"error": "ImportError: libopencv", "facts": {}}, {"error": None, "facts": {}}
    assert machine.ffcv({"ffcv": fine, "torch": fine}).state == "ok"
    assert machine.ffcv({"ffcv": broken, "torch": fine}).state == "wrong"
    assert machine.ffcv({"ffcv": broken, "torch": broken}).state == "note"


@pytest.mark.parametrize(
    ("workers", "quota", "state", "remedy"),
    [
        (None, None, "ok", ""),
        (0, None, "ok", ""),
        (1 << 20, None, "note", "--data.num_workers {usable}: more take turns"),
        (1 << 20, 1.5, "note", "--data.num_workers 1: more take turns"),
    ],
)
def test_more_workers_than_cores_are_said(monkeypatch, workers, quota, state, remedy):
    monkeypatch.setattr(machine, "_quota", lambda: quota)
    check = machine.cores(workers)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert (check.state, check.remedy) == (state, remedy.format(usable=usable))


@pytest.mark.parametrize(("free", "state"), [(64 << 20, "note"), (8 << 30, "ok")])
def test_little_shared_memory_is_said(monkeypatch, tmp_path, free, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(free, 0, free))
    assert machine.shared_memory(tmp_path).state == state
    assert machine.shared_memory(tmp_path / "not there").state == "ok"


def test_a_disk_that_is_full_or_cannot_be_written_is_wrong(monkeypatch, tmp_path):
    folder = tmp_path / "a" / "b"
    check = machine.disk("run", folder, "go elsewhere")
    assert check.state == "ok"
    assert check.text.endswith(f"free in '{folder}', which will be made in '{tmp_path}'")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1 << 40, 0, 5 << 20))
    check = machine.disk("run", tmp_path, "go elsewhere")
    assert (check.state, check.remedy) == ("wrong", "go elsewhere")
    assert check.text.startswith("5 MiB free")
    monkeypatch.setattr(machine, "has_room", lambda folder: False)
    assert machine.disk("run", tmp_path, "go elsewhere").text == f"'{tmp_path}' cannot be written"


def test_caches_that_cannot_be_kept_are_said(monkeypatch, tmp_path):
    for variable in ("TORCH_HOME", "HF_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert [check.state for check in machine.cache()] == ["ok"]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    assert [check.state for check in machine.cache()] == ["ok", "wrong"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [check.state for check in machine.cache()] == ["note"]
