"""The runs of a protocol of fits, which are those of `poolformer ablate`: there is no second trainer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..ablation import launchers, tries
from ..ablation import rows as rows_of
from ..ablation import runs as ablation
from ..ablation.building import check_builds
from ..ablation.command import check_start
from ..ablation.grid import Grid, check_grid, read_grid
from ..errors import ConfigError, PoolformerError, one_line
from .outcomes import Outcome, from_run
from .protocols import Protocol
from .rows import Judged


@dataclass(frozen=True)
class Fit:
    """A run of the ablation's, under the row's own name.

    Attributes:
        row: Name of the row.
        run: The run.
    """

    row: str
    run: ablation.Run

    @property
    def title(self) -> str:
        return f"{self.row}, seed {self.run.seed}"

    def outcome(self) -> Outcome | None:
        """Return what came of it; None if it is not finished."""
        result = self.run.result()
        return None if result is None else from_run(self.run, result, row=self.row)


def plan(
    protocol: Protocol,
    rows: Sequence[Judged],
    seeds: Sequence[int],
    folder: Path,
    flags: Sequence[str],
    choices: Mapping[str, tries.Choice] | None = None,
) -> list[Fit]:
    """Return the runs of a protocol, seed by seed, each row with what is chosen for it.

    Raises:
        ConfigError: A flag replaces what a row changes.
    """
    for row in rows:
        if flag := rows_of.replaced(row.for_ablation(), [*protocol.flags, *flags]):
            raise ConfigError(f"{flag} replaces what the row {row.name} changes, and so cannot go to every fit")
    chosen = {name: choice.point.flags for name, choice in (choices or {}).items()}
    return [
        Fit(row.name, ablation.plan_run(row.for_ablation(), seed, folder, arguments))
        for seed in seeds
        for row in rows
        for arguments in [_arguments(protocol, row, [*flags, *chosen.get(row.name, [])])]
    ]


def _arguments(protocol: Protocol, row: Judged, flags: Sequence[str]) -> list[str]:
    return ablation.fit_arguments(protocol.config, row.for_ablation(), [*protocol.flags, *flags])


def grid_of(
    protocol: Protocol,
    given: Sequence[str],
    rows: Sequence[Judged],
    flags: Sequence[str],
    *,
    share: float,
    seeds: Sequence[int],
) -> Grid | None:
    """Return what is tried for every row: what the command line says, or else the protocol; None of nothing.

    Raises:
        ConfigError: It cannot be read, or does not go with the rows and flags.
    """
    try:
        grid = read_grid(given or protocol.tries, share=share, seeds=seeds)
        if grid:
            check_grid(grid, [row.for_ablation() for row in rows], [*protocol.flags, *flags])
    except ConfigError as error:
        raise error if given else ConfigError(f"'{protocol.file}': {error}") from error
    return grid


def tune(
    protocol: Protocol,
    rows: Sequence[Judged],
    grid: Grid,
    folder: Path,
    flags: Sequence[str],
    *,
    at_once: int,
    say: Callable[[str], None],
) -> tuple[dict[str, tries.Choice], dict[str, str]]:
    """Try the grid for every row as `ablate` does; return the choices by rows, and why other rows have none.

    Raises:
        PoolformerError: The data cannot hold out a part, an option does not take a value, or nothing is chosen for the
            row that is judged, which is the first.
    """
    from ..cli.training import settings  # 5 s

    arguments = {row.name: (row.for_ablation(), _arguments(protocol, row, flags)) for row in rows}
    first = next(iter(arguments.values()))[1]
    tries.check_data(settings("fit", first))
    for point in grid.points:
        settings("fit", [*first, *point.flags])
    launch = partial(_launch, at_once=at_once)
    choices, failures = tries.tune(grid, arguments, folder, launch, say, check_start)
    if reason := failures.get(rows[0].name):
        raise PoolformerError(f"{rows[0].name}: {reason}")
    return choices, failures


def _launch(runs: Sequence[ablation.Run], report: launchers.Report, *, at_once: int) -> None:
    launchers.run_here(ablation.train, runs, at_once=at_once, report=report)


def check(fits: Sequence[Fit], judged: str, *, chosen: bool = True) -> list[Fit]:
    """Have what would fail said before anything is trained; return the runs whose models can be built.

    Args:
        fits: All of them.
        judged: Name of the row that is judged.
        chosen: Whether their settings are those that they will be trained with; else a choice is to come.

    Raises:
        PoolformerError: The judged row cannot be built, all runs would fail, or a run was made with other settings.
    """
    from ..cli.training import settings  # 5 s

    unfit: dict[str, str] = {}
    for row in dict.fromkeys(fit.row for fit in fits):
        own = [fit.run for fit in fits if fit.row == row]
        try:
            now = settings("fit", list(own[0].arguments))
            check_builds(now)
        except PoolformerError as error:
            if row == judged:
                raise
            unfit[row] = one_line(error)
            continue
        for run in own if chosen else []:
            ablation.check_settings(run, now)
    for row, reason in unfit.items():
        print(f"left out, as it does not fit: {row}: {reason}", flush=True)
    left = [fit for fit in fits if fit.row not in unfit]
    check_start([fit.run for fit in left if fit.outcome() is None])
    return left


def train(fit: Fit) -> str | None:
    """Train a run to its end; return None, or in one line why there is no result. For a process of its own."""
    return ablation.train(fit.run)
