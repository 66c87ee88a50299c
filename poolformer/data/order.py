"""Which samples a process sees in which batch: a function of (seed, epoch), so that none is seen twice or missed."""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..draws import StepPart
from ..errors import DataError
from .pixels.keyed import shuffled

if TYPE_CHECKING:
    import lightning.pytorch as pl


class Order:
    """The batches of one process, by sample number; the base of our loaders, which make them.

    Lightning calls `set_epoch`, saves `state_dict` and restores it, so that a run resumes in mid-epoch with the sample
    after the last. In training that is a sample of all processes, so their number and the batch size may be others than
    before: each sample is then still seen once in the epoch, whose further batches are those that the rest makes.

    Args:
        samples: Number of samples.
        batch_size: Samples of this rank.
        shuffle: For training: the order is drawn from (seed, epoch), and every rank gets equally many whole batches
            of whole steps, the rest of the samples being left out this epoch. Otherwise samples come in their own
            order, each to exactly one rank. Ranks then differ by at most one sample but never in the number of their
            batches, since DDP waits for all of them at each: so a last batch may hold one sample more than batch_size.
        seed: Seed of the order.
        rank, world: which of how many processes this is.

    Attributes:
        repeats: Whether every epoch has the order of the first, as `overfit_batches` wants it: its few batches are
            then of the same samples every time.
        accumulated: Batches of a process that make a step, whose samples are dealt as `StepPart` says.

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
        self.accumulated = 1
        self._done = 0
        self._resume: tuple[int, int] | None = None
        self._origin = _Origin(-1, 0, 0)
        self._made: tuple[tuple[object, ...], np.ndarray] | None = None

    def follow(self, trainer: "pl.Trainer | None") -> None:
        """Take from a trainer what its steps are made of."""
        if trainer is not None:
            self.accumulated = trainer.accumulate_grad_batches
            # Set by Lightning and declared nowhere.
            self.repeats = trainer.overfit_batches > 0  # type: ignore[attr-defined]

    @property
    def sampler(self) -> "Order":
        """Itself: Lightning calls `loader.sampler.set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of iterations whose first batch is not made yet."""
        self.epoch = epoch

    def take_all(self) -> None:
        """Have every epoch be of all samples, each once and by number, as they are in that epoch of training."""
        self.shuffle = False

    def state_dict(self) -> dict[str, int]:
        """Return where the iteration is: its epoch, and what is handed out of it in batches and in samples of all."""
        origin = self._origin_of(self.epoch)
        samples = origin.samples + (self._done - origin.batch) * self._global_batch_size
        return {"epoch": self.epoch, "batch": self._done, "samples": samples}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume after `state`: the next iteration of that epoch leaves out what was already handed out."""
        self.epoch, self._done = state["epoch"], state["batch"]
        self._resume = (state["epoch"], state["batch"])
        # Of a run before samples were counted, the batch size and the number of processes have to be those of now.
        samples = state.get("samples", state["batch"] * self._global_batch_size)
        is_of_others = self.shuffle and samples != state["batch"] * self._global_batch_size
        self._origin = _Origin(state["epoch"], state["batch"], samples) if is_of_others else _Origin(-1, 0, 0)

    @property
    def _global_batch_size(self) -> int:
        """Samples in a batch of all processes."""
        return self.batch_size * self.world

    def _origin_of(self, epoch: int) -> "_Origin":
        return self._origin if self._origin.epoch == epoch else _Origin(epoch, 0, 0)

    def __len__(self) -> int:
        if not self.shuffle:
            return math.ceil(self.samples // self.world / self.batch_size)
        origin = self._origin_of(self.epoch)
        return origin.batch + self._whole_batches(self.samples - origin.samples)

    def _whole_batches(self, samples: int) -> int:
        """Return how many batches samples make: of whole steps, unless there is not even one."""
        batches = samples // self._global_batch_size
        return batches // self.accumulated * self.accumulated or batches

    @property
    def begins_another_epoch(self) -> bool:
        """Whether what was resumed is an epoch before this one, so that this one begins with its first batch."""
        return self._resume is not None and self._resume[0] != self.epoch

    def begin(self) -> int:
        """Start an iteration of the epoch and return its first batch; to be called when that is asked for."""
        first = 0
        if self._resume is not None:
            epoch, batch = self._resume
            if epoch == self.epoch and (batch < len(self) or epoch == self._origin.epoch):
                first = batch
            self._resume = None
        self._done = first
        return first

    def order(self, epoch: int) -> np.ndarray:
        """Return the samples of an epoch on this rank, in order; of a resumed one, those that were left.

        They are kept until others are asked for, and not to be written to.
        """
        drawn_of, origin = 0 if self.repeats else epoch, self._origin_of(epoch)
        what = (self.shuffle, self.accumulated, drawn_of, origin.samples)
        if self._made is None or self._made[0] != what:
            self._made = None  # there may be no room for both
            self._made = what, self._order(drawn_of, origin.samples)
            self._made[1].flags.writeable = False
        return self._made[1]

    def _order(self, epoch: int, first: int) -> np.ndarray:
        if not self.shuffle:
            kind = np.int32 if self.samples < 1 << 31 else np.int64
            return np.arange(self.rank, self.samples, self.world, dtype=kind)
        whole = self._whole_batches(self.samples - first) * self._global_batch_size
        return self._dealt(self.permutation(epoch)[first : first + whole])

    def permutation(self, epoch: int) -> np.ndarray:
        """Return the samples of a training epoch on all ranks, in order; each once."""
        return shuffled(self.samples, seed=self.seed, epoch=epoch)

    def _dealt(self, samples: np.ndarray) -> np.ndarray:
        """Return this rank's share of the samples of whole steps, or of a part of one."""
        batches = min(self.accumulated, len(samples) // self._global_batch_size) * self.world
        parts = [StepPart(self.batch_size, batch, batches).places for batch in range(self.rank, batches, self.world)]
        if not parts:
            return samples
        return samples.reshape(-1, batches * self.batch_size)[:, np.concatenate(parts)].ravel()

    def batch_indices(self, batch: int) -> list[int]:
        """Return the samples of a batch of this epoch, by number."""
        return self.batch_of(self.order(self.epoch), batch).tolist()

    def batch_of(self, order: np.ndarray, batch: int) -> np.ndarray:
        """Return the samples of a batch of this epoch, out of what `order` has returned, int64."""
        start = (batch - self._origin_of(self.epoch).batch) * self.batch_size
        samples = order[start:] if batch == len(self) - 1 else order[start : start + self.batch_size]
        return samples.astype(np.int64)


class _Origin(NamedTuple):
    """Where in an epoch batches of this size, by this number of processes, begin."""

    epoch: int
    batch: int
    samples: int
