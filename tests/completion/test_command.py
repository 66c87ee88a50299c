"""``poolformer completion`` as a shell calls it."""

import shutil
import subprocess
import time

import pytest

from poolformer.cli import dispatch as cli


@pytest.fixture
def printed(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def printed(shell: str) -> str:
        assert cli.main(["completion", shell]) == 0
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_has_every_command_and_the_shell_reads_it(printed, shell):
    text = printed(shell)
    assert all(command in text for command in [*cli.VERBS, *cli.COMMANDS])
    if shutil.which(shell):
        done = subprocess.run([shell, "-n", "/dev/stdin"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_answers_within_a_sixth_of_a_second(printed):
    ask = (
        'COMP_WORDS=(poolformer fit --config s12 --model.mixer poo); COMP_CWORD=5; _poolformer; echo "${COMPREPLY[@]}"'
    )
    text = printed("bash")

    def took_s(again: int) -> float:
        started_s = time.monotonic()
        code = text + f"\nfor _ in {{1..{again}}}; do {ask}; done"
        done = subprocess.run(["bash", "--norc", "/dev/stdin"], input=code, capture_output=True, text=True, check=True)
        assert {"pooling"} <= set(done.stdout.split())
        return time.monotonic() - started_s

    assert min((took_s(11) - took_s(1)) / 10 for _ in range(3)) <= 0.15


def test_without_a_cache_the_words_are_those_of_the_start_of_the_shell(printed, tmp_path, monkeypatch):
    assert " -nt " in printed("bash")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert " -nt " not in printed("bash")


def test_another_shell_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["completion", "tcsh"])
    assert left.value.code == 2
    assert "'tcsh'" in capsys.readouterr().err
