"""`poolformer ablate`."""

import argparse
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..commands.arguments import CommandParser, local_folder
from ..configs import find_config, is_piped
from ..errors import ConfigError, PoolformerError, one_line
from ..files.atomic_write import atomic_write
from ..files.shell import quoted
from . import launchers
from . import rows as rows_of
from . import runs as ablation

if TYPE_CHECKING:
    from .rows import Row
    from .runs import Run
    from .table import Line

# What a flag for every run may not say, and what does instead.
_OURS = {
    "-c": "--config before '--', or a row of your own",
    "--config": "--config before '--', or a row of your own",
    "--ckpt_path": "nothing: an interrupted run is resumed by itself",
    "--seed_everything": "--seeds",
    "--trainer.default_root_dir": "--out",
    "--trainer.fast_dev_run": "--trainer.max_epochs 1 --trainer.limit_train_batches 2",
    "--print_config": "poolformer fit --config BASE --config ablation/ROW --print_config",
    "--help": "poolformer fit --help",
    "-h": "poolformer fit --help",
}


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

    OUT gets table.md, table.csv, and (with matplotlib: pip install 'poolformer[plots]') the figures top1-macs,
    top1-params and curves, each as .png, .svg and .pdf. The paper's column is PoolFormer-S12 on ImageNet-1k, whatever
    the base is.

    With --jobs N on a machine with several GPUs each job gets its share of them, and CUDA_VISIBLE_DEVICES says which
    there are; with one job at a time it gets all. On CPU cores give each job its threads: -- --num_threads 1.

    --launcher submitit makes one SLURM array of all runs (pip install 'poolformer[submitit]'). --slurm takes
    submitit's parameters and sbatch's, e.g. --slurm partition=gpu gpus_per_node=1 cpus_per_task=16 timeout_min=600;
    without a limit a run has 24 hours at a time. Runs that are preempted or out of time are resumed. With
    gpus_per_node=4 each run has four tasks, one a GPU, and with nodes=2 eight; tasks_per_node=N sets them on CPUs.
    """
    own, flags = split_flags(argv)
    options, unknown = _parser().parse_known_args(own)
    if unknown:
        raise ConfigError(f"there is no {unknown[0]}; flags for every fit stand behind '--'")
    _check(options, flags)
    try:
        return _ablate(options, flags)
    except KeyboardInterrupt:
        print("\npoolformer ablate: interrupted; the same command resumes it", file=sys.stderr)
        return 130


def _ablate(options: argparse.Namespace, flags: list[str]) -> int:
    configs = options.config or ["digits"]
    if piped := next((config for config in configs if is_piped(find_config(config))), None):
        raise ConfigError(f"--config {piped} can be read once, but every run reads it: write it to a file")
    out = options.out or Path("runs", "ablation", "-".join(find_config(config).stem for config in configs))
    asked = [rows_of.find_row(name) for name in options.rows or rows_of.row_names()]
    names = [row.name for row in asked]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"--rows: {', '.join(twice)} more than once (a file's row has its name without .yaml)")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: there is a file of that name")
    for row in asked:
        if flag := rows_of.replaced(row, flags):
            raise ConfigError(f"{flag} replaces what the row {row.name} changes; name the rows it goes with in --rows")
    runs = [
        ablation.plan_run(row, seed, out, ablation.fit_arguments(configs, row, flags))
        for seed in dict.fromkeys(options.seeds)  # seed by seed, so that there is a whole table early
        for row in asked
    ]
    if options.launcher == "local" and any(run.result() is None for run in runs):
        launchers.warm_up(["poolformer.cli.training", "torch.utils.tensorboard"])  # beside our own imports

    rows, unfit = _that_fit(asked, runs, ablation.fit_arguments(configs, rows_of.Row(rows_of.BASE), flags))
    runs = [run for run in runs if run.row not in unfit]
    _print_reasons("left out, as they do not fit:", unfit)
    if not rows:
        raise ConfigError("no row fits")
    if options.launcher == "local":
        check_start([run for run in runs if run.result() is None])
    failures = {**(unfit if options.rows else {}), **_train(runs, rows, out, options)}
    _report(_lines(rows, runs), runs, failures, out)
    return 1 if failures else 0


def split_flags(argv: list[str]) -> tuple[list[str], list[str]]:
    """Return a command's own arguments, and those behind '--' that go to every fit."""
    end = argv.index("--") if "--" in argv else len(argv)
    return argv[:end], argv[end + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "poolformer ablate",
        usage="poolformer ablate [options] [-- FLAGS FOR EVERY FIT]",
        description=inspect.getdoc(main),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    rows = ", ".join(rows_of.row_names())
    parser.add_argument(
        "--config", action="append", metavar="BASE", help="base; repeat to lay one over another (digits)"
    )
    parser.add_argument("--rows", nargs="+", metavar="ROW", help=f"all that fit by default: {rows}; YAML files; mixers")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="seeds of each row (0)")
    parser.add_argument("--out", type=local_folder, help="directory of all runs and the table (runs/ablation/BASE)")
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at once (1; on SLURM as many as it gives)")
    parser.add_argument("--launcher", choices=["local", "submitit"], default="local", help="this machine, or SLURM")
    parser.add_argument("--slurm", nargs="+", type=_parameter, default=[], metavar="KEY=VALUE", help="see above")
    return parser


def _parameter(text: str) -> tuple[str, int | str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return name, int(value) if value.isdecimal() and str(int(value)) == value else value  # account=007


def check_flags(flags: list[str]) -> None:
    """Check that flags may go to every fit.

    Raises:
        ConfigError: One of them says what the command itself says to each fit.
    """
    for flag in flags:
        if (name := flag.partition("=")[0]) in _OURS:
            raise ConfigError(f"{name} is not for every fit; use {_OURS[name]}")


def _check(options: argparse.Namespace, flags: list[str]) -> None:
    check_flags(flags)
    if options.jobs is not None and options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: at least one run at a time")
    if not all(0 <= seed < 2**32 for seed in options.seeds):
        raise ConfigError(f"--seeds {' '.join(map(str, options.seeds))}: integers from 0 to {2**32 - 1}")
    if options.slurm and options.launcher == "local":
        raise ConfigError("--slurm goes with --launcher submitit")


def _that_fit(asked: list["Row"], runs: list["Run"], base_arguments: list[str]) -> tuple[list["Row"], dict[str, str]]:
    """Return the rows whose model can be built, and why the others' cannot.

    Raises:
        PoolformerError: The base is wrong, and so is every row; or a run was made with other settings.
    """
    from ..cli.training import settings  # 5 s

    base = settings("fit", base_arguments)
    rows, unfit = [], {}
    for row in asked:
        of_row = [run for run in runs if run.row == row.name]
        try:
            now = settings("fit", list(of_row[0].arguments))
            ablation.check_builds(now)
        except PoolformerError as error:
            unfit[row.name] = one_line(error)
            continue
        for run in of_row:
            ablation.check_settings(run, now)
        rows.append(rows_of.as_in_paper(row, base) if row == rows_of.Row(rows_of.BASE) else row)
    if not rows and (reason := _unfit(base)) in unfit.values():
        raise ConfigError(reason)  # of the base, and so of every row
    return rows, unfit


def _unfit(settings: dict[str, Any]) -> str | None:
    try:
        ablation.check_builds(settings)
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


def _train(runs: list["Run"], rows: list["Row"], out: Path, options: argparse.Namespace) -> dict[str, str]:
    """Train what is not finished; return why runs failed, by their names."""
    from .table import duration

    todo = [run for run in runs if run.result() is None]
    print(f"runs in {out}: {len(runs)}, finished before: {len(runs) - len(todo)}", flush=True)
    if todo:
        print(f"look at them  tensorboard --logdir {quoted(out)}", flush=True)
    failures, done = {}, 0

    def report(index: int, failure: str | None) -> None:
        nonlocal done
        done += 1
        run = todo[index]
        if failure:
            failures[f"{run.row} seed {run.seed}"] = failure
        result = None if failure else run.result()
        said = f"{100 * result.top1:.2f} % after {duration(result.train_s)}" if result else f"failed: {failure}"
        print(f"[{done}/{len(todo)}] {run.row} seed {run.seed}: {said}", flush=True)
        _write(_lines(rows, runs), out)

    if options.launcher == "local":
        launchers.run_here(ablation.train, todo, at_once=options.jobs or 1, report=report)
    elif todo:
        launchers.run_on_cluster(
            ablation.train,
            todo,
            folder=out / "slurm",
            parameters=dict(options.slurm),
            at_once=options.jobs,
            report=report,
        )
    return failures


def _lines(rows: list["Row"], runs: list["Run"]) -> list["Line"]:
    from .table import Line

    found = [(run.row, run.seed, run.result()) for run in runs]
    lines = []
    for row in rows:
        done = [(seed, result) for name, seed, result in found if name == row.name and result]
        lines.append(Line(row, tuple(result for _, result in done), tuple(seed for seed, _ in done)))
    return lines


def _write(lines: list["Line"], out: Path) -> str:
    """Write the table as it is now; return what table.md says."""
    from .table import differences, markdown, rank_correlation, write_csv

    text = f"{markdown(lines)}\n\nours: val/top1 after the last epoch, mean ± standard deviation over n seeds"
    if found := rank_correlation(lines):
        interval = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
        text += (
            f"\nSpearman's rank correlation with the paper over {found.rows} rows of mixers: {found.rho:.2f}{interval} "
            f"(p = {found.p:.2g}); {found.pairs_right} of {found.pairs} pairs that differ there are ordered as there"
        )
    if len(devices := sorted({result.devices for line in lines for result in line.results})) > 1:
        text += (
            f"\nnot under equal conditions: runs on {' and '.join(map(str, devices))} devices, whose number scales "
            "the batch and the learning rate"
        )
    if apart := differences(lines):
        text += f"\n\n{apart}"
    if warned := _warnings(lines):
        text += f"\n\nwarned of:\n{warned}"
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "table.md", "w", encoding="utf-8") as file:
        file.write(f"{text}\n")
    write_csv(lines, out / "table.csv")
    return text


def _warnings(lines: list["Line"]) -> str:
    """Return what runs warned of, each text once with the rows that it is of."""
    rows: dict[str, dict[str, None]] = {}
    for line in lines:
        for result in line.results:
            for text in result.warnings or []:
                rows.setdefault(text, {})[line.row.name] = None
    trained = [line.row.name for line in lines if line.results]
    named = {text: "all rows" if len(names) == len(trained) > 1 else ", ".join(names) for text, names in rows.items()}
    return "\n".join(f"- {names}: {text}" for text, names in named.items())


def _report(lines: list["Line"], runs: list["Run"], failures: dict[str, str], out: Path) -> None:
    print(f"\n{_write(lines, out)}")
    written = [str(out / "table.md"), str(out / "table.csv")]
    try:
        written += _draw(lines, runs, out)
    except PoolformerError as error:  # a table without figures is worth as much
        print(f"\n{one_line(error)}")
    print("\nwritten", *written)
    if len(failures) == len(lines) > 1 and len(set(failures.values())) == 1:
        failures = {"all": next(iter(failures.values()))}
    _print_reasons("failed:", failures)


def _draw(lines: list["Line"], runs: list["Run"], out: Path) -> list[str]:
    """Draw what is finished; return the files, those of one figure in one word."""
    from . import figures

    if not any(line.results for line in lines):
        return []
    title = f"{out.name}: {_trained(lines)}"
    finished: dict[str, list[Path]] = {}
    for run in runs:
        if run.result() is not None:
            finished.setdefault(run.row, []).append(run.directory)
    files = [*figures.draw(lines, out, title=title), *figures.draw_learning(lines, finished, out, title=title)]
    kinds: dict[Path, list[str]] = {}
    for file in files:
        kinds.setdefault(file.with_suffix(""), []).append(file.suffix[1:])
    return [f"{file}.{{{','.join(own)}}}" for file, own in kinds.items()]


def _trained(lines: list["Line"]) -> str:
    """Return for how long and how often rows were trained: ``80 epochs, 3 seeds``."""
    epochs = sorted({result.epochs for line in lines for result in line.results})
    seeds = len({seed for line in lines for seed in line.seeds})
    spans = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    return f"{spans} epoch{'s' * (spans != '1')}, {seeds} seed{'s' * (seeds != 1)}"


def _print_reasons(title: str, reasons: dict[str, str]) -> None:
    if reasons:
        print(f"\n{title}", *(f"{name}: {reason}" for name, reason in reasons.items()), sep="\n  ", flush=True)
