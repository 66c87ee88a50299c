"""The command line: finds out what is asked for, then imports what that needs.

Nothing heavy is imported here, so that help, listings and mistakes are answered at once.
"""

import difflib
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import AbstractContextManager
from types import FrameType

from .. import __version__, first_word
from ..configs import config_names
from ..errors import ConfigError, PoolformerError, is_end, of_ddp, of_memory, of_the_system, one_line, suggestion
from ..files import caches
from ..signals import handling
from . import field_words
from .option_texts import VERBS
from .streams import careful_streams

_ENDING = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
_STUCK_S = 3
_RESUMED = ("ablate", "judge", "teach", "validate-published")  # by the same command
_MAY_EXIT = ("poolformer", "argparse", "jsonargparse", "lightning")
_COMPILE_NOTHING = ("mixers", "data", "configs", "new-plugin", "doctor", "completion", "schema")

# Name: its module, and what `poolformer --help` says.
COMMANDS = {
    "models": ("commands.models", "List the backbones: parameters, MACs, papers' accuracy."),
    "mixers": ("commands.mixers", "List the token mixers and the packages they come from."),
    "data": ("commands.data", "List the data modules and the packages they come from."),
    "configs": ("commands.configs", "List the configurations that --config finds by name."),
    "pack": ("commands.pack", "Pack class folders of images into one .beton file."),
    "verify": ("commands.verify", "Check every image of a .beton file."),
    "bench": ("bench.command", "Measure this beside other packages: data, model, train."),
    "ablate": ("ablation.command", "Train rows of the paper's ablation: a table, figures."),
    "judge": ("judging.command", "Judge a mixer beside others on one page: is it any good?"),
    "plot": ("commands.plot", "Draw learning curves of runs, with their seeds' spread."),
    "teach": ("teaching.command", "Store what a trained network says, for fit to learn from."),
    "validate-published": ("bench.published", "Measure published weights beside the papers' numbers."),
    "export": ("commands.export", "Write a trained network as ONNX, .pt2 or safetensors."),
    "cam": ("commands.cam", "Show where a trained network looks in images: Grad-CAM."),
    "new-plugin": ("commands.new_plugin", "Write a package with a token mixer of your own."),
    "doctor": ("doctor.command", "Say what a run lacks here, and how to mend it."),
    "completion": ("completion.command", "Have a shell complete commands, options and names."),
    "schema": ("completion.schema", "Print the JSON schema of configurations, for editors."),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 for a mistake in what was asked.

    Args:
        argv: Arguments without the program's name; those of the process if None, which then ends with the command.

    Raises:
        SystemExit: Argparse ends the command; a run that is stopped leaves in this way too.
    """
    if argv is not None:
        return _run(list(argv))
    try:
        code = _run(sys.argv[1:])
    except SystemExit as left:
        _end_despite_stuck_threads(left.code)
        raise
    _end_despite_stuck_threads(code)
    return code


def _run(argv: list[str]) -> int:
    training = bool(argv) and (argv[0] in VERBS or argv[0].startswith("-"))
    with careful_streams(escape=not training, ends=not training) as out:
        try:
            code = _answered(argv)
        except SystemExit as left:
            out.flush_last()
            if out.error is not None and not left.code:
                raise SystemExit(_of_stdout(out.error)) from left
            raise
        out.flush_last()
        return code if out.error is None or code else _of_stdout(out.error)


def _of_stdout(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):  # poolformer configs | head
        return 141  # what a shell makes of SIGPIPE
    return _say(PoolformerError(f"what this prints cannot be written: {error.strerror}"), error)


def _answered(argv: list[str]) -> int:
    try:
        return _dispatch(argv)
    except KeyboardInterrupt:  # of the trainer's verbs, only before they listen to signals themselves
        print("poolformer: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError as error:
        return 0 if getattr(sys.stdout, "error", None) is error else _say(of_the_system(error), error)
    except SystemExit as left:
        if (place := _exit_of_a_stranger(left)) is None:
            raise
        said = f"it was ended by sys.exit({left.code!r:.80}) in {place}"
        code = left.code if isinstance(left.code, int) and left.code else 2
        return _say(PoolformerError(said), left) and code
    except PoolformerError as error:
        return _say(error, error)
    except OSError as error:  # wherever a file cannot be written or read; anything else is a bug of ours
        return _say(of_the_system(error), error)
    except ModuleNotFoundError as error:
        from ..requirements import of_missing

        return _say(of_missing(error), error)
    except (MemoryError, RuntimeError) as error:
        return _say(of_memory(error) or of_ddp(error), error)


def _say(mistake: PoolformerError | None, error: BaseException) -> int:
    if mistake is None:
        raise error
    print(f"poolformer: error: {one_line(mistake)}", file=sys.stderr)
    return 2


def _exit_of_a_stranger(left: SystemExit) -> str | None:
    """Return the line that has ended this process, where it is neither ours nor of a library that we leave to end it.

    A mixer, a callback or data of somebody's own that call ``sys.exit`` would end a command without a word.
    """
    walked = traceback.walk_tb(left.__traceback__)
    frames = [each for each in walked if each[0].f_globals.get("__name__") != "_sitebuiltins"]  # of the built-in exit()
    frame, line = frames[-1] if frames else (None, 0)
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0] if frame else "poolformer"
    return None if is_end(left) or package in _MAY_EXIT or frame is None else f"{frame.f_code.co_filename}, line {line}"


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        print(f"poolformer {__version__}")
        return 0
    command, arguments = _split_command(argv)
    if command in COMMANDS:
        from .quiet import short_warnings

        with _cleaning_up_on_signals(), short_warnings():
            if command not in _COMPILE_NOTHING:
                caches.prepare()
            try:
                return importlib.import_module(f"..{COMMANDS[command][0]}", __package__).main(arguments)
            except (KeyboardInterrupt, _EndedBySignal) as end:
                return _say_end(command, end)

    from . import early, predicted_words
    from .quiet import short_warnings

    if command == "predict":
        arguments = predicted_words.as_options(arguments)
    early.refuse(command, arguments)
    if not early.wants_no_run(arguments):
        first_word.say(" ".join([command, *early.configs_of(arguments)]), "PyTorch and Lightning", "lightning")
    with short_warnings():
        caches.prepare()
    from .training import run  # Lightning: 5 s

    run(command, arguments)
    return 0


def _end_despite_stuck_threads(code: object) -> None:
    """Let no thread that hangs in a disk keep the process: Python joins those of pools before it ends."""
    if isinstance(code, int) and threading.active_count() > 1:
        threading.Thread(target=_end_if_stuck, args=(code,), daemon=True).start()


def _end_if_stuck(code: int) -> None:
    time.sleep(_STUCK_S)
    # After a signal also the threads of somebody's own data.
    names = ("poolformer-data", "ThreadPoolExecutor") if code > 128 else ("poolformer-data",)
    if any(thread.name.startswith(names) for thread in threading.enumerate()):
        os._exit(code)


def _cleaning_up_on_signals() -> AbstractContextManager[None]:
    """Have a signal end a command as an exception does, so that it leaves no half-written file and no process.

    Not for the verbs of the trainer: `stopping` has them end between two batches.
    """
    return handling({getattr(signal, name): _leave for name in _ENDING if hasattr(signal, name)})


class _EndedBySignal(SystemExit):
    def __init__(self, number: int):
        super().__init__(128 + number)
        self.number = number


def _leave(signum: int, frame: FrameType | None) -> None:
    raise _EndedBySignal(signum)


def _say_end(command: str, end: KeyboardInterrupt | _EndedBySignal) -> int:
    if isinstance(end, _EndedBySignal):
        number, how = end.number, f"ended by {signal.Signals(end.number).name}"
    else:
        number, how = signal.SIGINT, "interrupted"
        if sys.stderr.isatty():
            print(file=sys.stderr)  # it stands behind ^C
    print(f"poolformer {command}: {how}{'; the same command resumes it' * (command in _RESUMED)}", file=sys.stderr)
    return 128 + number


def _split_command(argv: list[str]) -> tuple[str, list[str]]:
    """Find the command, also behind options: ``poolformer --config s12 fit``."""
    known = [*VERBS, *COMMANDS]
    if argv[0].startswith("-"):
        # A word behind an option is that option's value, also where it reads like a command.
        values = {index + 1 for index, word in enumerate(argv) if word.startswith("-") and "=" not in word}
        position = next((index for index, word in enumerate(argv) if word in VERBS and index not in values), None)
        if position is None:
            raise ConfigError(f"which command? {argv[0]!r} needs one of {', '.join(known)} before it")
        return argv[position], argv[:position] + argv[position + 1 :]
    if argv[0] not in known:
        raise ConfigError(f"there is no command {argv[0]!r}.{_meant(argv[0], known)} Commands: {', '.join(known)}.")
    return argv[0], argv[1:]


def _meant(word: str, known: list[str]) -> str:
    if habit := field_words.COMMANDS.get(word.lower()):
        return f" Did you mean {habit!r}?"
    if word in config_names():
        return f" Did you mean 'fit --config {word}'?"
    if nearest := suggestion(word, known):
        return nearest
    habits = difflib.get_close_matches(word.lower(), field_words.COMMANDS, n=1)
    return f" Did you mean {field_words.COMMANDS[habits[0]]!r}?" if habits else ""


def _help() -> str:
    rows = {**VERBS, **{name: text for name, (_, text) in COMMANDS.items()}}
    width = max(map(len, rows))
    listing = "\n".join(f"  {name:{width}}  {text}" for name, text in rows.items())
    # Without blank lines and without a last one, as all of it is to fit a terminal of 24.
    return (
        "usage: poolformer COMMAND [options]    (COMMAND --help lists the options)\n"
        f"MetaFormer backbones with any token mixer, by PyTorch Lightning. Commands:\n{listing}"
    )
