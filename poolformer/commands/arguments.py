"""Arguments that several commands share, and how their mistakes are said."""

import argparse
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ..errors import ConfigError, suggestion
from ..files.paths import is_url, local, without_scheme
from .help_text import narrowed, wrapped


class CommandParser(argparse.ArgumentParser):
    """argparse's, which says a mistake in a line, without the usage before it; help is as wide as the terminal."""

    def format_help(self) -> str:
        """Return the help, with its texts wrapped as `wrapped` does."""
        width = shutil.get_terminal_size().columns - 2
        for text in ("description", "epilog"):
            if self.formatter_class is argparse.RawDescriptionHelpFormatter and getattr(self, text):
                setattr(self, text, wrapped(getattr(self, text), width=width))
        usage, *rest = super().format_help().split("\n\n")
        return "\n\n".join([narrowed(usage, width=width), *rest])

    def error(self, message: str) -> NoReturn:
        """Leave with code 2 and what is wrong."""
        near = self.near(message.removeprefix("unrecognized arguments: ").partition(" ")[0])
        self.exit(2, f"{self.prog}: error: {message}{f'.{near}' if near else ''}\n")

    def near(self, word: str) -> str:
        """Return which option a word may be meant for, as `poolformer.errors.suggestion` says it."""
        known = [option for action in self._actions for option in action.option_strings]
        option = word.partition("=")[0].replace("-", "_").replace("__", "--", 1)
        return suggestion(option, known) if word.startswith("--") else ""


def number(
    kind: Callable[[str], float], words: str, *, least: float, most: float = math.inf, above: bool = False
) -> Callable[[str], float]:
    """Return a type of argparse's: numbers in a range.

    Args:
        kind: ``int`` or ``float``.
        words: What they are, for messages.
        least: The smallest; with ``above`` they are larger than it.
        most: The largest.
        above: Whether ``least`` is left out.
    """

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and (least < value if above else least <= value) and value <= most:
            return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {words}")

    return parse


def local_path(text: str) -> str:
    """Read a path, with ``~`` written out; a type of argparse's."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty: give one")
    try:
        return local(text, "the path")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def local_folder(text: str) -> Path:
    """Read a folder as `local_path` does."""
    return Path(local_path(text))


def checkpoint_path(text: str) -> str:
    """Read the path or the URL of a checkpoint."""
    return text if is_url(text) else local_path(without_scheme(text))


def split_flags(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return a command's own arguments, and those behind '--' that go to every fit."""
    end = argv.index("--") if "--" in argv else len(argv)
    return argv[:end], argv[end + 1 :]


threads = number(int, "an integer from 0 up", least=0)
side = number(int, "pixels from 1 to 16384", least=1, most=16384)
above_0 = number(float, "a number above 0", least=0, above=True)
share = number(float, "a number above 0, at most 1", least=0, most=1, above=True)


_CHECKPOINT = (
    "a checkpoint of a run, or its URL; or published weights: a file, timm/<model>, hf-hub:user/repo, or the name of a "
    "backbone, to download them"
)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint of a run or published weights, and what these may import or are of."""
    parser.add_argument("checkpoint", metavar="CKPT", type=checkpoint_path, help=_CHECKPOINT)
    parser.add_argument(
        "--trust",
        metavar="MODULE:NAME",
        action="append",
        default=[],
        help="mixer outside the registry that CKPT may import",
    )
    parser.add_argument(
        "--backbone", metavar="NAME", help="what CKPT is of, for published weights whose name does not say it"
    )
