"""TensorBoard's events, written so that a full disk ends a run in a line, or not at all."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from ..checkpoint.writing import system_error
from ..errors import RunError, describe
from ..files.atomic_write import replacing
from ..option_words import WhenSavingFails
from .files import EVENTS_SUFFIX
from .lightning_internals import reopen


class SafeTensorBoardLogger(TensorBoardLogger):
    """Lightning's logger, for a disk that may be full some day.

    TensorBoard writes in a thread of its own, which ends at the first error; every later call then raises that
    error again. Here a new file is begun instead, which TensorBoard shows as the same curves.

    Args:
        if_saving_fails: Whether training then ends or continues with a warning; what could not be written is lost
            from the curves.
        kwargs: What `TensorBoardLogger` takes.

    Raises:
        RunError: From any of its methods: nothing can be written, and training is to end then.
    """

    def __init__(self, *args: Any, if_saving_fails: WhenSavingFails = "stop", **kwargs: Any):
        super().__init__(*args, filename_suffix=EVENTS_SUFFIX, **kwargs)
        self._if_saving_fails = if_saving_fails
        self._fails = False
        _let_no_thread_print_what_its_caller_raises()

    @property
    def log_dir(self) -> str:
        """The directory of the events: as it was given, where Lightning would replace variables and ~ once more."""
        return os.path.join(self.root_dir, str(self.version))

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Log numbers by name at a step."""
        self._write(super().log_metrics, *args, **kwargs)

    def save(self) -> None:
        """Have everything on the disk."""
        if self._write(self._save):
            self._fails = False

    @rank_zero_only
    def _save(self) -> None:
        hyper_parameters = Path(self.log_dir, self.NAME_HPARAMS_FILE)
        if hyper_parameters.parent.is_dir() and not hyper_parameters.exists():
            with replacing(hyper_parameters) as unfinished:
                save_hparams_to_yaml(unfinished, self.hparams)
        super().save()  # which would write it in place

    def finalize(self, status: str) -> None:
        """Close the file."""
        self._write(super().finalize, status)

    def _write(self, method: Callable[..., None], *args: Any, **kwargs: Any) -> bool:
        try:
            method(*args, **kwargs)
            return True
        except (OSError, ValueError) as error:  # Lightning makes the second of the first
            cause = system_error(error)
            if cause is None:
                raise
            self._forget_the_writer()
            message = f"the log in '{self.log_dir}' cannot be written ({describe(cause)})"
            if self._if_saving_fails == "stop":
                raise RunError(message) from error
            if not self._fails:
                rank_zero_warn(f"{message}; what is missing in the curves is lost")
            self._fails = True
            return False

    def _forget_the_writer(self) -> None:
        reopen(self)  # its thread is dead
        for path in Path(self.log_dir).glob(f"events.out.tfevents.*.{os.getpid()}.*"):
            if path.stat().st_size == 0:
                path.unlink()


def _let_no_thread_print_what_its_caller_raises() -> None:
    print_it = threading.excepthook

    def leave_out(args: threading.ExceptHookArgs) -> None:
        of_tensorboard = type(args.thread).__module__.startswith("tensorboard.")
        if not (of_tensorboard and isinstance(args.exc_value, OSError)):
            print_it(args)

    if print_it.__module__ != __name__:
        threading.excepthook = leave_out
