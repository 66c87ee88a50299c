"""The seed of a data module: the run's own, unless it was given another."""

import os
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.data import AttributeDict

from .copies import SideStream


class SeededDataModule(pl.LightningDataModule):
    """A data module whose draws follow one seed, which a run keeps when it is resumed.

    Args:
        seed: Seed of the draws; None for that of ``seed_everything``, 0 where that was not called.

    Attributes:
        seed: The number that the draws follow.
    """

    hparams: AttributeDict

    def __init__(self, seed: int | None):
        super().__init__()
        self._follows_the_run = seed is None
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self._copies = SideStream()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch, on a GPU beside what it computes."""
        return self._copies(super().transfer_batch_to_device, batch, device, dataloader_idx)

    def state_dict(self) -> dict[str, int]:
        """Return {"seed": ...}, for a run that is resumed in a process of another seed."""
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Keep the seed of the run, unless another was asked for."""
        if self._follows_the_run:
            self.seed = state_dict["seed"]
