"""Whether one of several processes wants to stop: asked after each step, answered after the next one."""

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_warn

from ..errors import describe


class Votes:
    """A vote of all processes a step that none of them waits for, whatever runs on their devices.

    It goes over the host's network, in a gloo group of its own, while the next step runs. All processes have to call
    it equally often; they get the same answers. One process alone needs none.
    """

    def __init__(self) -> None:
        self._group: Any = None
        self._has_tried = False
        self._pending: tuple[Any, np.ndarray] | None = None

    def call(self, trainer: pl.Trainer, vote: bool) -> bool:
        """Vote, and return whether a process had voted for it in the call before.

        Args:
            trainer: Of this process.
            vote: Whether this one does.
        """
        if not self._can_vote(trainer):
            return trainer.strategy.reduce_boolean_decision(vote, all=False)
        before, self._pending = self._pending, self._begin(vote)
        return before is not None and _result(*before)

    def call_and_wait(self, trainer: pl.Trainer, vote: bool) -> bool:
        """Vote, wait for the others, and return whether one has voted for it, now or in the call before."""
        if not self._can_vote(trainer):
            return trainer.strategy.reduce_boolean_decision(vote, all=False)
        before, self._pending = self._pending, None
        votes = [*([before] if before else []), self._begin(vote)]
        return sum(_result(*each) for each in votes) > 0  # all of them: none is left behind

    def _can_vote(self, trainer: pl.Trainer) -> bool:
        if not self._has_tried:
            self._has_tried = True
            self._group = _side_group(trainer)
        return self._group is not None

    def _begin(self, vote: bool) -> tuple[Any, np.ndarray]:
        ballot = np.array([vote], np.uint8)  # which the tensor shares: to read it asks nothing of PyTorch
        return dist.all_reduce(torch.from_numpy(ballot), dist.ReduceOp.MAX, self._group, async_op=True), ballot


def _result(work: Any, ballot: np.ndarray) -> bool:
    work.wait()
    return bool(ballot[0])


def _side_group(trainer: pl.Trainer) -> Any:
    """Return a group of all processes on their hosts; None where not every one of them can have it."""
    if not (dist.is_available() and dist.is_initialized()):
        return None
    group, cause = None, ""
    try:
        group = dist.new_group(backend="gloo")
    except Exception as error:  # such as hosts that find each other by the names of NCCL's network alone
        cause = f" ({describe(error)[:200]})"
    if trainer.strategy.reduce_boolean_decision(group is not None, all=True):
        return group
    rank_zero_warn(f"the processes have no gloo group{cause}: after each step they wait for one another")
    return None
