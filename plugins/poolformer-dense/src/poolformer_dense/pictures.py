"""Where and how pictures of an evaluation are drawn."""

from collections.abc import Sequence

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor


def boards(module: pl.LightningModule) -> list[TensorBoardLogger]:
    """Return the loggers that take pictures; none but in the first process."""
    if not module.trainer.is_global_zero:
        return []
    return [logger for logger in module.loggers if isinstance(logger, TensorBoardLogger)]


def side_by_side(pictures: Sequence[Tensor]) -> Tensor:
    """Return pictures (..., H, W) of any heights and widths as one, black below those that are less high."""
    height = max(picture.shape[-2] for picture in pictures)
    return torch.cat([F.pad(picture, (0, 0, 0, height - picture.shape[-2])) for picture in pictures], dim=-1)
