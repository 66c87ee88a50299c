"""Whether reading a pickle would end: a key made of tuples within tuples is hashed as often as they stand in it.

Thirty tuples of twice the tuple before make a billion steps inside Python's own code, which nothing can interrupt. So
the opcodes are followed before PyTorch reads them, on numbers in place of values.
"""

import pickletools
import zipfile
from pathlib import Path
from typing import IO

from ..errors import CheckpointError

_FREE_VALUES, _REPEATS = 1_000_000, 10  # a tuple may stand for as much as its file holds, however much that is
_PICKLES = 5  # of a file of torch's older format: its magic number, version, system, content and keys
_JOINED = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_POPPED = {"APPEND": 1, "SETITEM": 2, "BUILD": 1, "POP": 1}
_POPPED_TO_MARK = ("APPENDS", "SETITEMS", "ADDITEMS", "POP_MARK")
_PUT, _GET = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
_NOTHING = ("PROTO", "FRAME", "STOP")


def check_keys(path: Path) -> None:
    """Refuse a file of torch.save whose keys could not be hashed in any time.

    Raises:
        CheckpointError: It holds such a key, or a tuple that would be one.
        OSError: It cannot be read.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.peek(1)[:1] == b"\x80":
                for _ in range(_PICKLES):
                    _check(file)
        return
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if part.filename.endswith("data.pkl"):
                # Not compared here: `checkpoint.archive` does, where the file has any. typeshed knows no CRC of None.
                part.CRC = None  # type: ignore[assignment]
                with archive.open(part) as file:
                    _check(file)


def _check(file: IO[bytes]) -> None:
    try:
        bounded = _tuples_are_bounded(file)
    except (ValueError, IndexError, KeyError, UnicodeError):  # no pickle: PyTorch says what is wrong with it
        return
    if not bounded:
        raise CheckpointError("its tuples stand for too many values")


def _tuples_are_bounded(file: IO[bytes]) -> bool:
    """Return whether no tuple of a pickle stands for far more values than were read; what is no tuple counts as one."""
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[object, int] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        name = opcode.name
        if name == "MARK":
            marks.append(len(stack))
        elif name in _JOINED:
            stack[-_JOINED[name] :] = [1 + sum(stack[-_JOINED[name] :])]
        elif name in ("TUPLE", "LIST", "DICT", "FROZENSET"):
            mark = marks.pop()
            stack[mark:] = [1 + sum(stack[mark:]) if name in ("TUPLE", "FROZENSET") else 1]
        elif name in _POPPED:
            del stack[-_POPPED[name] :]
        elif name in _POPPED_TO_MARK:
            del stack[marks.pop() :]
        elif name in _PUT:
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in _GET:
            stack.append(memo[argument])
        elif name in ("REDUCE", "NEWOBJ"):  # a torch.Size of a tuple, and the like
            stack[-2:] = [stack[-1]]
        elif name == "STACK_GLOBAL":
            stack[-2:] = [1]
        elif name == "BINPERSID":
            stack[-1] = 1
        elif name not in _NOTHING:
            stack.append(1)
        if stack and stack[-1] > _FREE_VALUES + _REPEATS * count:
            return False
    return True
