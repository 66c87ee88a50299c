"""`poolformer ablate`."""

import argparse
import inspect
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import first_word
from ..cli import early
from ..commands import progress
from ..configs import find_config, is_piped
from ..errors import ConfigError, PoolformerError, one_line
from ..files.shell import quoted
from . import launchers
from . import rows as rows_of
from . import runs as ablation
from . import tries as tries_of
from .arguments import check, parser, split_flags
from .building import check_builds
from .grid import Grid, check_grid, read_grid

if TYPE_CHECKING:
    from .report import Report
    from .rows import Row
    from .runs import Run


def main(argv: list[str]) -> int:
    """Train rows of the paper's ablation on a base configuration, and compare them in a table and figures.

    A row is the base under an overlay of a few lines, configs/ablation/NAME.yaml or a file of your own; the base with
    another mixer, also a plugin's, by its name as for --model.mixer; or 'base', the base as it is. Every row is trained
    with every seed by 'poolformer fit', in OUT/ROW/seed-N with its log beside it; 'tensorboard --logdir OUT' shows them
    side by side. What stands behind '--' goes to each fit.

    The same command again trains only what is missing: finished runs are kept and interrupted ones resume from their
    last epoch. It compares options, not code: delete OUT/ROW after changing a mixer's. A row that fails does not stop
    the others; it is named at the end, and the exit code is 1.

      poolformer ablate
      poolformer ablate --config digits --rows base identity depthwise --seeds 0 1 2 --jobs 2
      poolformer ablate --config s12 -- --data.train train.beton --data.val val.beton
      poolformer ablate --config s12 --rows base my_mixer my_row.yaml --jobs 8 -- --trainer.max_epochs 30 ...

    OUT gets table.md, table.csv, and (with matplotlib: pip install 'poolformer-lightning[plots]') the figures
    top1-macs, top1-params and curves, each as .png, .svg and .pdf. The paper's column is PoolFormer-S12 on
    ImageNet-1k, whatever the base is.

    --try model.lr=1e-3,2e-3,4e-3 tunes every row alike: it is trained with each value (of several --try with each
    combination) on the training images less a part, --try_share of them; the value that is best on this part is chosen
    for the row, which is then trained with every seed as always. The images that are reported on are never chosen by.
    The table says what was tried and chosen, and which choice lies at the edge.

    With --jobs N on a machine with several GPUs each job gets its share of them, and CUDA_VISIBLE_DEVICES says which
    there are; with one job at a time it gets all. On CPU cores give each job its threads: -- --num_threads 1.

    --launcher submitit makes one SLURM array of all runs (pip install 'poolformer-lightning[submitit]'). --slurm takes
    submitit's parameters and sbatch's, e.g. --slurm partition=gpu gpus_per_node=1 cpus_per_task=16 timeout_min=600;
    without a limit a run has 24 hours at a time. Runs that are preempted or out of time are resumed. With
    gpus_per_node=4 each run has four tasks, one a GPU, and with nodes=2 eight; tasks_per_node=N sets them on CPUs.
    """
    own, flags = split_flags(argv)
    known = parser(inspect.getdoc(main))
    options, unknown = known.parse_known_args(own)
    if unknown:
        raise ConfigError(f"there is no {unknown[0]}.{known.near(unknown[0])} Flags for every fit stand behind '--'")
    check(options, flags)
    return _ablate(options, flags, argv)


def _ablate(options: argparse.Namespace, flags: list[str], argv: Sequence[str]) -> int:
    configs = options.config or ["digits"]
    if piped := next((config for config in configs if is_piped(find_config(config))), None):
        raise ConfigError(f"--config {piped} can be read once, but every run reads it: write it to a file")
    out = options.out or Path("runs", "ablation", "-".join(find_config(config).stem for config in configs))
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: there is a file of that name")
    asked = _asked(options, flags)
    base = _base(options.base, asked)
    seeds = list(dict.fromkeys(options.seeds))
    grid = read_grid(options.tries, share=options.try_share, seeds=options.try_seeds or seeds[:1])
    if grid:
        check_grid(grid, asked, flags)

    def planned(rows: Sequence["Row"], chosen: Mapping[str, tries_of.Choice]) -> list["Run"]:
        return [
            ablation.plan_run(row, seed, out, ablation.fit_arguments(configs, row, [*flags, *_flags_of(chosen, row)]))
            for seed in seeds  # seed by seed, so that there is a whole table early
            for row in rows
        ]

    runs = planned(asked, {})
    plain = {row.name: (row, ablation.fit_arguments(configs, row, flags)) for row in asked}
    tries = [each for row in plain.values() for each in tries_of.plan(grid, *row, out)] if grid else []
    is_over = all(each.is_over for each in tries) and all(run.result() for run in runs)
    base_arguments = ablation.fit_arguments(configs, rows_of.Row(rows_of.BASE), flags)
    early.refuse("fit", base_arguments, [point.flags for point in grid.points] if grid else [])
    first_word.say(" ".join(["ablate", *early.configs_of(base_arguments)]), "PyTorch and Lightning", "lightning")
    if options.launcher == "local" and not is_over:
        launchers.warm_up(ablation.IMPORTED)  # beside our own imports
    rows, unfit, settings = _that_fit(asked, runs, base_arguments, grid)
    runs = [run for run in runs if run.row not in unfit]
    _print_reasons("left out, as they do not fit:", unfit)
    if not rows:
        raise ConfigError("no row fits")
    if base in unfit:
        raise ConfigError(f"--base {base} does not fit, see above")
    if options.launcher == "local":
        check_start([run for run in runs if run.result() is None])
    failures = {**(unfit if options.rows else {})}
    choices: dict[str, tries_of.Choice] = {}
    if grid:
        choices, untuned = _tune(grid, {row.name: plain[row.name] for row in rows}, out, options)
        failures |= untuned
        runs = planned([row for row in rows if row.name in choices], choices)
        tries_of.check_made(runs)
    from .report import Report  # of the table, 1 s

    command = " ".join(["poolformer", "ablate", *map(quoted, argv)])
    report = Report(rows, runs, out, settings, command, base, choices, latex=options.format == "latex")
    failures |= _train(runs, report, out, options)
    report.show()
    if len(failures) == len(rows) > 1 and len(set(failures.values())) == 1:
        failures = {"all": next(iter(failures.values()))}
    _print_reasons("failed:", failures)
    return 1 if failures else 0


def _asked(options: argparse.Namespace, flags: list[str]) -> list["Row"]:
    asked = [rows_of.find_row(name) for name in options.rows or rows_of.row_names()]
    names = [row.name for row in asked]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"--rows: {', '.join(twice)} more than once (a file's row has its name without .yaml)")
    rows_of.check_folders((row.name, ablation.folder_of(row)) for row in asked)
    for row in asked:
        if flag := rows_of.replaced(row, flags):
            raise ConfigError(f"{flag} replaces what the row {row.name} changes; name the rows it goes with in --rows")
    return asked


def _base(given: str | None, asked: Sequence["Row"]) -> str | None:
    """Return the name of the row that differences are to, where one is asked for."""
    if given is None:
        return None
    name = rows_of.find_row(given).name
    if name not in (names := [row.name for row in asked]):
        raise ConfigError(f"--base {given} is none of the rows, which are {', '.join(names)}: add it to --rows")
    return name


def _flags_of(choices: Mapping[str, tries_of.Choice], row: "Row") -> list[str]:
    return choices[row.name].point.flags if row.name in choices else []


def _tune(
    grid: Grid, rows: Mapping[str, tuple["Row", Sequence[str]]], out: Path, options: argparse.Namespace
) -> tuple[dict[str, tries_of.Choice], dict[str, str]]:
    """Try the grid for every row; return what is chosen for rows, and why nothing is for others."""

    def launch(todo: Sequence["Run"], report: launchers.Report) -> None:
        _launch(todo, report, out, options)

    def say(line: str) -> None:
        print(line, flush=True)

    can_start = check_start if options.launcher == "local" else lambda _: None
    return tries_of.tune(grid, rows, out, launch, say, can_start)


def _that_fit(
    asked: list["Row"], runs: list["Run"], base_arguments: list[str], grid: Grid | None
) -> tuple[list["Row"], dict[str, str], dict[str, Any]]:
    """Return the rows whose model can be built, why the others' cannot, and the settings of the base.

    Raises:
        PoolformerError: The base is wrong, and so is every row; or a run was made with other settings.
    """
    from ..cli.training import settings  # 5 s

    base = settings("fit", base_arguments)
    if grid:
        tries_of.check_data(base)
        for point in grid.points:
            settings("fit", [*base_arguments, *point.flags])
    rows, unfit = [], {}
    for row in asked:
        of_row = [run for run in runs if run.row == row.name]
        try:
            now = settings("fit", list(of_row[0].arguments))
            check_builds(now)
        except PoolformerError as error:
            unfit[row.name] = one_line(error)
            continue
        for run in [] if grid else of_row:  # what is chosen is not among these settings yet
            ablation.check_settings(run, now)
        rows.append(rows_of.as_in_paper(row, base) if row == rows_of.Row(rows_of.BASE) else row)
    if not rows and (reason := _unfit(base)) in unfit.values():
        raise ConfigError(reason)  # of the base, and so of every row
    return rows, unfit, base


def _unfit(settings: dict[str, Any]) -> str | None:
    try:
        check_builds(settings)
    except PoolformerError as error:
        return one_line(error)
    return None


def check_start(runs: list["Run"]) -> None:
    """Have what all runs would fail by said once, before any is trained: no data, a trainer that cannot be built.

    Raises:
        ConfigError: The first of them cannot start.
    """
    reasons: list[str | None] = []
    launchers.run_here(ablation.cannot_start, runs[:1], at_once=1, report=lambda _, reason: reasons.append(reason))
    if reason := next(filter(None, reasons), None):
        raise ConfigError(reason)


def _train(runs: list["Run"], table: "Report", out: Path, options: argparse.Namespace) -> dict[str, str]:
    """Train what is not finished; return why runs failed, by their names."""
    from .table import duration

    todo = [run for run in runs if run.result() is None]
    print(f"runs in {out}: {len(runs)}, finished before: {len(runs) - len(todo)}", flush=True)
    if todo:
        print(f"look at them  tensorboard --logdir {quoted(out)}", flush=True)
    failures, done, started_s = {}, 0, time.monotonic()

    def report(index: int, failure: str | None) -> None:
        nonlocal done
        done += 1
        run = todo[index]
        if failure:
            failures[f"{run.row} seed {run.seed}"] = failure
        result = None if failure else run.result()
        said = f"{100 * result.top1:.2f} % after {duration(result.train_s)}" if result else f"failed: {failure}"
        left_s = (time.monotonic() - started_s) / done * (len(todo) - done)
        left = f"; {progress.duration(left_s)} left" if done < len(todo) else ""
        print(f"[{done}/{len(todo)}] {run.row} seed {run.seed}: {said}{left}", flush=True)
        table.write()

    if todo:
        _launch(todo, report, out, options)
    return failures


def _launch(runs: Sequence["Run"], report: launchers.Report, out: Path, options: argparse.Namespace) -> None:
    if options.launcher == "local":
        launchers.run_here(ablation.train, runs, at_once=options.jobs or 1, report=report)
    else:
        launchers.run_on_cluster(
            ablation.train,
            runs,
            folder=out / "slurm",
            parameters=dict(options.slurm),
            at_once=options.jobs,
            report=report,
        )


def _print_reasons(title: str, reasons: dict[str, str]) -> None:
    if reasons:
        print(f"\n{title}", *(f"{name}: {reason}" for name, reason in reasons.items()), sep="\n  ", flush=True)
