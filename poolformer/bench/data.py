"""`poolformer bench data`."""

import argparse
import importlib.util
import inspect
import io
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from ..commands.arguments import CommandParser, local_path, share, side, threads
from ..errors import ConfigError, DataError
from ..signals import handling

if TYPE_CHECKING:
    from ..data.beton import Stored
    from ..data.images import ImageData


def main(argv: list[str]) -> int:
    """Measure how fast images are loaded: by this package, timm, torchvision, ffcv, and by decoding alone.

    SRC is a .beton file or a folder of class folders. All contestants take turns on the same images in one run; the
    best turn of each counts. core-ms is processor time an image, of all threads and processes together: unlike
    images/s it stays meaningful on a busy machine. Times include starting the workers, so give it a few hundred
    images at least. ffcv takes part where it is installed and SRC is a .beton file, as it is: its crops have other
    pixels, and it has no RandAugment, so our loader runs without it too.

      poolformer bench data train.beton
      poolformer bench data train400.beton --others imagenet/train
    """
    options = _parser().parse_args(argv)
    if min(options.images, options.rounds, options.batch_size) < 1:
        raise ConfigError("--images, --rounds and --batch_size: at least 1")
    contestants = _contestants(options)
    best: dict[str, dict[str, float]] = {}
    with _ending_at_once():
        for name, epoch in contestants.items():
            epoch()  # compiled kernels are loaded, files come into memory
            best[name] = {"images_per_s": 0.0, "core_ms": float("inf")}
        for _ in range(options.rounds):
            for name, epoch in contestants.items():
                images, wall_s, core_s = _timed(epoch)
                best[name]["images_per_s"] = max(best[name]["images_per_s"], images / wall_s)
                best[name]["core_ms"] = min(best[name]["core_ms"], 1000 * core_s / images)
    for name, figures in best.items():
        rival = "evaluation: timm" if name.startswith("evaluation") else "training: timm"
        figures["of_timm"] = figures["core_ms"] / best[rival]["core_ms"]
    _report(best, options)
    return 0


def _ending_at_once() -> AbstractContextManager[None]:
    """Have SIGTERM and Ctrl-C end this process and its workers there and then; there is nothing to clean up.

    An exception could come while PyTorch's loader holds the lock of a queue, which its own clean-up then waits for.
    """
    return handling({signal.SIGTERM: _end, signal.SIGINT: _end})


def _end(signum: int, frame: FrameType | None) -> None:
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(128 + signum)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "poolformer bench data", description=inspect.getdoc(main), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("src", type=local_path, help="a .beton file, or a folder of class folders")
    parser.add_argument("--others", type=local_path, help="the images for timm and torchvision; SRC by default")
    parser.add_argument("--images", type=int, default=1000, help="images a turn (SRC is repeated up to that)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--image_size", type=side, default=224)
    parser.add_argument("--crop_pct", type=share, default=0.9)
    parser.add_argument("--num_workers", type=threads, help="threads or processes; one a core by default")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _contestants(options: argparse.Namespace) -> dict[str, Callable[[], int]]:
    """What to measure: each runs once over the images and returns how many there were."""
    from ..data.threads import available_cores
    from . import baselines

    workers = options.num_workers or available_cores()
    sizes = {"image_size": options.image_size, "crop_pct": options.crop_pct}
    data = _data_module(options.src, options, sizes)
    files, other_files = _files(options.src, options.images), _files(options.others or options.src, options.images)

    def by_processes(transform: Callable) -> Callable[[], int]:
        dataset = baselines.Decoded(other_files, transform)
        return lambda: _count(baselines.with_processes(dataset, batch_size=options.batch_size, workers=workers))

    contestants = {
        "training: ours": lambda: _ours(data, options, training=True),
        "training: ours, kernels alone": lambda: _kernels(data, options, training=True),
        "training: timm": by_processes(baselines.timm_transform(**sizes, training=True)),
        "training: torchvision": by_processes(baselines.torchvision_transform(image_size=options.image_size)),
        "evaluation: ours": lambda: _ours(data, options, training=False),
        "evaluation: ours, kernels alone": lambda: _kernels(data, options, training=False),
        "evaluation: timm": by_processes(baselines.timm_transform(**sizes, training=False)),
    }
    if importlib.util.find_spec("ffcv") is not None and not Path(options.src).expanduser().is_dir():
        contestants |= _beside_ffcv(data, options, workers)
    if jpegs := baselines.jpegs_of(files):
        contestants["decoding alone"] = lambda: sum(1 for _ in baselines.decoding_alone(jpegs, workers=workers))
    return contestants


def _beside_ffcv(data: "ImageData", options: argparse.Namespace, workers: int) -> dict[str, Callable[[], int]]:
    """ffcv itself, and our loader with no more to do than ffcv has."""
    from .ffcv_loader import batches, stock_loader

    plain = _data_module(options.src, options, {"image_size": options.image_size, "auto_augment": None})

    def by_ffcv(*, training: bool) -> Callable[[], int]:
        loader = stock_loader(
            options.src,
            training=training,
            image_size=options.image_size,
            batch_size=options.batch_size,
            workers=workers,
        )

        def turn() -> int:
            seen = 0
            while seen < options.images:
                seen += _count(batches(loader))
            return seen

        return turn

    return {
        "training: ours, crop and flip": lambda: _ours(plain, options, training=True),
        "training: ffcv, crop and flip": by_ffcv(training=True),
        "evaluation: ffcv, other pixels": by_ffcv(training=False),
    }


def _data_module(src: str, options: argparse.Namespace, sizes: dict) -> "ImageData":
    from ..data import FFCVData, FolderData

    kind = FolderData if Path(src).expanduser().is_dir() else FFCVData
    data = kind(train=src, val=src, batch_size=options.batch_size, num_workers=options.num_workers, **sizes)
    data.setup("fit")
    try:
        data.train_dataloader()
    except DataError as error:
        raise DataError(str(error).replace("--data.batch_size", "--batch_size")) from error
    return data


def _files(src: str, count: int) -> list[bytes]:
    """`count` image files in memory; raw pixels become files without loss."""
    from ..data.beton import Beton
    from ..data.class_folders import FolderFiles

    path = Path(src).expanduser()
    if path.is_dir():
        folder = FolderFiles(path)
        return [folder.read(n % len(folder.names)) for n in range(count)]
    beton = Beton(path)
    return [_as_file(beton.read(n % len(beton))) for n in range(count)]


def _as_file(image: "Stored") -> bytes:
    from PIL import Image

    from ..data.beton import JPEG

    if image.mode == JPEG:
        return image.data.tobytes()
    buffer = io.BytesIO()
    Image.fromarray(image.data.reshape(image.height, image.width, 3)).save(buffer, "BMP")
    return buffer.getvalue()


def _ours(data: "ImageData", options: argparse.Namespace, *, training: bool) -> int:
    loader = data.train_dataloader() if training else data.val_dataloader()
    seen, epoch = 0, 0
    while seen < options.images:
        loader.set_epoch(epoch)
        seen, epoch = seen + _count(loader), epoch + 1
    return seen


def _kernels(data: "ImageData", options: argparse.Namespace, *, training: bool) -> int:
    """The same work in one thread, without batches."""
    import numpy as np

    from ..data.loader import CHUNK

    loader = data.train_dataloader() if training else data.val_dataloader()
    out = np.empty((CHUNK, 3, options.image_size, options.image_size), np.uint8)
    samples, transform = len(loader.source.labels), loader.transforms(0)
    for first in range(0, options.images, CHUNK):
        numbers = np.arange(first, min(first + CHUNK, options.images))
        filled = loader.source.fill(numbers % samples, transform, first // samples, out[: len(numbers)])
        for n in np.flatnonzero(~filled.done).tolist():
            loader.source.load(int(numbers[n] % samples), transform, first // samples, out[n])
    return options.images


def _count(loader: Iterable) -> int:
    return sum(len(images) for images, _ in loader)


def _timed(epoch: Callable[[], int]) -> tuple[int, float, float]:
    """(images, seconds, processor seconds of this process and its children)"""
    wall, before = time.perf_counter(), _processor_s()
    images = epoch()
    return images, time.perf_counter() - wall, _processor_s() - before


def _processor_s() -> float:
    spent = os.times()  # of ended children; this process' own times are finer elsewhere
    return time.process_time() + spent.children_user + spent.children_system


def _report(best: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps({"options": vars(options), "results": best}, indent=1))
        return
    print(f"{'':34}{'images/s':>10}{'core-ms':>10}{'of timm':>10}")
    for name, figures in best.items():
        ratio = "" if name == "decoding alone" else f"{figures['of_timm']:10.2f}"
        print(f"{name:34}{figures['images_per_s']:10.0f}{figures['core_ms']:10.3f}{ratio}")
