"""What stands below an ablation's table: how its numbers came about, and what to beware of."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..run.versions import versions
from .paired import FEW
from .table import Line, base_of, rank_correlation

_IMAGES = ("train", "val", "val_share")


def notes(lines: Sequence[Line], *, base: str | None = None, settings: Mapping[str, Any], command: str) -> list[str]:
    """Return the notes, a line each, for the whole table first.

    Args:
        lines: The rows of the table.
        base: Name of the row that the others' differences are to; the first by default.
        settings: Of the base configuration, as ``config.yaml`` holds them.
        command: That writes the table.
    """
    return [
        "ours: val/top1 after the last epoch, mean ± standard deviation over n seeds",
        *_compared(lines, base),
        "paper: top-1 of PoolFormer-S12 on ImageNet-1k, whatever ours is of",
        *_correlation(lines),
        *_devices(lines),
        f"data: {data_of(settings)}",
        f"epochs: {_epochs(lines)}",
        f"command: {command}",
        f"versions: {_versions(lines)}",
    ]


def _compared(lines: Sequence[Line], base: str | None) -> list[str]:
    to, most = base_of(lines, base), max((len(line.results) for line in lines), default=0)
    if to is None or len(lines) < 2 or not most:
        return []
    if most == 1:
        return [f"minus {to.row.name}: in points, of one seed, which has no interval: it cannot tell a difference"]
    few = f"; fewer than {FEW} seeds are few, and their intervals wide" if most < FEW else ""
    return [f"minus {to.row.name}: in points, paired by seed, with the 95 % interval of Student's t{few}"]


def _correlation(lines: Sequence[Line]) -> list[str]:
    if not (found := rank_correlation(lines)):
        return []
    interval = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return [
        f"Spearman's rank correlation with the paper over {found.rows} rows of mixers: {found.rho:.2f}{interval} "
        f"(p = {found.p:.2g}); {found.pairs_right} of {found.pairs} pairs that differ there are ordered as there"
    ]


def _devices(lines: Sequence[Line]) -> list[str]:
    if len(devices := sorted({result.devices for line in lines for result in line.results})) < 2:
        return []
    return [
        f"not under equal conditions: runs on {' and '.join(map(str, devices))} devices, whose number scales the batch "
        "and the learning rate"
    ]


def data_of(settings: Mapping[str, Any]) -> str:
    """Return which data some settings name, in a few words."""
    data = settings.get("data") or {}
    options = data.get("init_args") or {}
    given = [f"{name} {options[name]}" for name in _IMAGES if options.get(name) is not None]
    side = f", image_size {options['image_size']}" if options.get("image_size") else ""
    images = f" ({', '.join(given)})" if given else ""
    return f"{str(data.get('class_path')).rpartition('.')[2]}{images}{side}"


def _epochs(lines: Sequence[Line]) -> str:
    epochs = sorted({result.epochs for line in lines for result in line.results})
    return " and ".join(map(str, epochs)) or "-"


def _versions(lines: Sequence[Line]) -> str:
    found = list(dict.fromkeys(result.versions for line in lines for result in line.results if result.versions))
    if len(found) < 2:
        return found[0] if found else versions()
    return f"not the same for all runs: {'; '.join(found)}"


def warnings(lines: Sequence[Line]) -> list[str]:
    """Return what runs warned of, each text once with the rows that it is of."""
    rows: dict[str, dict[str, None]] = {}
    for line in lines:
        for result in line.results:
            for text in result.warnings or []:
                rows.setdefault(text, {})[line.row.name] = None
    trained = [line.row.name for line in lines if line.results]
    named = {text: "all rows" if len(names) == len(trained) > 1 else ", ".join(names) for text, names in rows.items()}
    return [f"{names}: {text}" for text, names in named.items()]
