"""From class folders to one .beton file."""

import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from .. import __version__
from ..errors import ConfigError, DataError
from ..files.atomic_write import unfinished_name
from .beton import JPEG, RAW, Stored
from .checking import sha256
from .pack_journal import Working, kept
from .pack_stream import ImageFiles as ImageFiles
from .pack_stream import ImageStream, write
from .pixels.jpeg import decode, decode_upright, encode, read_header, to_pixels
from .shard import ShardFiles, ShardStream
from .target import locked, publish_pair, refuse_existing, sidecar
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
    resume: bool = False,
    asked: Mapping[str, str | None] = MappingProxyType({}),
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
    working: Working = lambda work, done, total, unit: None,
    say: Callable[[str], None] = lambda line: None,
    tiling: Tiling | None = None,
) -> list[str]:
    """Write `path` and, beside it, `path`.json, both when both are whole.

    What is stopped leaves its whole pages, for `resume`; see `pack_journal`.

    Args:
        files: The images.
        path: Path of the .beton file; it is there only once it is whole.
        storage: Form of the images.
        on_error: What to do with a file that is no sound image: `fail` at the first, or `skip` all of them.
        overwrite: Whether a file of this name may be replaced.
        resume: Whether to continue what a pack of the same images and options has left; else that is replaced.
        asked: Where the images come from: SRC, split and labels as the user wrote them.
        workers: Number of threads.
        progress: Called after each image with the number of images done.
        working: Called as something is read again: with what is done, how much of it, of how much, and the unit.
        say: Takes a line about what is left, replaced or resumed.
        tiling: Counts the images in tiles.

    Returns:
        What was skipped, a line each.

    Raises:
        DataError: A file is no sound image, none is, the disk refuses, another process writes this file, or what is to
            be resumed is of other images or options.
    """
    path, tiling = Path(os.path.realpath(path)), tiling or Tiling()

    def store(data: bytes, name: str) -> tuple[Stored, dict[str, int]]:
        own = Tiling()  # of one image: those under way when a pack is stopped do not count
        return stored_image(data, name, storage, own), own.counts

    description = unfinished_name(sidecar(path))
    options: dict[str, Any] = {"on_error": on_error, "workers": workers, "progress": progress, "working": working}
    try:
        with locked(path) as is_locked:
            refuse_existing(path, overwrite=overwrite)  # it may be new since the command looked
            identity = _identity(files, storage, asked)
            with kept(path, identity, is_locked=is_locked, resume=resume, say=say) as journal:
                labels = write(files, journal, store, storage.settings, tiling, **options)
                size = journal.beton.stat().st_size
                checksum = sha256(journal.beton, lambda done: working("checksum of", done, size, "bytes"))
                try:
                    _describe(journal.beton, description, files, labels, storage, journal.skipped, checksum, tiling)
                    publish_pair(journal.beton, description, path)
                    journal.remove()  # not before: what could not be published is resumed
                finally:
                    description.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written: {error.strerror or error}") from error
    return journal.skipped


def _identity(files: ImageFiles | ImageStream, storage: Storage, asked: Mapping[str, str | None]) -> dict[str, Any]:
    """Return what makes a file what it is, under the names of the options."""
    shard = str(files.shard) if isinstance(files, ShardFiles | ShardStream) else None
    source = {"SRC": asked.get("SRC"), "split": asked.get("split"), "labels": asked.get("labels")}
    digest = hashlib.sha256()
    if isinstance(files, ImageStream):  # nobody knows its images before they come
        digest.update(json.dumps([source, files.estimate, files.class_names]).encode())
    else:
        digest.update(json.dumps(files.class_names).encode())
        digest.update(np.asarray(files.labels, np.int64).tobytes())
        for first in range(0, len(files.names), 4096):
            digest.update(json.dumps(files.names[first : first + 4096]).encode())
    return {
        **source,
        "shard": shard,
        **asdict(storage),
        "poolformer": __version__,
        "images": digest.hexdigest(),
    }


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
