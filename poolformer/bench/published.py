"""`poolformer validate-published`."""

import argparse
import inspect
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import first_word
from ..checkpoint.published import is_published, published
from ..commands.arguments import CommandParser, local_folder
from ..errors import CheckpointError, ConfigError, causes, one_line
from ..files.atomic_write import atomic_write

_NOT_OF_THE_FAMILY = ("resmlp_b24",)
_SIZES = ("s18", "s36", "m36", "b36")
# arXiv 2210.13452, tables 4 and 5: ImageNet-1k top-1 at 384 pixels, and after ImageNet-21k at 224 and 384.
_AT_384 = {"convformer": (84.4, 85.4, 85.6, 85.7), "caformer": (85.0, 85.7, 86.2, 86.4)}
_OF_21K = {"convformer": (83.7, 85.4, 86.1, 87.0), "caformer": (84.1, 85.8, 86.6, 87.4)}
_OF_21K_AT_384 = {"convformer": (85.0, 86.4, 86.9, 87.6), "caformer": (85.4, 86.9, 87.5, 88.1)}
_MEASURED = "published.json"


class Row(NamedTuple):
    """Published weights, and what their paper says of them."""

    name: str
    """As timm calls them."""
    backbone: str
    paper: float
    """Top-1 on ImageNet-1k's validation images, in percent."""
    at_384: bool = False
    of_21k: bool = False
    """Whether they were trained on ImageNet-21k before."""


def main(argv: list[str]) -> int:
    """Measure published weights beside the papers' numbers, in one table.

    Every network of both papers, ConvFormer and CAFormer also at 384 pixels and after ImageNet-21k. Weights come from
    the files in --weights, told by their names, such as poolformer_s12.pth.tar or caformer_s18_384_in21ft1k.pth;
    otherwise timm downloads them. Where that fails, the table says so in that row. What is measured is kept in
    published.json below --out and not measured again, unless --weights has another file of it. One device evaluates.

    All other options are those of 'poolformer validate'; --data.val is needed, a folder of class folders or a .beton.

      poolformer validate-published --data.val imagenet/val
      poolformer validate-published --data.val imagenet-r --data.label_map subset --out runs/published-r
      poolformer validate-published --rows poolformer_s12 caformer_s18 --weights downloads --data.val val.beton
    """
    parser = CommandParser(
        "poolformer validate-published",
        usage="poolformer validate-published --data.val DIR [options] [OPTIONS OF VALIDATE]",
        description=inspect.getdoc(main),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--rows", metavar="NAME", nargs="+", help="these alone; all of a backbone, or one as timm calls it"
    )
    parser.add_argument("--weights", metavar="DIR", type=local_folder, help="folder of files of weights")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=local_folder,
        default=Path("runs/published"),
        help="folder to write (runs/published)",
    )
    options, flags = parser.parse_known_args(argv)
    if not any(word.partition("=")[0] == "--data.val" for word in flags):
        raise ConfigError("validate-published needs images: pass --data.val DIR")
    if several := [word for word in flags if word.partition("=")[0] in ("--trainer.devices", "--trainer.num_nodes")]:
        raise ConfigError(f"validate-published {several[0]}: one device evaluates each network; leave it out")
    first_word.say("validate-published", "PyTorch and Lightning", "lightning")
    rows = _chosen(options.rows)
    sources = _sources(options.weights, rows)
    measured = _kept(options.out / _MEASURED, flags)
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        source = sources.get(row.name)
        if row.name not in measured or (source is not None and measured[row.name].get("source") != source):
            try:
                measured[row.name] = _measure(row, source, options.out, flags)
            except CheckpointError as error:
                found[row.name] = {"error": one_line(error)}
                _stay_offline(error)
                continue
            _keep(options.out / _MEASURED, flags, measured)
        found[row.name] = measured[row.name]
    print(*table(rows, found), sep="\n")
    return 0


def family() -> list[Row]:
    """Return the rows of both papers."""
    from ..sizes import PAPER_TOP1

    rows = [Row(name, name, top1) for name, top1 in PAPER_TOP1.items() if name not in _NOT_OF_THE_FAMILY]
    for tops, tag, at_384, of_21k in (
        (_AT_384, "sail_in1k_384", True, False),
        (_OF_21K, "sail_in22k_ft_in1k", False, True),
        (_OF_21K_AT_384, "sail_in22k_ft_in1k_384", True, True),
    ):
        for kind, each in tops.items():
            named = ((f"{kind}_{size}", top1) for size, top1 in zip(_SIZES, each, strict=True))
            rows += [Row(f"{name}.{tag}", name, top1, at_384, of_21k) for name, top1 in named]
    return rows


def _chosen(names: Sequence[str] | None) -> list[Row]:
    rows = family()
    if names is None:
        return rows
    known = {row.name for row in rows}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"--rows {unknown[0]}: there are {', '.join(sorted(known))}")
    # A name alone is the network as it was first published, and of it all.
    return [row for row in rows if row.name in names or row.backbone in names]


def _sources(folder: Path | None, rows: Sequence[Row]) -> dict[str, str]:
    """Return the files of a folder by the rows that their names say they are of.

    Raises:
        ConfigError: There is no such folder, or two files are of one row.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise ConfigError(f"--weights {folder}: there is no such folder")
    found: dict[str, str] = {}
    for path in sorted(map(str, folder.iterdir())):
        for row in rows if is_published(path) and os.path.isfile(path) else ():
            if _is_of(path, row):
                if row.name in found:
                    raise ConfigError(f"'{found[row.name]}' and '{path}' are both {row.name}: leave one of them there")
                found[row.name] = path
    return found


def _is_of(path: str, row: Row) -> bool:
    name = os.path.basename(path).lower()
    of_21k = re.search(r"in2[12]k?_?ft", name) is not None
    if not of_21k and re.search(r"in2[12]k", name):  # whose head is for 21841 classes
        return False
    try:
        found = published(path)
    except CheckpointError:
        return False
    return found.model["backbone"] == row.backbone and (found.image_size == 384, of_21k) == (row.at_384, row.of_21k)


def _measure(row: Row, source: str | None, out: Path, flags: Sequence[str]) -> dict[str, Any]:
    """Evaluate published weights; return the numbers of it."""
    from ..cli.training import run

    found = published(source or f"timm/{row.name}", row.backbone)
    named = {word.partition("=")[0] for word in flags}
    data = [] if "--data" in named else ["--data", "FFCVData"]  # which reads folders, too
    model = [f"--model.backbone={row.backbone}", f"--model.pretrained={found.source}"]
    fed: dict[str, Any] = {"--data.image_size": found.image_size, "--data.crop_pct": found.crop_pct}
    fed |= {"--trainer.default_root_dir": out / row.name, "--trainer.devices": 1}
    print(f"{row.name}: {found.source}", flush=True)
    cli = run("validate", [*data, *model, *(f"{name}={value}" for name, value in fed.items()), *flags])
    metrics = {name.removeprefix("val/"): float(value) for name, value in cli.trainer.callback_metrics.items()}
    return {"source": found.source, **metrics}


def _stay_offline(error: BaseException) -> None:
    """Have the hub answer from its cache alone once it could not be reached: each try takes half a minute."""
    if any(type(each).__name__ == "LocalEntryNotFoundError" for each in causes(error)):
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True


def _kept(path: Path, flags: Sequence[str]) -> dict[str, Any]:
    """Return what was measured before.

    Raises:
        ConfigError: It was by other options, or it is not ours.
    """
    if not path.exists():
        return {}
    try:
        saved = json.loads(path.read_bytes())
        options, rows = saved["options"], dict(saved["rows"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"'{path}' is not what validate-published writes: move it, or pass another --out") from error
    if options != list(flags):
        raise ConfigError(f"'{path}' was measured with {' '.join(map(str, options))}: pass these, or another --out")
    return rows


def _keep(path: Path, flags: Sequence[str], rows: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w", encoding="utf-8") as file:
        file.write(json.dumps({"options": list(flags), "rows": rows}, indent=1) + "\n")


def table(rows: Sequence[Row], found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table: the paper's top-1, the one measured, and how far it is from that.

    Args:
        rows: What was asked for.
        found: Of each by its name what `Row`'s evaluation measured, shares of 1; or an ``error``.
    """
    yield "| weights | top-1, paper | top-1, here | difference | top-5 | images |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        values = found[row.name]
        if "error" in values:
            yield f"| {row.name} | {row.paper:.1f} | {values['error'].replace('|', '/')} | | | |"
            continue
        top1, top5 = (100 * values[name] for name in ("top1", "top5"))
        images = f"{values['images']:,.0f}"
        yield f"| {row.name} | {row.paper:.1f} | {top1:.2f} | {top1 - row.paper:+.2f} | {top5:.2f} | {images} |"
