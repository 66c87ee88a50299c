"""What Lightning refuses, told as a mistake in the options; anything else that is raised keeps its traceback."""

import linecache
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ..errors import ConfigError, PoolformerError

_TYPES = (ValueError, TypeError, RuntimeError, ImportError)
_HOMES = ("lightning.", "lightning_utilities.")


@contextmanager
def told(options: Collection[str], *, checkpoint: Path | None = None) -> Iterator[None]:
    """Have what Lightning refuses in here come out as a mistake in the options.

    Args:
        options: Names of the trainer's options.
        checkpoint: What is resumed.

    Raises:
        PoolformerError: The mistake.
    """
    try:
        yield
    except Exception as error:
        if checkpoint and (done := re.search(r"checkpoint with current_epoch=(\d+)", str(error))):
            number = int(done[1]) + 1  # Lightning counts from 0
            raise ConfigError(f"'{checkpoint}' is in epoch {number} already: raise --trainer.max_epochs") from error
        if refused := refusal(error, options):
            raise refused from error
        raise


def refusal(error: Exception, options: Collection[str]) -> PoolformerError | None:
    """Return the mistake that Lightning found in what it was given, None if that is not what the exception says.

    Args:
        error: What was raised.
        options: Names of the trainer's options, to say which is meant.
    """
    if isinstance(error, PoolformerError):
        return None
    if not isinstance(error, MisconfigurationException) and not (isinstance(error, _TYPES) and _said(error)):
        return None
    message = " ".join(str(error).split())
    option = _option(message, options)
    return ConfigError(f"--trainer.{option}: {message}" if option else message)


def _said(error: Exception) -> bool:
    """Whether a statement of Lightning's raised it, and not something that it called or got wrong."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    frame = trace.tb_frame
    line = linecache.getline(frame.f_code.co_filename, trace.tb_lineno).strip()
    return frame.f_globals.get("__name__", "").startswith(_HOMES) and line.startswith("raise ")


def _option(message: str, options: Collection[str]) -> str | None:
    """Return the option that a message is of: as it stands in code first, then as a word that is not English."""
    for pattern in (r"\b{0}=|`{0}`", r"\b{0}\b"):
        found = {name: re.search(pattern.format(name), message) for name in options}
        places = {name: match.start() for name, match in found.items() if match}
        if pattern == r"\b{0}\b":
            places = {name: place for name, place in places.items() if "_" in name}
        if places:
            return min(places, key=places.__getitem__)
    return None
