"""What Lightning says that is no news to the person at the terminal, and how it is silenced."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import printable_lines
from ..files.shown import shown


class _NoAdvertising(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "Tip:" not in record.getMessage()


class _NoEscapes(logging.Filter):
    """Names in a message may come from a stranger's file, and a terminal does what their escapes say."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable_lines(shown(record.getMessage())), ()
        return True


_no_advertising, _no_escapes = _NoAdvertising(), _NoEscapes()


def _in_a_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {printable_lines(str(message))}\n"


@contextmanager
def short_warnings() -> Iterator[None]:
    """Show warnings without the line of code that gave them."""
    before, warnings.formatwarning = warnings.formatwarning, _in_a_line
    try:
        yield
    finally:
        warnings.formatwarning = before


def quieten() -> None:
    """Silence what Lightning says that is no news to the person at the terminal."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_no_advertising)
    handlers = [each for name in ("", "lightning", "lightning.pytorch") for each in logging.getLogger(name).handlers]
    for handler in (*handlers, logging.lastResort):
        if handler is not None:
            handler.addFilter(_no_escapes)
    warnings.formatwarning = _in_a_line
    for message in (
        r".*isinstance\(treespec, LeafSpec\).*",  # lightning 2.6 with torch >= 2.10
        r".*You have overridden `on_after_batch_transfer`.*",  # on purpose: the model normalises
        r"Checkpoint directory .* exists and is not empty",  # it does when a run is resumed
        r"Be aware that when using `ckpt_path`, callbacks used to create",  # evaluation keeps no checkpoints
        r"The dirpath has changed from",
        r".*does not have many workers.*",  # the digits load fastest in the training process
        r"You requested to overfit but enabled",  # our loaders repeat the first epoch's batches then
        r"Couldn't infer the batch indices",  # our loader tells them itself
    ):
        warnings.filterwarnings("ignore", message)
