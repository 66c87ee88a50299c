"""The command line itself: what it answers without PyTorch, and how a mistake ends."""

import importlib
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import pytest

import poolformer
from poolformer.cli import dispatch as cli
from poolformer.errors import DataError

SCRIPT = Path(sysconfig.get_path("scripts"), "poolformer")
MODULE = [sys.executable, "-m", "poolformer"]
HEAVY = ("torch", "lightning", "jsonargparse", "torchvision", "timm", "sklearn", "numpy")
COMMANDS = ["fit", "validate", "test", "predict", *cli.COMMANDS]


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Call the command in this process, in an empty directory: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(list(arguments))
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]], ids=" ".join)
def test_help_names_every_command(call, arguments):
    code, out, err = call(*arguments)
    assert (code, err) == (0, "")
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert listed == COMMANDS


def test_help_fits_a_terminal(call):
    _, out, _ = call("--help")
    assert len(out.splitlines()) <= 24
    assert max(map(len, out.splitlines())) <= 80
    assert max(map(len, out.splitlines())) <= 120


def test_version_is_that_of_the_package(call):
    assert call("--version") == (0, f"poolformer {poolformer.__version__}\n", "")


def test_commands_that_compile_nothing_are_commands():
    assert {*cli._COMPILE_NOTHING} <= {*cli.COMMANDS}


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: poolformer {command}")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("fitt", "there is no command 'fitt'. Did you mean 'fit'? Commands: fit, validate,"),
        ("modles", "there is no command 'modles'. Did you mean 'models'? Commands: fit, validate,"),
        ("new_plugin", "there is no command 'new_plugin'. Did you mean 'new-plugin'? Commands: fit, validate,"),
        ("--config", "which command? '--config' needs one of fit, validate,"),
        ("-V", "which command? '-V' needs one of fit, validate,"),
        ("xyz", "there is no command 'xyz'. Commands: fit, validate,"),
    ],
)
def test_unknown_command_is_one_line_with_the_nearest_and_all(call, asked, message):
    code, out, err = call(asked)
    assert (code, out) == (2, "")
    assert err.startswith(f"poolformer: error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "split"),
    [
        (["fit", "--config", "s12"], ("fit", ["--config", "s12"])),
        (["--config", "s12", "fit"], ("fit", ["--config", "s12"])),
        (["--config=s12", "fit", "--model.lr", "1"], ("fit", ["--config=s12", "--model.lr", "1"])),
        (
            ["--model.lr", "1", "validate", "--ckpt_path", "best"],
            ("validate", ["--model.lr", "1", "--ckpt_path", "best"]),
        ),
        (["mixers", "fit"], ("mixers", ["fit"])),
    ],
)
def test_command_may_stand_behind_its_options(arguments, split):
    assert cli._split_command(arguments) == split


def test_a_value_that_reads_like_a_command_is_none():
    assert cli._split_command(["--trainer.default_root_dir", "test", "fit"])[0] == "fit"


def test_error_of_a_loading_process_is_one_line_without_its_traceback():
    class_name = f"{DataError.__module__}.{DataError.__qualname__}"
    text = f"Caught DataError in DataLoader worker process 0.\nTraceback ...\n{class_name}: 'a.jpg' cannot be read"
    assert cli.one_line(DataError(text)) == "'a.jpg' cannot be read"
    assert cli.one_line(DataError(f"{text}:\nbad")) == "'a.jpg' cannot be read: bad"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("", "DataError('')"),
        ("'a.jpg': broken\n  at byte 3\n", "'a.jpg': broken at byte 3"),
        ("'a\udcff.jpg'\x1b[2J", "'a\\udcff.jpg'\\x1b[2J"),
    ],
)
def test_error_is_one_line(text, line):
    assert cli.one_line(DataError(text)) == line


def test_the_process_s_own_arguments_are_the_default(call, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["poolformer", "--version"])
    assert cli.main() == 0
    assert capsys.readouterr().out.startswith("poolformer ")


LISTINGS = [["--help"], ["--version"], ["mixers"], ["mixers", "--json"], ["configs"], ["fitt"], ["mixers", "poling"]]
ASK = """
import sys
import poolformer
from poolformer.cli import main
code = main(sys.argv[2:])
print(code, *sorted(set(sys.argv[1].split(",")) & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", LISTINGS, ids=" ".join)
def test_listings_and_mistakes_import_nothing_heavy(arguments):
    done = run(sys.executable, "-c", ASK, ",".join(HEAVY), *arguments)
    assert done.stderr.splitlines()[-1] in ("0", "2"), done.stderr


@pytest.mark.skipif(os.name != "posix", reason="of pipes as POSIX has them")
def test_a_reader_who_has_seen_enough_gets_no_traceback():
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run([*MODULE, "configs"], stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(os.name != "posix", reason="of signals as POSIX has them")
def test_sigterm_ends_a_command_as_an_exception_does(tmp_path, on_path, capsys):
    (tmp_path / "terminated.py").write_text(
        "import os, signal\n\ndef net(num_classes: int):\n    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    finally:\n        print('cleaned up')\n"
    )
    on_path(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["models", "terminated:net"]) == 143
    assert signal.getsignal(signal.SIGTERM) is before
    out, err = capsys.readouterr()
    assert out.endswith("cleaned up\n")
    assert err == "poolformer models: ended by SIGTERM\n"


@pytest.mark.parametrize(("left", "code"), [("0", 2), ("7", 7), ("'no licence'", 2)])
def test_an_exit_in_somebody_s_code_is_a_line_with_its_place(left, code, tmp_path, on_path, capsys, monkeypatch):
    (tmp_path / f"leaver_{code}.py").write_text(f"import sys\n\ndef leave():\n    sys.exit({left})\n")
    on_path(tmp_path)
    leaver = importlib.import_module(f"leaver_{code}")
    monkeypatch.setattr(leaver, "main", lambda argv: leaver.leave(), raising=False)
    monkeypatch.setitem(cli.COMMANDS, "mixers", ("leaver", ""))
    monkeypatch.setattr(cli.importlib, "import_module", lambda *_: leaver)
    assert cli.main(["mixers"]) == code
    place = tmp_path / f"leaver_{code}.py"
    assert capsys.readouterr().err == f"poolformer: error: it was ended by sys.exit({left}) in {place}, line 4\n"


def test_a_command_may_run_in_any_thread(capsys):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(cli.main(["configs"])))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("command", [[SCRIPT], MODULE], ids=["poolformer", "python -m poolformer"])
def test_both_ways_to_start_are_one_command(command, tmp_path):
    if not Path(command[0]).exists():
        pytest.skip("the console script is not installed beside this Python")
    done = run(*command, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: poolformer COMMAND")
    mistake = run(*command, "fitt", cwd=tmp_path)
    assert (mistake.returncode, mistake.stdout) == (2, "")
    assert mistake.stderr.startswith("poolformer: error: there is no command 'fitt'. Did you mean 'fit'?")


def test_ctrl_c_while_a_run_is_being_built_is_a_line(call, monkeypatch):
    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    assert call("fit") == (130, "", "poolformer: interrupted\n")


@pytest.mark.parametrize("arguments", ["fit --model.lrr 1", "fit --model.num_classes 3"])
@pytest.mark.slow
def test_a_mistake_ends_the_process_with_code_2_and_a_line(arguments, tmp_path):
    done = run(*MODULE, *arguments.split(), cwd=tmp_path, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 2, done.stderr
    mistake = [line for line in done.stderr.splitlines() if line.startswith("poolformer: error: ")]
    assert len(mistake) == 1
    assert "Traceback" not in done.stderr
    assert "usage:" not in done.stderr


def test_mistakes_on_the_command_line_are_at_most_three_lines_of_stderr(tmp_path):
    done = run(*MODULE, "mixers", "--jsn", cwd=tmp_path)
    assert done.returncode == 2
    assert "unrecognized arguments: --jsn" in done.stderr
    assert len(done.stderr.splitlines()) <= 3
