"""What a command says: to a terminal, a full disk or nobody, in any encoding, without a stranger's escapes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ..errors import printable_lines
from ..files.shown import shown

_STANDARD = (0, 1, 2)


class Stream:
    """Text that goes to a standard stream; what cannot be written there is dropped, and remembered.

    A command's work is worth more than what it says of it, and a run's much more.

    Args:
        stream: The stream itself; None where it is closed.
        escape: Whether names in what is written may hold no escapes. Progress bars are made of escapes.
        ends: Whether a reader who has gone away ends the command: BrokenPipeError.

    Attributes:
        error: What the system refused first.
    """

    def __init__(self, stream: TextIO | None, *, escape: bool, ends: bool):
        self.stream, self.escape, self.ends = stream, escape, ends
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write what can be written of a text."""
        said = shown(text)
        said = printable_lines(said) if self.escape else said
        self._try(lambda stream: stream.write(_encodable(said, stream)))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts one after another."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand everything to the system."""
        self._try(lambda stream: stream.flush())

    def flush_last(self) -> None:
        """Hand everything to the system when the command has ended, which nobody who leaves ends any more."""
        self.ends = False
        self.flush()

    def _try(self, act: Any) -> None:
        if self.stream is None or self.error is not None:
            return
        try:
            act(self.stream)
        except OSError as error:
            self.error = error
            _drop(self.stream)
            if self.ends and isinstance(error, BrokenPipeError):
                raise
        except ValueError:  # somebody has closed it
            if not self.stream.closed:
                raise

    def __getattr__(self, name: str) -> Any:
        if self.stream is None:
            if name in ("encoding", "errors"):
                return {"encoding": "utf-8", "errors": "backslashreplace"}[name]
            if name == "isatty":
                return lambda: False
            raise AttributeError(name)
        return getattr(self.stream, name)


@contextmanager
def careful_streams(*, escape: bool, ends: bool) -> Iterator[Stream]:
    """Have everything that is printed pass through `Stream`; yield the one of stdout."""
    _open_standard_files()
    before = sys.stdout, sys.stderr
    out = Stream(before[0], escape=escape, ends=ends)
    sys.stdout, sys.stderr = out, Stream(before[1], escape=escape, ends=False)
    try:
        yield out
    finally:
        out.flush_last()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def _open_standard_files() -> None:
    """Open what was closed before the start: the next file, such as a checkpoint, would get what is printed."""
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number, which is this


def _drop(stream: TextIO) -> None:
    """Have a stream lead nowhere: Python writes what is left in it once more when it ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
    except (OSError, ValueError):  # a stream without a file, or closed
        pass


def _encodable(text: str, stream: TextIO) -> str:
    """Return a text with what the encoding of a stream lacks escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
