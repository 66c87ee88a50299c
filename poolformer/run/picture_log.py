"""Pictures on their way into TensorBoard's file: drawn in a thread of their own, written by the thread that trains."""

import io
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image

from ..errors import describe
from .lightning_internals import reopen

Draw = Callable[[], Mapping[str, Image.Image]]
"""Draws pictures, by tag."""


class PictureLog:
    """Draws pictures beside the training and writes them; whatever goes wrong with them ends nothing.

    Attributes:
        spent_s: Seconds of computing that went into pictures.
    """

    def __init__(self) -> None:
        self.spent_s = 0.0
        self._thread: ThreadPoolExecutor | None = None
        self._drawn: Future[tuple[dict[str, tuple[bytes, tuple[int, int]]], float]] | None = None
        self._step = 0
        self._fails = False

    def draw(self, trainer: pl.Trainer, step: int, draw: Draw) -> None:
        """Have pictures drawn; `write` writes them when they are there.

        Args:
            trainer: Whose loggers get them.
            step: At which they are logged.
            draw: Called in another thread: it has to have all it needs on the host.
        """
        self.write(trainer, wait=True)
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._drawn, self._step = self._thread.submit(_encoded, draw), step

    def write(self, trainer: pl.Trainer, *, wait: bool = False) -> None:
        """Write what is drawn by now.

        Args:
            trainer: Whose loggers get it.
            wait: Whether to wait for what is still being drawn.
        """
        if self._drawn is None or not (wait or self._drawn.done()):
            return
        drawn, self._drawn = self._drawn, None
        try:
            pictures, seconds = drawn.result()
        except Exception as error:  # of a picture alone, whatever it is
            rank_zero_warn(f"pictures for TensorBoard could not be drawn ({describe(error)})")
            return
        begun_s = time.thread_time()
        for logger in boards(trainer):
            self._write(logger, pictures)
        self.spent_s += seconds + time.thread_time() - begun_s

    def close(self, trainer: pl.Trainer) -> None:
        """Write what is being drawn, and end the thread."""
        self.write(trainer, wait=True)
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _write(self, logger: TensorBoardLogger, pictures: Mapping[str, tuple[bytes, tuple[int, int]]]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        images = [
            Summary.Value(
                tag=tag, image=Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=3)
            )
            for tag, (png, (width, height)) in pictures.items()
        ]
        try:
            writer = logger.experiment.file_writer
            writer.add_summary(Summary(value=images), self._step)
            writer.flush()  # so that a full disk is met here, and not by the next number
            self._fails = False
        except (OSError, ValueError) as error:
            reopen(logger)  # its thread is dead
            if not self._fails:
                rank_zero_warn(
                    f"pictures cannot be written to '{logger.log_dir}' ({describe(error)}); training continues"
                )
            self._fails = True


def boards(trainer: pl.Trainer) -> list[TensorBoardLogger]:
    """Return the loggers of a trainer that write for TensorBoard."""
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _encoded(draw: Draw) -> tuple[dict[str, tuple[bytes, tuple[int, int]]], float]:
    begun_s = time.thread_time()
    found = {}
    for tag, picture in draw().items():
        content = io.BytesIO()
        picture.save(content, "PNG")
        found[tag] = (content.getvalue(), picture.size)
    return found, time.thread_time() - begun_s


def draws(trainer: pl.Trainer) -> bool:
    """Return whether this process has somewhere to write pictures to."""
    return trainer.is_global_zero and not trainer.fast_dev_run and bool(boards(trainer))


def normalises_itself(trainer: pl.Trainer) -> bool:
    """Return whether the data's images come normalised, in a way that nobody here knows."""
    from ..data.batches import NORMALISED

    module: Any = getattr(trainer, "datamodule", None)
    return getattr(module, NORMALISED, False) is True
