"""``poolformer doctor`` as a person calls it."""

import json
import os
import subprocess
import sys

import pytest

from poolformer.cli import dispatch as cli
from poolformer.doctor import command
from poolformer.doctor.check import Check


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Call it in this process with what is found given: exit code, stdout."""
    monkeypatch.chdir(tmp_path)

    def call(found, *arguments):
        monkeypatch.setattr(command, "examine", lambda job: found)
        return cli.main(["doctor", *arguments]), capsys.readouterr().out

    return call


FINE = Check("torch", "ok", "2.15.0")
ABSENT = Check("ffcv", "note", "not installed", "pip install ffcv")
WRONG = Check("disk", "wrong", "full\x1b[2J", "delete something")


def test_the_exit_code_is_1_where_something_is_wrong_and_a_note_is_not(call):
    assert call([FINE, ABSENT]) == (
        0,
        "ok     torch            2.15.0\nnote   ffcv             not installed\n"
        f"{'':24}-> pip install ffcv\n\nNothing is wrong.\n",
    )
    code, out = call([FINE, ABSENT, WRONG])
    assert code == 1
    assert "WRONG  disk             full\\x1b[2J\n" in out
    assert out.endswith("\n1 of 3 wrong\n")


def test_what_answers_at_once_comes_before_what_has_to_be_imported(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("model: {mixr: pooling}")
    before = []

    def imported(targets):
        before.append(capsys.readouterr().out)
        return {}

    monkeypatch.setattr(command, "imported", imported)
    assert cli.main(["doctor", "--config", "mine.yaml"]) == 1
    assert "there is no option 'model.mixr' in 'mine.yaml'" in before[0]
    assert "\nok     caches " in before[0]


def test_json_has_the_same(call):
    code, out = call([FINE, WRONG], "--json")
    assert code == 1
    found = json.loads(out)
    assert found["ok"] is False
    assert found["checks"][1] == {"name": "disk", "state": "wrong", "text": "full\x1b[2J", "remedy": "delete something"}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raise ImportError('libcudart.so.13: cannot open')", "import os; os._exit(11)"])
def test_with_a_broken_pytorch_it_says_so_and_looks_at_the_rest(tmp_path, how):
    (tmp_path / "torch.py").write_text(how)
    (tmp_path / "images" / "cat").mkdir(parents=True)
    arguments = ["doctor", "--json", "--config", "s12", "--data.train", "images", "--data.num_workers", "0"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "poolformer", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert {name for name, check in found.items() if check["state"] == "wrong"} == {"torch"}
    assert "cannot be imported: " in found["torch"]["text"]
    assert found["torch"]["remedy"].startswith("pip install --force-reinstall 'torch")
    assert found["data.train"]["state"] == "ok"
    assert {"Python", "packages", "plugins", "compiler", "ffcv", "cores", "caches", "run"} <= found.keys()
