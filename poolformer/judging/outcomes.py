"""What came of one row, one seed and one measure: the same for a probe's cell and for a run of ``poolformer fit``."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..run.scalars import scalars

if TYPE_CHECKING:
    from ..ablation.runs import Result, Run

TOP1 = "val/top1"


class Point(NamedTuple):
    """A point of a learning curve.

    Attributes:
        share: Of the whole training, above 0 to 1.
        score: Then, a fraction.
    """

    share: float
    score: float


@dataclass(frozen=True)
class Outcome:
    """What came of one row, one seed and one measure.

    Attributes:
        row: Name of the row.
        measure: ``val/top1``, or a probe's task and side as `of_cell` writes them.
        seed: The seed.
        score: At the end, a fraction.
        curve: The scores on the way, by the share of the training that was over; the last one is the score.
        train_s: Seconds of training, perhaps beside other jobs.
        parameters: That are trained.
        macs: Multiply-accumulates of one image.
        images_per_s: In training, perhaps beside other jobs.
    """

    row: str
    measure: str
    seed: int
    score: float
    curve: tuple[Point, ...]
    train_s: float
    parameters: int
    macs: int
    images_per_s: float


def of_cell(task: str, side: int) -> str:
    """Return the measure of a probe's cell.

    Example:
        >>> of_cell("order", 8)
        'order 8x8'
    """
    return f"{task} {side}x{side}"


def from_probe(row: str, task: str, side: int, seed: int, result: Any) -> Outcome:
    """Return the outcome of a probe's cell, of which `run_cell` has returned the result."""
    last = max((images for images, _, _ in result.curve), default=0)
    curve = tuple(Point(images / last, score) for images, _, score in result.curve if images)
    return Outcome(
        row,
        of_cell(task, side),
        seed,
        result.score,
        curve,
        result.train_s,
        result.parameters,
        result.macs,
        result.images_per_s,
    )


def from_run(run: "Run", result: "Result", *, row: str | None = None) -> Outcome:
    """Return the outcome of a run of ``poolformer fit``, its curve read from its TensorBoard events."""
    scores = list(scalars(run.directory).get(TOP1, {}).values())
    curve = tuple(Point((place + 1) / len(scores), score) for place, score in enumerate(scores))
    return Outcome(
        row or run.row,
        TOP1,
        run.seed,
        result.top1,
        curve,
        result.train_s,
        result.parameters,
        result.macs,
        result.images_per_s,
    )


def by_seed(outcomes: Iterable[Outcome], row: str) -> dict[int, float]:
    """Return the score of a row by seed, the mean over its measures; a seed without all measures is left out."""
    scores: dict[int, dict[str, float]] = {}
    for outcome in outcomes:
        if outcome.row == row:
            scores.setdefault(outcome.seed, {})[outcome.measure] = outcome.score
    return _whole(scores)


def by_seed_at(outcomes: Iterable[Outcome], row: str, shares: Mapping[str, float]) -> dict[int, float]:
    """Return the score of a row by seed after a share of its training, which may differ between measures.

    A seed is left out whose curve begins later than that.
    """
    scores: dict[int, dict[str, float]] = {}
    for outcome in outcomes:
        if outcome.row == row:
            found = at_share(outcome.curve, shares.get(outcome.measure, 1.0), last=outcome.score)
            seed = scores.setdefault(outcome.seed, {})
            if found is not None:
                seed[outcome.measure] = found
    return _whole(scores, measures=len({outcome.measure for outcome in outcomes if outcome.row == row}))


def at_share(curve: tuple[Point, ...], share: float, *, last: float) -> float | None:
    """Return the score after a share of the training, on the line between the two evaluations around it.

    None before the first evaluation, of which nothing is known.

    Example:
        >>> at_share((Point(0.5, 0.2), Point(1.0, 0.6)), 0.75, last=0.6)
        0.4
    """
    if share >= 1:
        return last
    for before, after in itertools.pairwise(curve):
        if before.share <= share <= after.share:
            along = (share - before.share) / (after.share - before.share)
            return before.score + along * (after.score - before.score)
    return None


def _whole(scores: Mapping[int, Mapping[str, float]], measures: int = 0) -> dict[int, float]:
    most = measures or max(map(len, scores.values()), default=0)
    return {seed: sum(own.values()) / most for seed, own in sorted(scores.items()) if most and len(own) == most}
