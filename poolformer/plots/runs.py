"""The runs that a figure is of: found below folders, seeds of one configuration brought together, as curves."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configs import read_config
from ..errors import ConfigError, suggestion
from ..run import config as run_config
from ..run.scalars import event_files, scalars
from .curves import Series

# Folders that are passed over, unless they are named: runs that were in a run's directory before, and those that only
# chose what an ablation's rows are trained with, on a part of the images.
_PASSED_OVER = ("previous", "tries")
_SECTIONS = ("model", "data", "trainer")
_EPOCH = "epoch"
_SHOWN = 12
_OF_A_SEED = re.compile(r"[-_.]+(seed|s)?[-_.]*$")  # what is left of the names of seeds


@dataclass(frozen=True)
class LoggedRun:
    """A run as it has logged itself.

    Attributes:
        directory: The run's.
        scalars: By tag the values by step.
        configuration: All its options in a line, without its seed and its place; None if it does not say them.
        seed: Its seed, if it says one.
    """

    directory: Path
    scalars: Mapping[str, Mapping[int, float]]
    configuration: str | None
    seed: int | None


def find_runs(given: Iterable[Path]) -> list[LoggedRun]:
    """Return the runs in some directories: each is a run's, or a folder with runs somewhere below.

    Raises:
        ConfigError: One of them is not there, or has no run.
        DataError: What a run has logged cannot be read.
    """
    directories: dict[Path, None] = {}
    for folder in given:
        if not folder.is_dir():
            raise ConfigError(_no_directory(folder))
        below = list(_runs_below(folder))
        if not below:
            raise ConfigError(
                f"no run has logged anything in '{folder}': name a run's directory, or a folder of runs (runs/...)"
            )
        directories |= dict.fromkeys(below)
    by_place = {directory.resolve(): directory for directory in directories}
    return [read_run(directory) for directory in by_place.values()]


def read_run(directory: Path) -> LoggedRun:
    """Return what a run has logged, and with which options.

    Raises:
        DataError: It cannot be read.
    """
    config = _config(directory)
    seed = config.get("seed_everything") if config else None
    return LoggedRun(
        directory,
        scalars(directory),
        _configuration(config) if config else None,
        seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
    )


def _no_directory(folder: Path) -> str:
    if folder.exists():
        return f"'{folder}' is a file: name the run's directory"
    beside = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    return f"there is no directory '{folder}'.{suggestion(folder.name, sorted(beside))}".rstrip(".")


def _runs_below(folder: Path) -> Iterator[Path]:
    """Yield the directories with events, also behind links, as of a folder that somebody has put runs together in."""
    seen: set[Path] = set()
    for place, names, _ in os.walk(folder, followlinks=True):
        if (real := Path(place).resolve()) in seen:
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if name not in _PASSED_OVER and not name.startswith("."))
        if event_files(Path(place)):
            yield Path(place)


def _config(directory: Path) -> dict[str, Any] | None:
    file = directory / run_config.NAME
    try:
        return read_config(file) if file.is_file() else None
    except ConfigError:
        return None  # the curves are there all the same


def _configuration(config: Mapping[str, Any]) -> str:
    options = {name: config.get(name) for name in _SECTIONS}
    trainer = options["trainer"] if isinstance(options["trainer"], dict) else {}
    options["trainer"] = {name: value for name, value in trainer.items() if name not in run_config.OF_THE_MACHINE}
    return json.dumps(_without_place(options, trainer.get("default_root_dir")), sort_keys=True, default=str)


def _without_place(value: Any, place: object) -> Any:
    """Return options without the folder of their run, which may be as short as a letter: as a path of it alone."""
    if isinstance(value, dict):
        return {name: _without_place(each, place) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_place(each, place) for each in value]
    is_there = isinstance(value, str) and isinstance(place, str) and place != ""
    return value.removeprefix(str(place)) if is_there and f"{value}/".startswith(f"{place}/") else value


def grouped(runs: Sequence[LoggedRun]) -> dict[str, list[LoggedRun]]:
    """Return the runs of each configuration, which differ in their seeds alone, by a name of their places.

    Two runs of one configuration and one seed are no spread of seeds but runs that somebody compares: such a
    configuration is taken apart by the folders that its runs lie in, and where that is not enough wholly.
    """
    alike: dict[object, list[LoggedRun]] = {}
    for run in runs:
        alike.setdefault(run.configuration or run.directory, []).append(run)
    groups = [group for each in alike.values() for group in _of_different_seeds(each)]
    return dict(zip(_names(groups), groups, strict=True))


def _of_different_seeds(runs: list[LoggedRun]) -> list[list[LoggedRun]]:
    if _differ(runs):
        return [runs]
    folders: dict[Path, list[LoggedRun]] = {}
    for run in runs:
        folders.setdefault(run.directory.resolve().parent, []).append(run)
    return [part for own in folders.values() for part in ([own] if _differ(own) else [[run] for run in own])]


def _differ(runs: Sequence[LoggedRun]) -> bool:
    seeds = {run.seed for run in runs}
    return len(runs) == 1 or (len(seeds) == len(runs) and None not in seeds)


def _names(groups: Sequence[Sequence[LoggedRun]]) -> list[str]:
    """Return for each group the part of its runs' paths that they share and that tells it from the others."""
    places = [[run.directory.resolve() for run in group] for group in groups]
    if len(groups) == 1:
        return [os.path.basename(_common(places[0]))]
    shared = [_common(paths) for paths in places]
    if len({*shared}) < len(groups):  # a-seed0, a-seed1, b-seed0, ...
        alike = [os.path.commonprefix([str(path) for path in paths]) for paths in places]  # noqa: RUF071  of letters
        shared = [_OF_A_SEED.sub("", letters) for letters in alike]
    if len({*shared}) < len(groups):
        shared = [str(paths[0]) for paths in places]
    root = _common([Path(path) for path in shared])
    names = [Path(os.path.relpath(path, root)) for path in shared]
    if len({name.name for name in names}) == 1 and all(len(name.parts) > 1 for name in names):
        names = [name.parent for name in names]  # a/seed-0, b/seed-0
    # One that is the folder of all has its own name.
    return [os.path.basename(root) if name == Path() else str(name) for name in names]


def _common(paths: Sequence[Path]) -> str:
    return os.path.commonpath([str(path) for path in paths])


def with_metric(runs: Sequence[LoggedRun], metric: str) -> list[LoggedRun]:
    """Return the runs that have logged a metric.

    Raises:
        ConfigError: None has.
    """
    having = [run for run in runs if run.scalars.get(metric)]
    if not having:
        logged = sorted({tag for run in runs for tag in run.scalars} - {_EPOCH})
        more = f" and {len(logged) - _SHOWN} more" if len(logged) > _SHOWN else ""
        said = f" Logged: {', '.join(logged[:_SHOWN])}{more}." if logged else " They have logged nothing so far."
        raise ConfigError(f"no run has logged '{metric}'.{suggestion(metric, logged)}{said}")
    return having


def series(
    groups: Mapping[str, Sequence[LoggedRun]], metric: str, *, baseline: str | None = None
) -> tuple[list[Series], str]:
    """Return the curves of a metric, and what they lie along.

    They lie along the epochs that are over, where each has one value, and otherwise along the steps. Shares of images,
    as top-1, are in percent.
    """
    runs = [run for group in groups.values() for run in group]
    by_epoch = all(_one_an_epoch(run, metric) for run in runs)
    scale = 100 if in_percent(metric) else 1

    def curve(run: LoggedRun) -> list[tuple[float, float]]:
        epochs = run.scalars.get(_EPOCH, {})
        values = run.scalars.get(metric, {})
        return [(epochs[step] + 1 if by_epoch else step + 1, scale * value) for step, value in values.items()]

    found = [Series(name, [curve(run) for run in group], name == baseline) for name, group in groups.items()]
    return found, "epoch" if by_epoch else "step"


def in_percent(metric: str) -> bool:
    """Return whether a metric is a share of images, as ``val/top1``."""
    return metric.rpartition("/")[2].startswith(("top1", "top5"))


def _one_an_epoch(run: LoggedRun, metric: str) -> bool:
    steps, epochs = run.scalars.get(metric, {}), run.scalars.get(_EPOCH, {})
    return all(step in epochs for step in steps) and len({epochs[step] for step in steps}) == len(steps)
