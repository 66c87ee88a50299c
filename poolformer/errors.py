"""The mistakes a user can make, as exceptions.

At the terminal each of these is one line on stderr and exit code 2; any other exception is a bug of
ours and keeps its traceback.
"""

import difflib
import errno
import itertools
import os
import signal
from collections.abc import Iterator, Sequence


class PoolformerError(ValueError):
    """A mistake in what the user gave; the message says what was asked, what was found, what to do."""


class RegistryError(PoolformerError):
    """A token mixer, backbone or data module that is not available."""


class UnknownNameError(RegistryError):
    """No installed package offers this name."""


class AmbiguousNameError(RegistryError):
    """Two installed packages offer this name, so neither gets it."""


class BrokenPluginError(RegistryError):
    """The name is registered, but the package behind it does not keep the contract."""


class OptionsError(PoolformerError):
    """Options that a backbone, a mixer, a layer or a test of one does not take."""


class ResolutionError(PoolformerError):
    """Images of another size than the network was built for."""


class ConfigError(PoolformerError):
    """Options that contradict each other or the data."""


class DataError(PoolformerError):
    """Images, labels or folders that cannot be used."""


class CheckpointError(PoolformerError):
    """A checkpoint that is missing, damaged, or made for something else."""


class MisfitError(CheckpointError):
    """Weights of another network; the message names the first few tensors.

    Attributes:
        unexpected: All names that are only in the file, sorted; as the network would call them.
        missing: All names that are only in the network, sorted.
        other_shapes: All names of tensors that differ in shape, sorted.
    """

    def __init__(
        self,
        message: str,
        unexpected: Sequence[str] = (),
        missing: Sequence[str] = (),
        other_shapes: Sequence[str] = (),
    ):
        super().__init__(message)
        self.unexpected, self.missing, self.other_shapes = list(unexpected), list(missing), list(other_shapes)


class RunError(PoolformerError):
    """Training that cannot continue: its loss is not finite, or its checkpoints cannot be written."""


class NotFiniteError(RunError):
    """Training that has diverged: its loss or its state is not finite."""


LONGEST_MESSAGE = 1500
_OF_NO_FILE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def causes(error: BaseException | None, *, contexts: bool = False) -> Iterator[BaseException]:
    """Yield an error and what it came from, each once: one that was wrapped may be its own cause.

    Args:
        error: None yields nothing.
        contexts: Whether what was being handled when an error arose counts where it has no cause.
    """
    met: list[BaseException] = []
    while error is not None and not any(error is each for each in met):
        met.append(error)
        yield error
        error = error.__cause__ or (error.__context__ if contexts else None)


def is_end(error: BaseException) -> bool:
    """Return whether an exception is the end of this process, asked for by Ctrl-C or by a signal.

    A ``sys.exit`` in the code of a stranger, such as a mixer's, is none: it would end a command without a word.
    """
    by_signal = isinstance(error, SystemExit) and error.code in range(129, 128 + signal.NSIG)
    return by_signal or isinstance(error, KeyboardInterrupt)


def of_the_system(error: OSError) -> PoolformerError | None:
    """Return what the system refuses, with the file; None for an error of Python's or a library's own making."""
    if error.errno is None or not (error.filename or error.errno in _OF_NO_FILE):
        return None
    file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else error.filename
    return PoolformerError(f"'{file}': {error.strerror}" if file else f"{error.strerror}")


def of_memory(error: BaseException) -> PoolformerError | None:
    """Return that there is not memory enough, where an exception says so; None for any other."""
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "t allocate memory" in str(error)
    ):
        first = (str(error).strip().splitlines() or [""])[0][:200]
        return PoolformerError(f"out of memory: take smaller batches or images, or another device ({first})")
    return None


def of_ddp(error: BaseException) -> PoolformerError | None:
    """Return that DDP waits for a gradient that a step has not made, where an exception says so; None for any other."""
    if "find_unused_parameters" not in str(error):  # in PyTorch's words, and in Lightning's in their place
        return None
    return PoolformerError(
        "a step has left parameters without a gradient, which DDP waits for: "
        "--trainer.strategy ddp_find_unused_parameters_true looks for such ones at each step"
    )


def one_line(error: PoolformerError) -> str:
    """Return the whole message in one line, without the traceback that a loader's worker process wraps around it.

    What cannot be printed is escaped, and the middle of what is longer than a screen is left out: names and
    values in a message may come from a file of a stranger.
    """
    text = str(error)
    if text.startswith("Caught "):
        text = text.rpartition(f"\n{type(error).__module__}.{type(error).__qualname__}: ")[2]
    line = printable(" ".join(filter(None, map(str.strip, text.splitlines()))) or repr(error))
    half = LONGEST_MESSAGE // 2
    return line if len(line) <= LONGEST_MESSAGE else f"{line[:half]} ... {line[-half:]}"


def printable(text: str) -> str:
    """Return a text with what no terminal or encoding should be given escaped, such as a name that is not UTF-8."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines with what no terminal should be given escaped."""
    return "\n".join(map(printable, text.split("\n")))


def describe(error: BaseException) -> str:
    """Return an exception as one line: its type and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def suggestion(word: str, known: list[str]) -> str:
    """Return `` Did you mean ...?`` for the nearest known words, or nothing."""
    ratios = {name: difflib.SequenceMatcher(None, name, word).ratio() for name in known}
    # Of equally near ones that which begins alike: of poolformer_s13 s12, and not s36.
    near = sorted(ratios, key=lambda name: (ratios[name], _begins_alike(name, word), name), reverse=True)
    near = [name for name in near if ratios[name] >= 0.6][:2]
    near = near or sorted((name for name in known if name.endswith(f"_{word}")), key=len)[:1]  # s12, of a whole name
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def _begins_alike(one: str, other: str) -> int:
    """Return how many letters two words have in common before the first in which they differ."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
