"""The scripts in the shells themselves."""

import shutil
import subprocess
import time

import pytest

from poolformer.completion.shells import Words, script

WORDS = Words(
    commands={"fit": "Train; it's quick.", "mixers": "List."},
    options={"fit": ["--config", "--model.lr", "--model.mixer", "--trainer.max_epochs"], "mixers": ["--json"]},
    values={"--config": ["s12", "extras/ema"], "--model.mixer": ["pooling", "identity", "dist/pooling"]},
    behind={"mixers": ["pooling", "identity"]},
    packages=[],
    stamp=None,
)
BASH = """
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_poolformer
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
# What the completion system has inside of a widget alone.
ZSH_BEFORE = (
    "compdef() {}; compset() {}; _files() { print FILES }; compadd() { shift; print -l -- $@ }; functions[x]=:\n"
)
ZSH = "words=({words}); CURRENT=${{#words}}\n_poolformer\n"


def answers(shell: str, words: list[str], found: Words = WORDS, cwd=None) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    text = script(shell, found)
    quoted = " ".join(f"'{word}'" for word in words)
    if shell == "bash":  # it splits at these
        quoted = quoted.replace("=", "' '=' '")
    if shell == "bash":
        text += BASH.format(words=quoted)
    elif shell == "zsh":
        text = ZSH_BEFORE + text + ZSH.format(words=quoted)
    else:
        text += f'complete -C "{" ".join(words)}"\n'
    arguments = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [shell, *arguments, "/dev/stdin"], input=text, capture_output=True, text=True, check=True, cwd=cwd
    )
    assert done.stderr == ""
    return [line.partition("\t")[0] for line in done.stdout.splitlines() if line]


def chosen(shell: str, words: list[str], *, cwd=None) -> set[str]:
    found = answers(shell, words, cwd=cwd)
    # zsh and fish choose among these by themselves, zsh not in this test.
    last = words[-1].rpartition("=")[2]
    return {word.removeprefix(words[-1].rpartition("=")[0] + "=") for word in found if last in word or word == "FILES"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["poolformer", "mi"], {"mixers"}),
        (["poolformer", "fit", "--model."], {"--model.lr", "--model.mixer"}),
        (["poolformer", "fit", "--model.mixer", "poo"], {"pooling", "dist/pooling"}),
        (["poolformer", "fit", "--model.mixer", "id"], {"identity"}),
        (["poolformer", "fit", "--model.mixer=id"], {"identity"}),
        (["poolformer", "fit", "--config", "extras/e"], {"extras/ema"}),
        (["poolformer", "mixers", "id"], {"identity"}),
        (["poolformer", "mixers", "--j"], {"--json"}),
        (["poolformer", "fit", "--config", "s12", "--trainer"], {"--trainer.max_epochs"}),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_words_are_completed(shell, words, expected, tmp_path):
    if shell != "zsh":
        expected = {word for word in expected if word.startswith(words[-1].rpartition("=")[2])}
    assert chosen(shell, words, cwd=tmp_path) - {"FILES"} == expected


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_configuration_may_be_a_file_too(shell, tmp_path):
    (tmp_path / "s12-mine.yaml").write_text("")
    assert chosen(shell, ["poolformer", "fit", "--config", "s12"], cwd=tmp_path) == {"s12", "s12-mine.yaml"}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_words_are_taken_anew_after_an_installation(shell, tmp_path, monkeypatch):
    stamp, packages = tmp_path / "stamp", tmp_path / "site-packages"
    stamp.touch()
    new = WORDS._replace(commands={"newer": "It is new."}, options={"newer": []}, packages=[packages], stamp=stamp)
    (tmp_path / "new").write_text(script(shell, new))
    program = tmp_path / "poolformer"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/new\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    old = WORDS._replace(packages=[packages], stamp=stamp)
    assert "newer" not in answers(shell, ["poolformer", ""], old)
    time.sleep(0.02)
    packages.mkdir()
    assert "newer" in answers(shell, ["poolformer", ""], old)


def test_an_answer_takes_no_process_of_python(tmp_path, monkeypatch):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    monkeypatch.setenv("PATH", str(tmp_path))  # nothing can be started
    bash = "/bin/bash"
    text = script("bash", WORDS) + BASH.format(words="poolformer fit --model.mixer id")
    done = subprocess.run([bash, "--norc", "/dev/stdin"], input=text, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("identity\n", "")
