"""The runs of a protocol of fits, which are those of `poolformer ablate`: there is no second trainer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..ablation import rows as rows_of
from ..ablation import runs as ablation
from ..ablation.command import check_start
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
    protocol: Protocol, rows: Sequence[Judged], seeds: Sequence[int], folder: Path, flags: Sequence[str]
) -> list[Fit]:
    """Return the runs of a protocol, seed by seed.

    Raises:
        ConfigError: A flag replaces what a row changes, or the protocol chooses among values, which is not there yet.
    """
    if protocol.tries:
        raise ConfigError(f"'{protocol.file}': 'tries' is not available in this version: give one value in 'flags'")
    flags = [*protocol.flags, *flags]
    for row in rows:
        if flag := rows_of.replaced(row.for_ablation(), flags):
            raise ConfigError(f"{flag} replaces what the row {row.name} changes, and so cannot go to every fit")
    return [
        Fit(row.name, ablation.plan_run(row.for_ablation(), seed, folder, _arguments(protocol, row, flags)))
        for seed in seeds
        for row in rows
    ]


def _arguments(protocol: Protocol, row: Judged, flags: Sequence[str]) -> list[str]:
    return ablation.fit_arguments(protocol.config, row.for_ablation(), flags)


def check(fits: Sequence[Fit], judged: str) -> list[Fit]:
    """Have what would fail said before anything is trained; return the runs whose models can be built.

    Raises:
        PoolformerError: The judged row cannot be built, all runs would fail, or a run was made with other settings.
    """
    from ..cli.training import settings  # 5 s

    unfit: dict[str, str] = {}
    for row in dict.fromkeys(fit.row for fit in fits):
        own = [fit.run for fit in fits if fit.row == row]
        try:
            now = settings("fit", list(own[0].arguments))
            ablation.check_builds(now)
        except PoolformerError as error:
            if row == judged:
                raise
            unfit[row] = one_line(error)
            continue
        for run in own:
            ablation.check_settings(run, now)
    for row, reason in unfit.items():
        print(f"left out, as it does not fit: {row}: {reason}", flush=True)
    left = [fit for fit in fits if fit.row not in unfit]
    check_start([fit.run for fit in left if fit.outcome() is None])
    return left


def train(fit: Fit) -> str | None:
    """Train a run to its end; return None, or in one line why there is no result. For a process of its own."""
    return ablation.train(fit.run)
