"""What a run logs beside losses, accuracy and speed, and how each of it is left out: ``--log_without``."""

from lightning.pytorch.callbacks import Callback

from ..option_words import LogParts
from .other_weights import WeightsBesideAverages
from .pictures import PICTURES, FirstBatch, ValidationPictures
from .training_values import VALUES, TrainingValues


def log_callbacks(without: LogParts = None) -> list[Callback]:
    """Return the callbacks that log what is not left out.

    Args:
        without: A part, several, or ``all``; None for nothing.

    Example:
        >>> [type(each).__name__ for each in log_callbacks(["first_batch", "averages", "norms", "waiting", "memory"])]
        ['ValidationPictures']
    """
    if without == "all":
        return []
    left_out = {without} if isinstance(without, str) else set(without or ())
    found: list[Callback] = []
    if "first_batch" not in left_out:
        found.append(FirstBatch())
    if not left_out.issuperset(PICTURES):
        found.append(ValidationPictures([each for each in PICTURES if each in left_out]))
    if "averages" not in left_out:
        found.append(WeightsBesideAverages())
    if not left_out.issuperset(VALUES):
        found.append(TrainingValues([each for each in VALUES if each in left_out]))
    return found
