"""Which samples a process sees in which batch: a function of (seed, epoch), so that none is seen twice or missed."""

import math

import numpy as np

from ..errors import DataError
from .pixels.keyed import shuffled


class Order:
    """The batches of one process, by sample number; the base of our loaders, which make them.

    Lightning calls `set_epoch`, saves `state_dict` and restores it, so that a run is resumed in mid-epoch with the
    sample after the last.

    Args:
        samples: Number of samples.
        batch_size: Samples of this rank.
        shuffle: For training: the order is drawn from (seed, epoch), and every rank gets equally many whole batches,
            the rest of the samples being left out this epoch. Otherwise samples come in their own order, each to
            exactly one rank. Ranks then differ by at most one sample but never in the number of their batches, since
            DDP waits for all of them at each: so a last batch may hold one sample more than batch_size.
        seed: Seed of the order.
        rank, world: which of how many processes this is.

    Attributes:
        repeats: Whether every epoch has the order of the first, as `overfit_batches` wants it: its few batches are
            then of the same samples every time.

    Raises:
        DataError: There are fewer samples than processes, so that there would be no batch for all of them.
    """

    batch_sampler = None  # Lightning looks here before it calls sampler.set_epoch

    def __init__(
        self, samples: int, *, batch_size: int, shuffle: bool = False, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if samples < world:
            purpose = "train on" if shuffle else "evaluate"
            raise DataError(
                f"{samples} images to {purpose} for {world} devices: take fewer devices (--trainer.devices)"
            )
        self.samples, self.batch_size, self.shuffle, self.seed = samples, batch_size, shuffle, seed
        self.rank, self.world = rank, world
        self.epoch = 0
        self.repeats = False
        self._done = 0
        self._resume: tuple[int, int] | None = None

    @property
    def sampler(self) -> "Order":
        """Itself: Lightning calls `loader.sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of iterations whose first batch is not made yet."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """Return where the iteration is: {"epoch": ..., "batch": batches handed out}."""
        return {"epoch": self.epoch, "batch": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after `state`: the next iteration of that epoch leaves out the batches already handed out."""
        self.epoch, self._done = state["epoch"], state["batch"]
        self._resume = (state["epoch"], state["batch"])

    def __len__(self) -> int:
        everywhere = self.samples // self.world
        return everywhere // self.batch_size if self.shuffle else math.ceil(everywhere / self.batch_size)

    def begin(self) -> int:
        """Start an iteration of the epoch and return its first batch; to be called when that is asked for."""
        first = 0
        if self._resume is not None:
            if self._resume[0] == self.epoch and self._resume[1] < len(self):
                first = self._resume[1]
            self._resume = None
        self._done = first
        return first

    def order(self, epoch: int) -> np.ndarray:
        """Return the samples of an epoch on this rank, in order, int64."""
        if not self.shuffle:
            return np.arange(self.rank, self.samples, self.world)
        share = len(self) * self.batch_size
        order = shuffled(self.samples, seed=self.seed, epoch=0 if self.repeats else epoch)
        return order[self.rank : share * self.world : self.world]

    def batch_indices(self, batch: int) -> list[int]:
        """Return the samples of a batch of this epoch, by number."""
        return self.batch_of(self.order(self.epoch), batch).tolist()

    def batch_of(self, order: np.ndarray, batch: int) -> np.ndarray:
        """Return the samples of a batch out of those of an epoch."""
        start = batch * self.batch_size
        return order[start:] if batch == len(self) - 1 else order[start : start + self.batch_size]
