"""What keeps ffcv from changing the process that uses it, and from failing without a word."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb

import numba
import torch

from poolformer.errors import DataError, PoolformerError, describe

_LIBRARY = re.compile(r"[/\\](site-packages|dist-packages|python3\.\d+)[/\\]")


@contextmanager
def threads_kept() -> Iterator[None]:
    """Leave the numbers of threads as they are, which ffcv sets for the whole process when imported and when used."""
    of_torch, of_numba = torch.get_num_threads(), numba.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(of_torch)
        numba.set_num_threads(of_numba)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Have an exception of ffcv's, or of an operation, come out as a `DataError` that begins with `what`."""
    try:
        yield
    except PoolformerError:
        raise
    except Exception as error:
        raise DataError(f"{what}: {reason(error)}") from error


def reason(error: BaseException) -> str:
    """Return what an exception says in a line, and where in the user's files it was raised.

    numba's begin with a line that is the same for all, and end with where in the code it is.
    """
    said = describe(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Failed in nopython mode"):
        said = f"{type(error).__name__}: {lines[1]}"
    frames = [frame for frame in extract_tb(error.__traceback__) if _is_of_the_user(Path(frame.filename))]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{said}{place}"


def _is_of_the_user(file: Path) -> bool:
    ours = file.is_relative_to(Path(__file__).parent)
    return file.is_file() and not ours and not _LIBRARY.search(str(file))
