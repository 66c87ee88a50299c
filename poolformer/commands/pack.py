"""`poolformer pack`."""

import argparse
import inspect
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .. import first_word
from ..counts import counted
from ..errors import ConfigError, DataError, printable
from ..files.paths import is_url, without_scheme
from .arguments import CommandParser, local_path, threads
from .progress import Progress, say

if TYPE_CHECKING:
    from ..data.pack import ImageFiles
    from ..data.pack_stream import ImageStream
    from ..data.shard import Shard


def main(argv: list[str]) -> int:
    """Pack class folders of images into one .beton file, which the data module FFCVData and ffcv itself read.

    SRC is a folder of class folders (SRC/<class>/<image>), a tar or zip of such a folder, or a tar of one tar a class
    as ImageNet's training images come. What is elsewhere is packed as it comes: a tar at a URL (s3, gs, https ...), and
    hf:NAME or hf:NAME:SPLIT, a data set of the Hugging Face Hub (pip install datasets). Where folders are no classes,
    --labels is a list of them: a CSV or TSV of paths and classes; for ImageNet's validation images,
    ILSVRC2012_devkit_t12.tar.gz or Kaggle's LOC_val_solution.csv.

    By default the bytes of JPEG files are kept untouched and anything else (PNG, CMYK ...) is stored as raw RGB pixels,
    so nothing is lost. For training on ImageNet, `--max_side 400 --quality 90` halves the time to load.

    Every image is decoded once and checked. DST appears when it is complete, with DST.json beside it: classes, counts,
    settings, size and checksum. What is left out of SRC, such as .gif files, is counted in a line at the end.

    `--shard i/n` packs the i-th of n parts: n machines make n files, which training reads as one data set
    (`--data.train 'train-*.beton'`). Give all of them the same SRC and options.

    A pack that is stopped keeps its whole pages beside DST, and the same command with `--resume` continues from them.

      poolformer pack imagenet/val val.beton
      poolformer pack ILSVRC2012_img_val.tar val.beton --labels ILSVRC2012_devkit_t12.tar.gz
      poolformer pack hf:ILSVRC/imagenet-1k:train train.beton --max_side 400 --quality 90
      poolformer pack ILSVRC2012_img_train.tar train.beton --max_side 400 --quality 90 --on_error skip
    """
    options = _parser().parse_args(argv)
    first_word.say(f"pack {options.src}")
    from ..data.pack import Storage, pack
    from ..data.pack_source import open_source
    from ..data.shard import shard_of
    from ..data.target import checked_target, is_packed
    from ..data.threads import available_cores
    from ..data.tiling import Tiling

    forms = ("max_side", "quality", "raw", "orient", "tiles", "raw_share")
    storage = Storage(**{name: getattr(options, name) for name in forms})
    if options.resume and not options.overwrite and is_packed(options.dst):
        print(f"{printable(options.dst)} is there, whole: nothing to resume (--overwrite packs it again)")
        return 0
    target = checked_target(options.dst, overwrite=options.overwrite)
    for read in filter(None, (options.src, options.labels)):
        _check_source(read, target)
    files = open_source(options.src, split=options.split, labels=options.labels, on_error=options.on_error, say=say)
    _check_apart(files, target)
    if options.shard is not None:
        files = shard_of(files, options.shard)
    start, tiling = time.monotonic(), Tiling()
    total = len(files.names) or getattr(files, "estimate", 0)
    with Progress("packed", total) as progress:

        def packed(done: int) -> None:
            progress.turn_to("packed", total, begun=done - 1)  # after what was packed before
            progress(done)

        def working(work: str, done: int, total: int, unit: str) -> None:
            progress.turn_to(work, total, unit=unit)
            progress(done)

        skipped = pack(
            files,
            target,
            storage=storage,
            on_error=options.on_error,
            overwrite=options.overwrite,
            resume=options.resume,
            asked={"SRC": options.src, "split": options.split, "labels": options.labels},
            workers=options.num_workers or available_cores(),
            progress=packed,
            working=working,
            say=say,
            tiling=tiling,
        )
    rate = len(files.names) / (time.monotonic() - start)
    images = len(files.names) - len(skipped)
    size_mib = target.stat().st_size / 2**20
    counts = f"{counted(images, 'image')} of {counted(len(files.class_names), 'class')}"
    print(f"{printable(options.dst)}: {counts}, {size_mib:.0f} MiB, {rate:.0f} images/s")
    if storage.tiles:
        print(tiling.remark)
    if files.remarks:
        print(printable(files.remarks))
    if skipped:
        print(f"{counted(len(skipped), 'file')} left out:", *map(printable, skipped), sep="\n  ")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "poolformer pack", description=inspect.getdoc(main), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "src", type=_source, help="folder, tar or zip of class folders, or of images that --labels names"
    )
    parser.add_argument("dst", type=local_path, help="the .beton file to write")
    parser.add_argument("--split", help="of a tar or folder that holds several: train, val, test")
    parser.add_argument("--shard", type=_shard, metavar="i/n", help="pack images i, i+n, ... only, i from 1 to n")
    parser.add_argument("--labels", type=local_path, help="CSV or TSV of paths and classes, or ImageNet's devkit")
    parser.add_argument("--max_side", type=int, help="resize longer images to this long side, in pixels")
    parser.add_argument("--quality", type=int, help="JPEG quality of what is encoded (90 with --max_side)")
    parser.add_argument("--raw", action="store_true", help="store pixels: faster to read, 5 to 10 times the size")
    parser.add_argument("--raw_share", type=float, help="store pixels of this share of the images, 0 to 1")
    parser.add_argument("--orient", action="store_true", help="turn images as EXIF says; those are encoded anew")
    parser.add_argument("--tiles", action="store_true", help="JPEGs that can be decoded in parts: same pixels and size")
    parser.add_argument("--on_error", choices=["fail", "skip"], default="fail", help="on a file that is no sound image")
    parser.add_argument("--overwrite", action="store_true", help="replace DST")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted pack of this SRC and options")
    parser.add_argument("--num_workers", type=threads, help="threads; one a core by default")
    return parser


def _source(text: str) -> str:
    return text if is_url(text) or text.startswith("hf:") else local_path(without_scheme(text))


def _shard(text: str) -> "Shard":
    from ..data.shard import read_shard

    try:
        return read_shard(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _check_source(text: str, target: Path) -> None:
    from ..data.target import sidecar

    source = Path(text).expanduser()
    for written in (target, sidecar(target)):
        if os.path.exists(written) and os.path.exists(source) and os.path.samefile(written, source):
            raise DataError(f"'{text}' is what is to be packed: give another file to write")


def _check_apart(files: "ImageFiles | ImageStream", target: Path) -> None:
    """Refuse to replace one of the images that are to be packed."""
    same = [name for name in files.names if os.path.basename(name) == target.name and os.path.exists(name)]
    if target.exists() and any(target.samefile(name) for name in same):
        raise DataError(f"'{target}' is one of the images to be packed: give another file to write")
