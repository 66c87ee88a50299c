"""The numbers in TensorBoard's files of a run, read in one pass.

TensorBoard's own reader sums every byte up in Python, those of images too, which takes seconds for a run.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError

EVENTS = "events.out.tfevents.*"
"""The names of TensorBoard's files."""
_HEAD = struct.Struct("<Q4x")  # of a record: its length, and a sum of that; another one stands behind it
_SUM_BYTES = 4


def event_files(directory: Path) -> list[Path]:
    """Return the files of events in a directory, the oldest first, as their names begin with their time."""
    return sorted(path for path in directory.glob(EVENTS) if path.is_file())


def scalars(directory: Path) -> dict[str, dict[int, float]]:
    """Return what a run has logged: by tag the values by step, in the order of the steps.

    Of a step that was done twice, after a stop, it is the last value. A file that ends in the middle of a record, as of
    a run that is still writing, is read up to there.

    Raises:
        DataError: A file is none of events, or the package tensorboard is missing.
    """
    found: dict[str, dict[int, float]] = {}
    for file in event_files(directory):
        for event in _events(file):
            for value in event.summary.value:
                if (number := _number(value)) is not None:
                    found.setdefault(value.tag, {})[event.step] = number
    return {tag: dict(sorted(values.items())) for tag, values in found.items()}


def _events(file: Path) -> Iterator[Any]:
    try:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from tensorboard.compat.proto import event_pb2  # type: ignore[import-untyped]
    except ImportError as error:
        raise DataError(
            f"the curves of runs are read with another package: pip install tensorboard ({error})"
        ) from error

    for record in _records(file):
        try:
            yield event_pb2.Event.FromString(record)
        except DecodeError as error:
            raise DataError(f"'{file}' cannot be read: it is damaged, or no file of TensorBoard's") from error


def _records(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        size = file.stat().st_size
        while len(head := opened.read(_HEAD.size)) == _HEAD.size:
            (length,) = _HEAD.unpack(head)
            if length + _SUM_BYTES > size - opened.tell():
                return
            yield opened.read(length)
            opened.seek(_SUM_BYTES, 1)


def _number(value: Any) -> float | None:
    """Return a summary's number, written as SummaryWriter does by default or as it does with ``new_style``."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if value.metadata.plugin_data.plugin_name == "scalars" and value.tensor.float_val:
        return float(value.tensor.float_val[0])
    return None
