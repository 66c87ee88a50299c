"""What a command says, where it cannot be said: nobody listens, the disk is full, the encoding lacks letters."""

import io
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from poolformer.cli import dispatch as cli
from poolformer.cli import quiet
from poolformer.configs import find_config, read_config, run_name
from poolformer.errors import ConfigError

SAYING = [["--help"], ["--version"], ["mixers"], ["mixers", "--json"], ["configs"], ["pack", "--help"]]
STREAMS = ["closed", "full", "of a reader who left", "ascii"]
ESCAPE = "\x1b[31m"


class Pipe:
    """A pipe whose reader has left, and a full device, as text streams; both are open files."""

    def __init__(self, kind: str):
        if kind == "full":
            self.stream = open("/dev/full", "w")  # noqa: SIM115
        else:
            read_end, write_end = os.pipe()
            os.close(read_end)
            self.stream = os.fdopen(write_end, "w")


@pytest.fixture
def stream(request):
    kind = request.param
    if kind == "closed":
        yield kind, None
    elif kind == "ascii":
        yield kind, io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    else:
        if not Path("/dev/full").exists():
            pytest.skip("of devices as Linux has them")
        pipe = Pipe(kind)
        yield kind, pipe.stream
        pipe.stream.close()


def code_of(arguments: list[str]) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as left:
        return left.code or 0


@pytest.mark.parametrize("stream", STREAMS, indirect=True)
@pytest.mark.parametrize("arguments", SAYING, ids=" ".join)
def test_stdout(arguments, stream, monkeypatch, capsys):
    kind, out = stream
    monkeypatch.setattr(sys, "stdout", out)
    assert code_of(arguments) == {"full": 2, "of a reader who left": 141}.get(kind, 0)
    said = "poolformer: error: what this prints cannot be written: No space left on device\n"
    assert capsys.readouterr().err == (said if kind == "full" else "")


@pytest.mark.parametrize("stream", STREAMS, indirect=True)
@pytest.mark.parametrize("arguments", [["fitt"], ["mixers", "pölîng"], ["verify", "no\udce9.beton"]], ids=ascii)
def test_a_mistake_has_code_2_whatever_stderr_is(arguments, stream, monkeypatch):
    _, err = stream
    monkeypatch.setattr(sys, "stderr", err)
    assert code_of(arguments) == 2


@pytest.mark.skipif(os.name != "posix", reason="of shells as POSIX has them")
@pytest.mark.parametrize(
    ("redirection", "code", "errors"),
    [
        (">&-", 0, 0),
        ("2>&-", 0, 0),
        ("<&- >&- 2>&-", 0, 0),
        (">/dev/full", 2, 1),
        (">/dev/full 2>&1", 2, 0),
        ("2>/dev/full", 0, 0),
        ("| true; exit ${PIPESTATUS[0]}", None, 0),
    ],
)
def test_the_process_ends_without_a_traceback(redirection, code, errors):
    command = f"{sys.executable} -m poolformer configs {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code if code is not None else done.returncode in (0, 141)
    assert len(done.stderr.splitlines()) == errors, done.stderr


def test_a_closed_stdout_is_no_file_that_is_opened_later(tmp_path):
    code = "import os, poolformer.cli.streams as s\nwith s.careful_streams(escape=True, ends=True):\n"
    code += (
        f"    f = open({str(tmp_path / 'last.ckpt')!r}, 'w'); assert f.fileno() > 2; print('hello'); f.write('whole')"
    )
    subprocess.run(["bash", "-c", f'exec {sys.executable} -c "{code}" <&- >&- 2>&-'], check=True)
    assert (tmp_path / "last.ckpt").read_text() == "whole"


def test_escapes_in_names_are_shown_not_sent(fake_plugin, capsys):
    fake_plugin(
        name="evil",
        version=f"1.0{ESCAPE}",
        entry_points={"poolformer.mixers": {f"red{ESCAPE}": "evil_plugin:Mixer"}},
        modules={"evil_plugin": f"raise ImportError('{ESCAPE}')"},
    )
    for arguments in (
        ["mixers"],
        ["mixers", f"red{ESCAPE}"],
        ["mixers", f"nothing{ESCAPE}"],
        ["models", "evil_plugin:M"],
    ):
        code_of(arguments)
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
    assert cli.main(["mixers"]) == 0
    assert "red\\x1b[31m" in capsys.readouterr().out


def test_escapes_in_warnings_and_logs_are_shown_not_sent():
    with quiet.short_warnings():
        assert warnings.formatwarning(f"class {ESCAPE}cat\nnext", UserWarning, "", 1) == (
            "warning: class \\x1b[31mcat\nnext\n"
        )
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(quiet._no_escapes)
    logging.getLogger("poolformer.test").addHandler(handler)
    logging.getLogger("poolformer.test").warning("class %s\nnext %d", f"{ESCAPE}cat", 3)
    logging.getLogger("poolformer.test").removeHandler(handler)
    assert stream.getvalue() == "class \\x1b[31mcat\nnext 3\n"


# ---- configurations that come through a pipe


def through_a_pipe(text: str) -> str:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as file:
        file.write(text)
    return f"/dev/fd/{read_end}"


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="of pipes as Linux has them")
def test_a_configuration_comes_through_a_pipe(monkeypatch):
    path = find_config(through_a_pipe("model: {num_classes: 3}"))
    assert read_config(path) == {"model": {"num_classes": 3}}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"model: {num_classes: 4}")))
    assert read_config(find_config("-")) == {"model": {"num_classes": 4}}
    assert run_name([path, find_config("-"), find_config("s12")]) == "stdin-stdin-s12"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="of devices as Linux has them")
@pytest.mark.parametrize(("path", "said"), [("/dev/null", "it holds nothing"), ("/dev/zero", "larger than")])
def test_a_device_is_no_configuration(path, said):
    with pytest.raises(ConfigError, match=said):
        read_config(find_config(path))


def test_a_closed_stdin_is_no_configuration(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigError, match="reads stdin, which is closed"):
        read_config(find_config("-"))


def test_a_file_that_is_called_like_stdin_can_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("-").write_text("model: {num_classes: 5}")
    assert read_config(find_config("./-")) == {"model": {"num_classes": 5}}


def test_an_ablation_does_not_take_what_can_be_read_once(capsys):
    assert cli.main(["ablate", "--config", "-"]) == 2
    assert "can be read once" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="of pipes as Linux has them")
def test_a_run_from_a_pipe_has_a_name_and_can_be_resumed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    short = ["--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"]
    short += ["--model.warmup_epochs", "0", "--trainer.log_every_n_steps", "1"]
    text = find_config("digits").read_text()
    assert cli.main(["fit", "--config", through_a_pipe(text), "--trainer.max_epochs", "1", *short]) == 0
    assert Path("runs/stdin/config.yaml").is_file()
    resume = ["fit", "--config", "runs/stdin/config.yaml", "--ckpt_path", "last", "--trainer.max_epochs", "2"]
    assert cli.main(resume) == 0
    assert "\x1b[31m" not in capsys.readouterr().out
