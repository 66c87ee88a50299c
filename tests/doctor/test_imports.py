"""Imports in a process that may end with them."""

import sys
import time

import psutil
import pytest

from poolformer.doctor.imports import _results, imported


@pytest.fixture
def modules(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fine.py").write_text("print('a word on stdout'); import sys; name = 'x'")
    (tmp_path / "broken.py").write_text("raise ImportError('libx.so: cannot open')")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)")
    (tmp_path / "crashes.py").write_text("import os; os.kill(os.getpid(), 9)")
    (tmp_path / "hangs.py").write_text("import time; time.sleep(60)")


def test_a_module_that_raises_leaves_or_crashes_harms_only_itself(modules):
    found = imported(["broken", "leaves", "fine:nothing", "crashes", "fine:name", "not_there"])
    errors = {target: each["error"] for target, each in found.items()}
    assert errors.pop("fine:name") is None
    assert errors.pop("crashes").startswith("it ends its process, with code ")
    assert errors == {
        "broken": "ImportError: libx.so: cannot open",
        "leaves": "SystemExit: 3",
        "fine:nothing": "AttributeError: module 'fine' has no attribute 'nothing'",
        "not_there": "ModuleNotFoundError: No module named 'not_there'",
    }


@pytest.mark.slow
def test_an_import_that_hangs_is_given_up(modules):
    found = imported(["fine", "hangs"], limit_s=3)
    assert found["fine"]["error"] is None
    assert found["hangs"]["error"] == "its import does not end within 3 s"


@pytest.mark.slow
def test_an_import_that_hangs_is_given_up_with_what_it_has_started(modules, tmp_path):
    (tmp_path / "starts.py").write_text(
        "import subprocess, time, sys\n"
        "print('much ' * 99999, file=sys.stderr)\n"
        "child = subprocess.Popen(['sleep', '60'])  # which keeps stderr open\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    begun_s = time.monotonic()
    assert imported(["starts", "fine"], limit_s=2)["fine"]["error"] is None
    assert time.monotonic() - begun_s < 30
    child = int((tmp_path / "child").read_text())
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() - begun_s < 30
        time.sleep(0.02)


@pytest.mark.slow
def test_the_limit_is_of_each_import_and_not_of_all_together(modules, tmp_path):
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.py").write_text("import time; time.sleep(0.8)")
    assert {each["error"] for each in imported(["fine", "one", "two", "three"], limit_s=2).values()} == {None}


def test_where_pytorch_crashes_nothing_else_is_tried(modules, tmp_path):
    (tmp_path / "torch.py").write_text("import os; os._exit(7)")
    found = imported(["torch", "fine"])
    assert found["torch"]["error"] == found["fine"]["error"] == "it ends its process, with code 7"


@pytest.mark.slow
def test_facts_of_pytorch_are_those_of_this_one():
    torch = sys.modules["torch"]
    facts = imported(["torch"])["torch"]["facts"]
    assert facts["version"] == torch.__version__
    assert len(facts["gpus"]) == torch.cuda.device_count()


@pytest.mark.parametrize("line", ["a word\n", "3\n", "{}\n", '{"error": null}\n'])
def test_what_others_print_is_no_result(line):
    assert _results(line) == []
