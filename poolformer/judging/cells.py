"""The cells of probes: a row, a task, a side and a seed, each with a file that appears when it is trained."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, PoolformerError, describe, is_end, one_line, suggestion
from ..files.atomic_write import atomic_write
from .outcomes import Outcome, Point, from_probe, of_cell
from .protocols import Protocol
from .rows import Judged

if TYPE_CHECKING:
    from .probe import ProbeSettings
    from .tasks import Task

_VERSION = 1
_AT_LEAST_1 = ("steps", "batch_size", "dim", "depth", "test_maps", "evaluations")
_ABOVE_0 = ("lr", "mlp_ratio")


@dataclass(frozen=True)
class Cell:
    """A row to be trained with one seed in one task at one side.

    Attributes:
        row: Name of the row.
        mixer: As ``--model.mixer`` takes it.
        task: Name of the task.
        side: Tokens along H and W.
        seed: The seed.
        settings: All of them, as `ProbeSettings` names them.
        file: Where the result appears.
    """

    row: str
    mixer: Any
    task: str
    side: int
    seed: int
    settings: Mapping[str, Any]
    file: Path

    @property
    def title(self) -> str:
        return f"{self.row}, {of_cell(self.task, self.side)}, seed {self.seed}"

    @property
    def asked(self) -> dict[str, Any]:
        """What the result depends on, in plain values."""
        asked = {"version": _VERSION, "mixer": self.mixer, "settings": dict(self.settings)}
        plain: dict[str, Any] = json.loads(json.dumps(asked, default=str))
        return plain

    def outcome(self) -> Outcome | None:
        """Return what came of it; None if it is not finished.

        Raises:
            ConfigError: The file cannot be read, or is of other settings.
        """
        if not self.file.is_file():
            return None
        try:
            saved = json.loads(self.file.read_text(encoding="utf-8"))
            before, found = saved["asked"], saved["outcome"]
            curve = tuple(Point(*point) for point in found["curve"])
            outcome = Outcome(**{**found, "row": self.row, "curve": curve})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"'{self.file}' cannot be read ({describe(error)}): delete it, and it is written again"
            ) from error
        if before != self.asked:
            raise ConfigError(
                f"'{self.file}' was trained with {_changed(before, self.asked)}: take another --out, or delete "
                f"'{self.file.parent}' to train it again"
            )
        return outcome


def plan(protocol: Protocol, rows: Sequence[Judged], seeds: Sequence[int], folder: Path) -> list[Cell]:
    """Return the cells of a protocol, seed by seed, so that there is a whole page early.

    Raises:
        ConfigError: The protocol names a task or a setting that there is not.
    """
    settings = asdict(settings_of(protocol))
    return [
        Cell(row.name, row.mixer, task, side, seed, settings, folder / row.slug / f"{task}-{side}-seed-{seed}.json")
        for seed in seeds
        for row in rows
        for task, sides in tasks_of(protocol).items()
        for side in sides
    ]


def settings_of(protocol: Protocol) -> "ProbeSettings":
    """Return the protocol's `ProbeSettings`.

    Raises:
        ConfigError: It names a setting that there is not.
    """
    from .probe import ProbeSettings  # PyTorch

    known, settings = asdict(ProbeSettings()), dict(protocol.settings)
    for name, value in settings.items():
        if name not in known:
            near = suggestion(name, list(known))
            raise ConfigError(f"'{protocol.file}': there is no setting '{name}'.{near} There are: {', '.join(known)}.")
        if type(known[name]) is float and isinstance(value, str):
            with suppress(ValueError):
                settings[name] = value = float(value)  # to YAML 1e-3 is a text
        is_number = type(value) in (int, float)
        if type(known[name]) in (int, float) and not (is_number and (type(known[name]) is float or type(value) is int)):
            raise ConfigError(f"'{protocol.file}': setting '{name}' is {value!r}, not {_kind(known[name])}")
        if bound := _bound(name, value):
            raise ConfigError(f"'{protocol.file}': setting '{name}' is {value!r}, and has to be {bound}")
    return ProbeSettings(**settings)


def tasks_of(protocol: Protocol) -> dict[str, tuple[int, ...]]:
    """Return the sides of each task that a protocol asks for.

    Raises:
        ConfigError: It names a task that there is not, or a side that is too small for one.
    """
    from .tasks import LEAST_SIDE

    tasks = all_tasks()
    if protocol.tasks is None:
        return {name: tuple(task.sides) for name, task in tasks.items()}
    for name in protocol.tasks:
        if name not in tasks:
            near = suggestion(name, list(tasks))
            raise ConfigError(f"'{protocol.file}': there is no task '{name}'.{near} Tasks: {', '.join(tasks)}.")
        if min(protocol.tasks[name]) < LEAST_SIDE:
            raise ConfigError(f"'{protocol.file}': a map of task '{name}' has at least {LEAST_SIDE} symbols a side")
    return dict(protocol.tasks)


def all_tasks() -> "Mapping[str, Task]":
    """Return the tasks by their names."""
    from .tasks import TASKS

    return TASKS


def train(cell: Cell) -> str | None:
    """Train a cell and write its file; return None, or in one line why there is none. For a process of its own."""
    from .probe import ProbeSettings, run_cell

    try:
        result = run_cell(cell.mixer, cell.task, cell.side, cell.seed, ProbeSettings(**cell.settings))
        outcome = from_probe(cell.row, cell.task, cell.side, cell.seed, result)
        cell.file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(cell.file, "w", encoding="utf-8") as file:
            file.write(json.dumps({"asked": cell.asked, "outcome": asdict(outcome)}, indent=1) + "\n")
    except PoolformerError as error:
        return one_line(error)
    except (Exception, SystemExit) as error:  # whatever a mixer does, the other rows are trained
        if is_end(error):
            raise
        return describe(error)
    return None


def _changed(before: Any, now: Mapping[str, Any]) -> str:
    """Return the first thing that is not as it was."""
    for name in now:
        then, today = (each.get(name) if isinstance(each, dict) else None for each in (before, now))
        if isinstance(then, dict) and isinstance(today, dict):
            for key in dict.fromkeys([*today, *then]):
                if then.get(key) != today.get(key):
                    return f"other settings ({key} {then.get(key)}, now {today.get(key)})"
        if then != today:
            return f"other settings ({name} {then}, now {today})"
    return "other settings"


def _bound(name: str, value: float) -> str | None:
    """Return which bound a setting does not keep, None if it keeps all."""
    if not math.isfinite(value):
        return "finite"
    if name in _AT_LEAST_1:
        return None if value >= 1 else "at least 1"
    if name in _ABOVE_0:
        return None if value > 0 else "above 0"
    if name == "beta2":
        return None if 0 <= value < 1 else "at least 0 and below 1"
    return None if value >= 0 else "0 or more"


def _kind(value: Any) -> str:
    return "an integer" if type(value) is int else "a number"
