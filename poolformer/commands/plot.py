"""`poolformer plot`."""

import argparse
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import ConfigError
from ..plots import runs as plotted
from ..plots.curves import draw_curves
from ..plots.paper import FORMATS, write
from .arguments import CommandParser, local_folder

_BASE = "base"  # the row of that name in an ablation


def main(argv: list[str]) -> int:
    """Draw the learning curves of runs in one figure, as far as they have come.

    RUN is a run's directory, or a folder with runs somewhere below it, as that of an ablation. Runs of one
    configuration that differ in their seeds are one line, their mean, in a band from the lowest to the highest seed.
    Of metrics any that TensorBoard shows can be drawn, train/loss too; a wrong name lists them. It needs
    pip install 'poolformer-lightning[plots]'.

      poolformer plot runs/digits
      poolformer plot runs/ablation/digits --out curves.pdf
      poolformer plot runs/pooling runs/mine --metric val/loss --out loss.svg --title "Pooling and mine"
    """
    options = _parser().parse_args(argv)
    if options.out.suffix[1:].lower() not in FORMATS:
        raise ConfigError(f"--out {options.out}: the name ends in one of .{', .'.join(FORMATS)}")
    if options.out.is_dir():
        raise ConfigError(f"--out {options.out}: there is a folder of that name")
    found = plotted.find_runs(options.run)
    having = plotted.with_metric(found, options.metric)
    groups = plotted.grouped(having)
    rows, along = plotted.series(groups, options.metric, baseline=_BASE)
    unit = ", %" if plotted.in_percent(options.metric) else ""
    figure = draw_curves(
        rows,
        title=options.title or options.metric,
        x_label=along,
        y_label=f"{options.metric}{unit}",
        digits=1 if unit else 3,
    )
    write(figure, [options.out])
    _say(groups, [run.directory for run in found if not run.scalars.get(options.metric)], options.metric)
    print(options.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "poolformer plot",
        description=inspect.getdoc(main),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "run", metavar="RUN", nargs="+", type=local_folder, help="directories of runs, or folders of them"
    )
    parser.add_argument("--metric", default="val/top1", metavar="TAG", help="what is drawn (val/top1)")
    parser.add_argument(
        "--out", type=local_folder, default=Path("curves.png"), metavar="FILE", help=".png, .svg or .pdf (curves.png)"
    )
    parser.add_argument("--title", metavar="TEXT", help="above the figure (the metric)")
    return parser


def _say(groups: Mapping[str, Sequence[plotted.LoggedRun]], without: Sequence[Path], metric: str) -> None:
    width = max(map(len, groups))
    for name, runs in groups.items():
        seeds = [str(run.seed) for run in runs if run.seed is not None]
        said = f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}" if seeds else "one run"
        print(f"{name:{width}}  {said}")
    if without:
        print(f"left out, without {metric}: {', '.join(map(str, without))}")
