"""From class folders to one .beton file."""

import json
import os
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import ConfigError, DataError, printable
from ..files.atomic_write import unfinished_name
from .beton import JPEG, RAW, BetonStream, Stored
from .checking import sha256
from .pack_stream import ImageFiles as ImageFiles
from .pack_stream import ImageStream, write_stream
from .pixels.jpeg import decode, decode_upright, encode, read_header, to_pixels
from .shard import ShardFiles, ShardStream
from .target import locked, publish_pair, refuse_existing, sidecar
from .threads import in_order
from .tiling import Tiling

LARGEST_SIDE = 65535
"""The format holds sizes in 16 bits."""
DEFAULT_QUALITY = 90


@dataclass(frozen=True)
class Storage:
    """How images are stored. Without options: as they are, and what is no RGB or grey JPEG as raw pixels.

    Raises:
        ConfigError: Options out of range or against each other.
    """

    max_side: int | None = None
    """Longer images are resized (bicubic) to this long side, pixels."""
    quality: int | None = None
    """JPEG quality of what has to be encoded, 1 to 100; 90 where only max_side is given."""
    raw: bool = False
    """Pixels instead of JPEG: faster to read, 5 to 10 times the size."""
    orient: bool = False
    """Turned as EXIF says. What has to be turned is encoded anew, as what is no JPEG."""
    tiles: bool = False
    """JPEGs with restart markers every 48 pixels, of which a crop can be decoded alone; their pixels stay."""
    raw_share: float | None = None
    """Of so many images, 0 to 1, pixels, as in ffcv-imagenet's mixture; of which is drawn from their files' bytes."""

    @property
    def settings(self) -> dict[str, Any]:
        """What a file says of itself."""
        settings = asdict(self)
        unused = {name for name in ("orient", "tiles", "raw_share") if not settings[name]}
        return {name: value for name, value in settings.items() if name not in unused}

    def is_raw(self, data: bytes) -> bool:
        """Whether an image file is to be stored as pixels; a larger share takes what a smaller one does."""
        return self.raw or (self.raw_share is not None and zlib.crc32(data) < self.raw_share * 2**32)

    def __post_init__(self) -> None:
        if self.max_side is not None and self.max_side < 1:
            raise ConfigError(f"max_side={self.max_side}: a side has at least 1 pixel")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ConfigError(f"quality={self.quality}: JPEG quality is 1 to 100")
        if self.raw and self.quality is not None:
            raise ConfigError("raw pixels have no JPEG quality: give either --raw or --quality")
        if self.raw and self.tiles:
            raise ConfigError("tiles are made of JPEGs, and raw pixels are none: give either --raw or --tiles")
        if self.raw_share is not None and not 0 <= self.raw_share <= 1:
            raise ConfigError(f"raw_share={self.raw_share}: a share is 0 to 1")
        if self.raw and self.raw_share is not None:
            raise ConfigError("--raw stores the pixels of all images: give either --raw or --raw_share")


def stored_image(data: bytes, name: str, storage: Storage, tiling: Tiling) -> Stored:
    """Return an image file in the form in which it is to be stored, once it was decoded without a fault.

    Args:
        data: The bytes of the file.
        name: What to call it in an error.
        storage: That form.
        tiling: Makes tiles, where they are asked for, and counts them.

    Raises:
        DataError: It is damaged, no image, or too large.
    """
    header, is_raw = read_header(data), storage.is_raw(data)
    words, turned = decode_upright(data, name) if storage.orient else (decode(data, name), False)
    height, width = words.shape
    longest = max(height, width) if storage.max_side is None else storage.max_side
    too_long = max(height, width) > longest
    if header is not None and not (too_long or turned or is_raw):
        _check_sides(height, width, name)
        data = tiling.tiles_of(data, words) if storage.tiles else data
        return Stored(JPEG, height, width, np.frombuffer(data, np.uint8))
    if too_long:
        words = _shrunk(words, longest)
    height, width = words.shape
    _check_sides(height, width, name)
    quality = storage.quality or (DEFAULT_QUALITY if storage.max_side is not None else None)
    if is_raw or quality is None:
        return Stored(RAW, height, width, to_pixels(words).reshape(-1))
    jpeg = encode(words, quality)
    return Stored(JPEG, height, width, np.frombuffer(tiling.tiles_of(jpeg) if storage.tiles else jpeg, np.uint8))


def pack(
    files: ImageFiles | ImageStream,
    path: Path,
    *,
    storage: Storage,
    on_error: Literal["fail", "skip"] = "fail",
    overwrite: bool = True,
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
    summed: Callable[[int, int], None] = lambda done, size: None,
    tiling: Tiling | None = None,
) -> list[str]:
    """Write `path` and, beside it, `path`.json, both when both are whole.

    Args:
        files: The images.
        path: Path of the .beton file; it is there only once it is whole.
        storage: Form of the images.
        on_error: What to do with a file that is no sound image: `fail` at the first, or `skip` all of them.
        overwrite: Whether a file of this name may be replaced.
        workers: Number of threads.
        progress: Called after each image with the number of images done.
        summed: Called then, as the file is read again for its checksum, with the bytes that are read and all.
        tiling: Counts the images in tiles.

    Returns:
        What was skipped, a line each.

    Raises:
        DataError: A file is no sound image, none is, the disk refuses, or another process writes this file.
    """
    path, tiling = Path(os.path.realpath(path)), tiling or Tiling()

    def store(data: bytes, name: str) -> Stored:
        return stored_image(data, name, storage, tiling)

    beton, description = unfinished_name(path), unfinished_name(sidecar(path))
    try:
        with locked(path):
            refuse_existing(path, overwrite=overwrite)  # it may be new since the command looked
            try:
                if isinstance(files, ImageStream):
                    labels, skipped = _write_stream(files, beton, store, storage, on_error, workers, progress)
                else:
                    labels, skipped = _write(files, beton, store, storage, on_error, workers, progress)
                size = beton.stat().st_size
                checksum = sha256(beton, lambda done: summed(done, size))
                _describe(beton, description, files, labels, storage, skipped, checksum, tiling)
                publish_pair(beton, description, path)
            finally:
                beton.unlink(missing_ok=True)
                description.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error.strerror or error}") from error
    return skipped


def _write(
    files: ImageFiles,
    beton: Path,
    store: Callable[[bytes, str], Stored],
    storage: Storage,
    on_error: str,
    workers: int,
    progress: Callable[[int], None],
) -> tuple[list[int], list[str]]:
    """Return (labels of what is packed, what was skipped)"""

    def load(n: int) -> Stored | DataError:
        try:
            return store(files.read(n), f"'{printable(files.names[n])}'")
        except DataError as error:
            return error

    skipped, labels = [], []
    with open(beton, "wb") as file:
        stream = BetonStream(file, capacity=len(files.names))
        images = in_order(load, range(len(files.names)), workers=workers, ahead=4 * workers)
        for done, (image, label) in enumerate(zip(images, files.labels, strict=True), 1):
            if not isinstance(image, DataError):
                stream.add(image, label)
                labels.append(label)
            elif on_error == "skip":
                skipped.append(str(image))
            else:
                raise DataError(f"{image} (--on_error skip packs the others)")
            progress(done)
        if not labels:
            raise DataError(f"none of the {len(skipped)} files is a sound image; the first: {skipped[0]}")
        stream.finish(files.class_names, storage.settings)
    return labels, skipped


def _write_stream(
    files: ImageStream,
    beton: Path,
    store: Callable[[bytes, str], Stored],
    storage: Storage,
    on_error: str,
    workers: int,
    progress: Callable[[int], None],
) -> tuple[list[int], list[str]]:
    options: dict[str, Any] = {"on_error": on_error, "workers": workers, "progress": progress}
    return write_stream(files, beton, store, storage.settings, **options)


def _describe(
    beton: Path,
    description: Path,
    files: ImageFiles | ImageStream,
    labels: list[int],
    storage: Storage,
    skipped: list[str],
    checksum: str,
    tiling: Tiling,
) -> None:
    counts = Counter(labels)
    content = {
        "images": len(labels),
        "bytes": beton.stat().st_size,
        "sha256": checksum,
        "settings": storage.settings,
        "skipped": skipped,
        "remarks": files.remarks,
        "classes": {name: counts[label] for label, name in enumerate(files.class_names)},
    }
    if isinstance(files, ShardFiles | ShardStream):
        content["shard"] = str(files.shard)
    if storage.tiles:
        content["tiles"] = tiling.counts
    with open(description, "w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())  # a full disk is found before anything is replaced


def _shrunk(words: np.ndarray, max_side: int) -> np.ndarray:
    from .pixels.resize import BICUBIC, resize  # numba: half a second

    height, width = words.shape
    scale = max_side / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    out = np.empty(size, np.uint32)
    resize(words, 0, 0, height, width, size, (0, 0), False, BICUBIC, out)
    return out


def _check_sides(height: int, width: int, name: str) -> None:
    if max(height, width) > LARGEST_SIDE:
        raise DataError(f"{name}: {width} x {height} pixels, more than {LARGEST_SIDE} on a side; scale it down")
