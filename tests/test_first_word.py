"""The first word of a command: from one process, and only where there is something to wait for."""

import subprocess
import sys
import time

import pytest

from poolformer import first_word


def test_the_first_process_alone_says_what_is_loaded_where_it_is_not_there_yet(monkeypatch, capsys):
    first_word.say("fit s12", "Nothing", "no_such_module")
    first_word.say("fit s12", "This", "poolformer")
    monkeypatch.setenv("SLURM_PROCID", "1")
    first_word.say("fit s12", "Nothing", "no_such_module")
    assert capsys.readouterr() == ("", "fit s12: loading Nothing\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["fit", "--config", "s12", "--trainer.fast_dev_run", "true"], "fit s12: loading PyTorch and Lightning\n"),
        (["models", "timm/resnet10t"], "models timm/resnet10t: loading PyTorch\n"),
        (["judge", "nothing"], "judge nothing: loading PyTorch\n"),
        (["ablate", "--rows", "base"], "ablate digits: loading PyTorch and Lightning\n"),
    ],
)
def test_a_command_says_what_it_does_before_the_imports_that_take_seconds(tmp_path, arguments, word):
    command = [sys.executable, "-m", "poolformer", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=tmp_path)
    started_s = time.monotonic()
    assert process.stderr.readline() == word
    said_s = time.monotonic() - started_s
    process.kill()
    process.communicate()
    assert said_s < 10, "the imports came first"  # 0.3 s where nothing else runs
