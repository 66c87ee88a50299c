"""List the backbones: trainable parameters, MACs at 224 pixels, and the paper's ImageNet top-1."""

import argparse
import json
from typing import Any

from .. import registry
from ..errors import PoolformerError

IMAGE_SIZE = 224


def main(argv: list[str]) -> int:
    """Print a row for each backbone of the installed packages; a broken one is named, not fatal."""
    parser = argparse.ArgumentParser(prog="poolformer models", description=__doc__)
    parser.add_argument("name", nargs="*", metavar="NAME", help="these alone; also timm/<model>")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    names = options.name or list(registry.listing(registry.BACKBONES))
    for name in options.name:
        if not name.startswith("timm/"):
            registry.find(registry.BACKBONES, name)
    rows = [_row(name) for name in names]
    print(json.dumps(rows, indent=2) if options.json else _table(rows))
    return 0


def _row(name: str) -> dict[str, Any]:
    import torch  # 2 s

    from ..backbones import PAPER_TOP1, create_backbone
    from ..complexity import count

    row: dict[str, Any] = {"name": name, "origin": _origin(name), "paper_top1": PAPER_TOP1.get(name)}
    try:
        with torch.device("meta"):  # counted, not computed
            size = count(create_backbone(name, image_size=IMAGE_SIZE), image_size=IMAGE_SIZE)
    except PoolformerError as error:
        return {**row, "error": str(error)}
    return {**row, "parameters": size.parameters, "macs": size.macs}


def _origin(name: str) -> str:
    if name.startswith("timm/"):
        return "timm"
    return registry.find(registry.BACKBONES, name).origin


def _table(rows: list[dict[str, Any]]) -> str:
    header = ("backbone", "parameters", "MACs", "paper's top-1", "package")
    lines = [header]
    for row in rows:
        cost = ("cannot be built", "") if "error" in row else (f"{row['parameters']:,}", f"{row['macs'] / 1e9:.3f} G")
        top1 = f"{row['paper_top1']} %" if row["paper_top1"] else ""
        lines.append((row["name"], *cost, top1, row["origin"]))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(_cell(c, w, i) for i, (c, w) in enumerate(zip(line, widths, strict=True))) for line in lines]
    errors = [f"\n{row['error']}" for row in rows if "error" in row]
    note = f"\nMACs at {IMAGE_SIZE} x {IMAGE_SIZE}. Also --model.backbone timm/<model> for any model of timm."
    return "\n".join([*text, *errors, note])


def _cell(text: str, width: int, column: int) -> str:
    return f"{text:<{width}}" if column in (0, 4) else f"{text:>{width}}"
