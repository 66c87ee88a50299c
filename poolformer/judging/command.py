"""`poolformer judge`."""

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path

from .. import first_word
from ..ablation import launchers
from ..ablation.arguments import add_tries, check_flags, split_flags
from ..ablation.grid import read_grid
from ..ablation.rows import BASE, Row
from ..ablation.runs import IMPORTED, fit_arguments
from ..ablation.tries import Choice
from ..cli import early
from ..commands.arguments import CommandParser, local_folder, number
from ..configs import protocol_names
from ..errors import ConfigError
from . import rows as rows_of
from .jobs import Job, finish
from .protocols import Protocol, find_protocol
from .rows import Judged

_seed = number(int, f"an integer from 0 to {2**32 - 1}", least=0, most=2**32 - 1)
_at_once = number(int, "an integer from 1 up", least=1)

Done = tuple[Sequence[Job], dict[str, str], dict[tuple[str, str], float], Sequence[Choice]]
"""What is finished, why the rest failed by its titles, how fast the rows are, and what was chosen for them."""


def main(argv: list[str]) -> int:
    """Judge a token mixer: is it better than pooling, the identity, attention, by how much, and what can it mix?

    MIXER is what --model.mixer takes: a name of 'poolformer mixers', a mapping such as '{name: depthwise,
    kernel_size: 5}', package.module:factory of a file of your own; or an overlay, by its name in configs/ablation or
    its file. A protocol trains it beside reference rows (identity, pooling, depthwise, attention, a random matrix) with
    several seeds, and one page says what came of it: OUT/judge.md, OUT/judge.html (opens anywhere, also without
    network) and OUT/judge.json.

    The protocol 'probes' needs no data and takes minutes: small tasks made by a seed. Protocols of fits train networks
    by 'poolformer fit', which takes minutes on a GPU and hours without; what stands behind '--' goes to every fit, and
    has to say where the images are. A protocol is a file of a few lines; --protocol also takes one of your own.

    A mixer that cannot be built, changes the shape or gives NaN is told in seconds, before anything is trained. The
    same command again trains only what is missing, also after Ctrl-C. Without --out, reference rows are kept in
    runs/judge/PROTOCOL/rows for the next mixer, which then takes a fraction of the time. Options are compared, not
    code: delete the row's folder after changing a mixer.

      poolformer judge attention
      poolformer judge depthwise --options kernel_size=5 --seeds 0 1 2 3 4
      poolformer judge my_file:MyMixer --jobs 4 --out runs/my_mixer
      poolformer judge hybrid-pppa --protocol my_protocol.yaml -- --data.train train.beton --data.val val.beton

    --try model.lr=1e-3,2e-3,4e-3 (or 'tries' in the protocol's file) tunes every row of fits alike, as in 'poolformer
    ablate': the best value on a held-out part of the training images is chosen for each row, and the page says which.

    The exit code is 1 where a training failed; the page then says which, and why.
    """
    own, flags = split_flags(argv)
    options = _parser().parse_args(own)
    check_flags(flags)
    return _judge(options, flags, argv)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "poolformer judge",
        usage="poolformer judge MIXER [options] [-- FLAGS FOR EVERY FIT]",
        description=inspect.getdoc(main),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    known = ", ".join(protocol_names())
    parser.add_argument("mixer", metavar="MIXER", help="a mixer, its mapping, or an overlay")
    parser.add_argument("--options", nargs="+", default=[], metavar="NAME=VALUE", help="of the mixer: kernel_size=5")
    parser.add_argument("--protocol", default="probes", metavar="NAME", help=f"{known}, or a file (probes)")
    parser.add_argument("--seeds", nargs="+", type=_seed, metavar="N", help="seeds of each row (the protocol's)")
    parser.add_argument("--jobs", type=_at_once, default=2, metavar="N", help="trainings at once, a thread each (2)")
    add_tries(parser)
    parser.add_argument("--out", type=local_folder, help="folder of the page (runs/judge/PROTOCOL/MIXER)")
    return parser


def _judge(options: argparse.Namespace, flags: list[str], argv: Sequence[str]) -> int:
    protocol = find_protocol(options.protocol)
    if flags and protocol.kind == "probes":
        raise ConfigError(f"{flags[0]}: the protocol {protocol.name} has no fits that flags behind '--' could go to")
    if options.tries and protocol.kind == "probes":
        raise ConfigError(f"--try {options.tries[0]}: the protocol {protocol.name} has no fits to tune")
    if protocol.kind == "fits":
        base = fit_arguments(protocol.config, Row(BASE), [*protocol.flags, *flags])
        grid = read_grid(options.tries, share=options.try_share, seeds=[0])
        early.refuse("fit", base, [point.flags for point in grid.points] if grid else [])
    first_word.say(f"judge {options.mixer}")
    judged = rows_of.find_judged(options.mixer, options.options)
    rows = rows_of.all_rows(judged, rows_of.reference_rows(protocol))
    seeds = list(dict.fromkeys(options.seeds or protocol.seeds))
    out, folder = _folders(options.out, protocol, rows[0])
    launchers.warm_up(IMPORTED if protocol.kind == "fits" else ["poolformer.judging.probe"])
    if protocol.kind == "probes":
        jobs, failures, speeds, choices = _probes(protocol, rows, seeds, folder, options.jobs)
    else:
        jobs, failures, speeds, choices = _fits(protocol, rows, seeds, folder, flags, options)

    from . import page
    from .surroundings import surroundings

    outcomes = [outcome for job in jobs if (outcome := job.outcome())]
    around = surroundings(argv, train_s=sum(one.train_s for one in outcomes), jobs=options.jobs)
    found = page.Page(protocol, rows, seeds, outcomes, speeds, failures, around, choices)
    print(f"\n{found.sentence()}\n\nwritten", *page.write(found, out))
    for title, reason in failures.items():
        print(f"failed: {title}: {reason}")
    return 1 if failures else 0


def _folders(out: Path | None, protocol: Protocol, judged: Judged) -> tuple[Path, Path]:
    """Return where the page goes, and where what is trained is kept."""
    if out is None:
        shared = Path("runs", "judge", protocol.name)
        return shared / judged.slug, shared / "rows"
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: there is a file of that name")
    return out, out / "rows"


def _probes(protocol: Protocol, rows: Sequence[Judged], seeds: Sequence[int], folder: Path, at_once: int) -> Done:
    from . import cells, speed

    planned = cells.plan(protocol, [rows_of.for_probes(row) for row in rows], seeds, folder)
    unfit: dict[str, str] = {}
    if any(cell.outcome() is None for cell in planned if cell.row == rows[0].name):
        from .probe import check_mixer_works

        sides = {side for each in cells.tasks_of(protocol).values() for side in each}
        for side, reason in check_mixer_works(rows[0].mixer, cells.settings_of(protocol), sides).items():
            unfit[f"{rows[0].name}, {side}x{side}"] = reason
            _say(f"{reason}; it is judged without this side")
            planned = [cell for cell in planned if (cell.row, cell.side) != (rows[0].name, side)]
    folder.mkdir(parents=True, exist_ok=True)  # a place that cannot be written to is told before anything is trained
    failures = {**unfit, **finish(planned, cells.train, at_once=at_once, say=_say)}
    finished = [cell for cell in planned if cell.title not in failures]
    _say("measuring how fast the rows are, with nothing beside it")
    return finished, failures, speed.of_cells(finished, folder, say=_say), []


def _fits(
    protocol: Protocol,
    rows: Sequence[Judged],
    seeds: Sequence[int],
    folder: Path,
    flags: Sequence[str],
    options: argparse.Namespace,
) -> Done:
    from . import fits, speed

    judged, at_once = rows[0].name, options.jobs
    flags = [*(["--num_threads", "1"] if at_once > 1 else []), *flags]
    try_seeds = options.try_seeds or list(seeds)[:1]
    grid = fits.grid_of(protocol, options.tries, rows, flags, share=options.try_share, seeds=try_seeds)
    planned = fits.check(fits.plan(protocol, rows, seeds, folder, flags), judged, chosen=not grid)
    if any(fit.outcome() is None for fit in planned if fit.row == judged):
        speed.check_mixes(planned[0])
    choices: dict[str, Choice] = {}
    untuned: dict[str, str] = {}
    if grid:
        fitting = [row for row in rows if any(fit.row == row.name for fit in planned)]
        choices, untuned = fits.tune(protocol, fitting, grid, folder, flags, at_once=at_once, say=_say)
        tuned = [row for row in fitting if row.name in choices]
        planned = fits.check(fits.plan(protocol, tuned, seeds, folder, flags, choices), judged)
    failures = {**untuned, **finish(planned, fits.train, at_once=at_once, say=_say)}
    finished = [fit for fit in planned if fit.title not in failures]
    _say("measuring how fast the rows are, with nothing beside it")
    return finished, failures, speed.of_fits(finished, folder, say=_say), list(choices.values())


def _say(line: str) -> None:
    print(line, flush=True)
