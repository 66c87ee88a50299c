"""`poolformer bench report`: what a GPU, or another device, makes of this package, in one page.

The parts are commands of their own, so that one that fails or hangs costs its own figures alone; what is measured is
kept, and the same command again measures what is missing.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..commands.arguments import CommandParser, number, side
from ..errors import ConfigError, describe
from ..files.atomic_write import atomic_write

_BACKBONES = {
    "poolformer_s12": True,
    "poolformer_s36": True,
    "poolformer_m48": True,
    "poolformerv2_s12": False,
    "timm/caformer_s18": False,
}
"""Networks of the report, and whether there are fused operators for their blocks."""
_VARIANTS = ("", "channels_last", "channels_last+compile", "channels_last+max_autotune")
_FUSED = (
    "channels_last+graphs",
    "channels_last+fused",
    "channels_last+fused+compile",
    "channels_last+fused+graphs",
)
_KINDS = ("kernels", "host", "model", "train", "fit", "profile")
_CLASSES, _IMAGES = 4, 2048
_STEPS = 100
_PACKED = "images.beton"
_count = number(int, "an integer from 1 up", least=1)


class Part(NamedTuple):
    """One of the measurements.

    Attributes:
        name: How its file is called.
        command: Arguments of Python.
        limit_s: Seconds after which it is given up.
        reads_images: Whether it trains from the packed file of the report.
    """

    name: str
    command: list[str]
    limit_s: int = 300
    reads_images: bool = False


def main(argv: list[str]) -> int:
    """Measure kernels, networks, training from files and a step's profile, and write a page and its numbers.

    Restarted, it measures what is missing in --out. The parts: kernels (their tests, in a checkout), host, model and
    train (as 'poolformer bench host', 'model' and 'train'), fit (images/s from packed files, beside those of the
    network alone), and profile (the operators of a step).

      poolformer bench report --out runs/report
    """
    options = _parser().parse_args(argv)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for part in [part for part in _parts(options, out) if options.parts is None or _kind(part) in options.parts]:
        if _measured_with(out / f"{part.name}.json") != part.command:
            _measure(part, out, options)
    files = [path for path in sorted(out.glob("*.json")) if path.stem.partition("-")[0] in _KINDS]
    parts = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    if not parts:
        raise ConfigError(f"nothing could be measured in '{out}'")
    page, device = _page(parts), re.sub(r"\W+", "-", _device(parts)).strip("-").lower()
    with atomic_write(out / f"speed-{device}.md") as unfinished:
        unfinished.write(page.encode())
    print(f"{page}\nFiles: {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "poolformer bench report", description=main.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="runs/report", help="folder of the page and its numbers (%(default)s)")
    parser.add_argument("--parts", nargs="+", choices=_KINDS, help="(all)")
    parser.add_argument("--backbones", nargs="+", default=list(_BACKBONES), metavar="NAME", help="(%(default)s)")
    parser.add_argument("--variants", nargs="+", metavar="HOW", help="as behind a candidate's colon (all that fit)")
    parser.add_argument("--batch_size", type=_count, default=128, help="images of a step (%(default)s)")
    parser.add_argument("--image_size", type=side, default=224, help="side of the images in pixels (%(default)s)")
    parser.add_argument("--rounds", type=_count, default=9, help="turns of each candidate (%(default)s)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16", help="(%(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda", help="(%(default)s)")
    return parser


def _measured_with(file: Path) -> list[str] | None:
    """Return the command that has measured a part; None where none has."""
    return json.loads(file.read_text(encoding="utf-8")).get("command") if file.is_file() else None


def _kind(part: Part) -> str:
    return part.name.partition("-")[0]


def _parts(options: argparse.Namespace, out: Path) -> Iterator[Part]:
    tests = Path(__file__).parents[2] / "tests"
    if tests.is_dir():
        yield Part("kernels", ["-m", "pytest", "-q", "-m", "gpu", str(tests / "kernels"), str(tests / "data")])
    yield Part("host", ["-m", "poolformer", "bench", "host", "--json"])
    sizes = [f"--{name}={getattr(options, name)}" for name in ("batch_size", "image_size", "rounds", "precision")]
    for subject in ("train", "model"):
        for backbone in options.backbones:
            variants = options.variants or [*_VARIANTS, *(_FUSED if _BACKBONES.get(backbone) else ())]
            candidates = [f"{backbone}:{variant}" if variant else backbone for variant in variants]
            command = ["-m", "poolformer", "bench", subject, *candidates, *sizes, f"--device={options.device}"]
            yield Part(f"{subject}-{backbone.replace('/', '-')}", [*command, "--json"])
    yield Part("fit", [*_fit(options, out), "--trainer.default_root_dir", str(out / "fit")], reads_images=True)
    profiler = {"dirpath": str(out / "profile"), "filename": "profile", "row_limit": 25}
    profiler = {"class_path": "lightning.pytorch.profilers.PyTorchProfiler", "init_args": profiler}
    words = ["--trainer.max_steps", "20", "--trainer.profiler", json.dumps(profiler)]
    command = [*_fit(options, out), *words, "--trainer.default_root_dir", str(out / "profiled")]
    yield Part("profile", command, reads_images=True)


def _fit(options: argparse.Namespace, out: Path) -> list[str]:
    data = str(out / _PACKED)
    return [
        *("-m", "poolformer", "fit", "--config", "s12", "--model.backbone", options.backbones[0]),
        *("--data.train", data, "--data.val", data, "--data.image_size", str(options.image_size)),
        *("--data.batch_size", str(options.batch_size), "--model.num_classes", str(_CLASSES)),
        *("--trainer.accelerator", "gpu" if options.device == "cuda" else "cpu", "--trainer.devices", "1"),
        *("--trainer.max_steps", str(_STEPS), "--trainer.limit_val_batches", "1", "--trainer.log_every_n_steps", "10"),
        *("--trainer.enable_progress_bar", "false", "--model.warmup_epochs", "0"),
        *("--trainer.precision", "bf16-mixed" if options.precision == "bf16" else "32-true"),
    ]


def _pack(out: Path, options: argparse.Namespace) -> None:
    """Write a packed file of noise, as many images as a few steps take."""
    packed = out / _PACKED
    if packed.is_file():
        return
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for image in range(max(options.batch_size, min(_IMAGES, 16 * options.batch_size))):
        folder = out / "images" / f"class_{image % _CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (25, 34, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((400, 300)).save(folder / f"{image}.JPEG", quality=90)
    subprocess.run([sys.executable, "-m", "poolformer", "pack", str(out / "images"), str(packed)], check=True)


def _measure(part: Part, out: Path, options: argparse.Namespace) -> None:
    print(f"{part.name} ...", flush=True)
    started = time.monotonic()
    try:
        if part.reads_images:
            _pack(out, options)
        done = subprocess.run([sys.executable, *part.command], capture_output=True, text=True, timeout=part.limit_s)
    except subprocess.TimeoutExpired:
        print(f"{part.name}: given up after {part.limit_s} s")
        return
    except subprocess.CalledProcessError as error:
        print(f"{part.name}: there are no images to train on ({error})")
        return
    if done.returncode:
        print(f"{part.name}: {_last_line(done)}")
        return
    seconds = round(time.monotonic() - started, 1)
    try:
        found = {"command": part.command, "seconds": seconds, **_found(_kind(part), done.stdout, out)}
    except (ValueError, KeyError, IndexError, StopIteration) as error:
        print(f"{part.name}: its figures are not where they were expected ({describe(error)})")
        return
    with atomic_write(out / f"{part.name}.json") as unfinished:
        unfinished.write(json.dumps(found, indent=1).encode())


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}".strip().splitlines()[-1]


def _found(kind: str, printed: str, out: Path) -> dict[str, Any]:
    if kind in ("train", "model", "host"):
        return dict(json.loads(printed))
    if kind == "kernels":
        return {"tests": printed.strip().splitlines()[-1]}
    if kind == "profile":
        return {"table": next((out / "profile").glob("*.txt")).read_text(encoding="utf-8")}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(out / "fit"))
    events.Reload()
    return {"images_per_s": statistics.median(each.value for each in events.Scalars("throughput/images_per_s"))}


def _device(parts: dict[str, Any]) -> str:
    return next((str(part["machine"]["device"]) for part in parts.values() if "machine" in part), "device")


def _page(parts: dict[str, Any]) -> str:
    lines = [f"# Speed on {_device(parts)}"]
    for part in [part for part in parts.values() if "machine" in part][:1]:
        machine, options = part["machine"], part["options"]
        lines += [
            f"\ntorch {machine['torch']}: {machine['flops'] / 1e12:,.1f} TFLOP/s, {machine['bytes'] / 1e9:,.0f} GB/s; "
            f"{options['precision']}, {options['batch_size']} images a step of {options['image_size']} pixels."
        ]
    for subject, title in (("train", "Training"), ("model", "Inference")):
        rows = [row for name, part in parts.items() if name.startswith(f"{subject}-") for row in part["results"]]
        if rows:
            lines += [f"\n## {title}\n", "| network | images/s | of the first | error | share of the limit | peak |"]
            lines += ["|---|---|---|---|---|---|", *map(_row, rows)]
    if "fit" in parts:
        lines += [f"\n## From files\n\n`poolformer fit`: {parts['fit']['images_per_s']:,.0f} images/s."]
    if "host" in parts:
        ms = ", ".join(f"{way} {found:.2f} ms" for way, found in parts["host"]["host_ms"].items())
        lines += [f"\n## Launching a block, forward and backward\n\n{parts['host']['processor']}: {ms}"]
    if "kernels" in parts:
        lines += [f"\n## Kernels\n\nTheir tests: {re.sub('=+', '', parts['kernels']['tests']).strip()}"]
    if "profile" in parts:
        lines += ["\n## A step\n\n```", parts["profile"]["table"].rstrip(), "```"]
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> str:
    peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.1f} GiB"
    cells = (
        f"{row['images_per_s']:,.0f}",
        f"{row['median']:.2f}",
        f"{row['error']:.0e}",
        f"{row['of_limit']:.0%}",
        peak,
    )
    return f"| {row['candidate']} | {' | '.join(cells)} |"
