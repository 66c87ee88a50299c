"""Equal tuning: every row is trained with every value of a grid, and has the best of them chosen for it.

What it is chosen by is a part of the training images that a try holds out. The images that are reported on are not
opened by a try, so that no row gains by the choice.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..commands.progress import duration
from ..errors import ConfigError, PoolformerError
from . import launchers
from .grid import Grid, Point
from .rows import Row
from .runs import Run, check_settings, plan_run

FOLDER = "tries"
_DATA_THAT_CAN = "DigitsData, FolderData, FFCVData, and data of your own with an option tune_share"
Launch = Callable[[Sequence[Run], launchers.Report], None]


@dataclass(frozen=True)
class Try:
    """A row to be trained with a point of the grid and one seed.

    Attributes:
        row: Name of the row.
        point: The values.
        run: The run.
    """

    row: str
    point: Point
    run: Run

    @property
    def title(self) -> str:
        return f"{self.row} with {self.point.name}, seed {self.run.seed}"

    @property
    def is_over(self) -> bool:
        """Whether its outcome is known: a result, or a loss that was not finite."""
        return self.run.result() is not None or self.run.divergence is not None


@dataclass(frozen=True)
class Choice:
    """What was chosen for a row.

    Attributes:
        row: Name of the row.
        grid: What was tried.
        scores: val/top1 on the part held out in percent, by point and seed; None where the loss was not finite.
    """

    row: str
    grid: Grid
    scores: Mapping[Point, tuple[float | None, ...]]

    @cached_property
    def point(self) -> Point:
        """The best one by the mean over the seeds; of equal ones the first."""
        means = {point: mean for point in self.scores if (mean := self.mean(point)) is not None}
        return max(means, key=lambda point: means[point])

    @property
    def edges(self) -> list[str]:
        """Which chosen values are the smallest or the largest tried."""
        return self.grid.edges(self.point)

    @property
    def said(self) -> str:
        """What was chosen, and whether it lies at an edge, in a line."""
        edges = f" ({'; '.join(self.edges)}: one beyond may be better)" if self.edges else ""
        return f"chosen for {self.row}: {self.point.name}{edges}"

    def mean(self, point: Point) -> float | None:
        """Return the mean score of a point in percent; None where a seed of it diverged."""
        scores = [score for score in self.scores[point] if score is not None]
        return statistics.fmean(scores) if len(scores) == len(self.scores[point]) else None

    def written(self, point: Point) -> str:
        """Return what came of a point, as ``61.20 %``."""
        mean = self.mean(point)
        return "diverged" if mean is None else f"{mean:.2f} %"


def check_data(settings: Mapping[str, Any]) -> None:
    """Check that the data can hold out a part to choose by, and does not do so for every fit.

    Raises:
        ConfigError: It cannot, or it does.
    """
    data = settings.get("data") or {}
    options, name = data.get("init_args") or {}, str(data.get("class_path") or "this data").rpartition(".")[2]
    if "tune_share" not in options:
        raise ConfigError(
            f"--try chooses by a part of the training images, which {name} cannot hold out; these can: {_DATA_THAT_CAN}"
        )
    if options["tune_share"] is not None:
        raise ConfigError(
            f"--data.tune_share {options['tune_share']} would be of every fit; with --try, say --try_share"
        )


def plan(grid: Grid, row: Row, arguments: Sequence[str], out: Path) -> list[Try]:
    """Return the tries of a row below a directory, in a folder of the row's.

    Args:
        grid: What is tried.
        row: The row.
        arguments: Of ``poolformer fit``, that the row has without the grid.
        out: The directory of all runs.
    """
    tuned = [*arguments, f"--data.tune_share={grid.share:g}"]
    return [
        Try(row.name, point, plan_run(row, seed, out, [*tuned, *point.flags], below=f"{FOLDER}/{point.folder}"))
        for seed in grid.seeds
        for point in grid.points
    ]


def check_made(runs: Sequence[Run]) -> None:
    """Check that what lies in the runs' directories was made with the settings they would be made with now.

    Raises:
        ConfigError: It was not.
    """
    from ..cli.training import settings  # 5 s

    of_all_seeds: dict[Path, dict[str, Any]] = {}
    for run in runs:
        if (run.directory / "config.yaml").is_file():
            home = run.directory.parent
            of_all_seeds[home] = of_all_seeds.get(home) or settings("fit", list(run.arguments))
            check_settings(run, of_all_seeds[home])


def train(tries: Sequence[Try], launch: Launch, say: Callable[[str], None], *, clock: Any = time.monotonic) -> None:
    """Train the tries that are not over, and say of each what came of it.

    Args:
        tries: Of all rows.
        launch: Trains runs, and reports each with its index and why it failed.
        say: Called with a line for each.
        clock: Seconds.
    """
    todo = [each for each in tries if not each.is_over]
    say(f"tries: {len(tries)}, finished before: {len(tries) - len(todo)}")
    started, done = clock(), 0

    def report(index: int, failure: str | None) -> None:
        nonlocal done
        done += 1
        left = (clock() - started) / done * (len(todo) - done)
        rest = f"; {duration(left)} left" if done < len(todo) else ""
        say(f"[{done}/{len(todo)}] {todo[index].title}: {_outcome(todo[index].run, failure)}{rest}")

    if todo:
        launch([each.run for each in todo], report)


def _outcome(run: Run, failure: str | None) -> str:
    if result := run.result():
        return f"{100 * result.top1:.2f} % of the part held out, after {duration(result.train_s)}"
    return f"diverged: {run.divergence}" if run.divergence else f"failed: {failure}"


def choose(grid: Grid, row: str, tries: Iterable[Try]) -> Choice:
    """Return what is chosen for a row, by its tries.

    A loss that is not finite is an outcome, and not chosen. A try without an outcome leaves no choice: whether it would
    have been the best is not known.

    Raises:
        PoolformerError: A try of the row has no outcome, or none has a finite one.
    """
    own = [each for each in tries if each.row == row]
    if lost := [each.point.name for each in own if not each.is_over]:
        raise PoolformerError(
            f"nothing is chosen, as tries failed: {'; '.join(dict.fromkeys(lost))} (their logs say why)"
        )
    scores: dict[Point, tuple[float | None, ...]] = {}
    for each in own:
        result = each.run.result()
        scores[each.point] = (*scores.get(each.point, ()), None if result is None else 100 * result.top1)
    choice = Choice(row, grid, scores)
    if all(choice.mean(point) is None for point in scores):
        raise PoolformerError("nothing is chosen, as the loss was not finite with any of the values tried")
    return choice


def tune(
    grid: Grid,
    rows: Mapping[str, tuple[Row, Sequence[str]]],
    out: Path,
    launch: Launch,
    say: Callable[[str], None],
    check: Callable[[list[Run]], None],
) -> tuple[dict[str, Choice], dict[str, str]]:
    """Try the grid for every row; return what is chosen for rows by their names, and why nothing is for others.

    Args:
        grid: What is tried.
        rows: By the name that is shown, each with its arguments of ``poolformer fit`` without the grid.
        out: The directory of all runs.
        launch: Trains runs, and reports each with its index and why it failed.
        say: Called with a line for each.
        check: Finds why runs could not start, called with those that are to be trained.

    Raises:
        ConfigError: A try was made with other settings, or none can start.
    """
    tries = [
        replace(each, row=name) for name, (row, arguments) in rows.items() for each in plan(grid, row, arguments, out)
    ]
    check_made([each.run for each in tries])
    check([each.run for each in tries if not each.is_over])
    train(tries, launch, say)
    choices, failures = choose_all(grid, list(rows), tries)
    for choice in choices.values():
        say(choice.said)
    return choices, failures


def choose_all(grid: Grid, rows: Sequence[str], tries: Sequence[Try]) -> tuple[dict[str, Choice], dict[str, str]]:
    """Return the choices of rows by their names, and why others have none."""
    choices, failures = {}, {}
    for row in rows:
        try:
            choices[row] = choose(grid, row, tries)
        except PoolformerError as error:
            failures[row] = str(error)
    return choices, failures


def notes(choices: Sequence[Choice]) -> list[str]:
    """Return what is said of choices, a line each: what was tried, by what it was chosen, which lie at an edge."""
    if not choices:
        return []
    grid = choices[0].grid
    seeds = f"seed{'s' * (len(grid.seeds) > 1)} {', '.join(map(str, grid.seeds))}"
    said = [
        f"tried for every row: {grid.words}; {seeds}, each as long as the row itself, without "
        f"{100 * grid.share:g} % of the training images; the best val/top1 on these was chosen, and those reported on "
        "were not looked at"
    ]
    for choice in choices:
        scores = ", ".join(f"{_values(point)} {choice.written(point)}" for point in choice.scores)
        equal = sum(choice.mean(point) == choice.mean(choice.point) for point in choice.scores) > 1
        said.append(f"{choice.row}: {_values(choice.point)}{', the first of equals,' if equal else ''} of {scores}")
    edges = [f"{choice.row} ({'; '.join(choice.edges)})" for choice in choices if choice.edges]
    edge = "at the edge of what was tried, so that a value beyond may be better"
    return [*said, *([f"{edge}: {', '.join(edges)}"] if edges else [])]


def _values(point: Point) -> str:
    return point.name if len(point.values) > 1 else point.values[0][1]
