"""Images and labels that come as rows of anybody's data set: files, pixels or paths, with numbers or names."""

import io
import operator
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from ..errors import ConfigError, DataError, describe, printable
from ..files.paths import is_url
from .class_folders import read_file
from .pack import Storage, pack
from .pack_stream import Settled
from .target import checked_target
from .threads import available_cores

_MOST_CLASSES = 100_000
IMAGES, LABELS = ("image", "img"), ("label", "labels", "fine_label")
"""What the columns of rows are called."""


class RowFiles:
    """A stream of images with labels.

    Args:
        rows: Names for messages, images and labels. An image is bytes of a file, a path, a URL, a Pillow image, pixels
            in an array or a tensor, or a mapping with `bytes` and `path`; a label is a number or a name.
        estimate: How many there are.
        class_names: Names of the classes in the order of their numbers; None for those of the labels.

    Attributes: see `pack_stream.ImageStream`.
    """

    def __init__(
        self, rows: Iterable[tuple[str, Any, Any]], *, estimate: int, class_names: list[str] | None = None
    ) -> None:
        self._rows, self.estimate, self._known = rows, estimate, class_names
        self._number_of = {name: number for number, name in enumerate(class_names or [])}
        self.names: list[str] = []
        self.class_names: list[str] = class_names or []
        self.remarks = ""
        self._labels: list[int | str] = []

    def images(self) -> Iterator[bytes | DataError]:
        """Yield the bytes of a file of each row.

        Raises:
            DataError: A label is none.
        """
        for name, image, label in self._rows:
            self._labels.append(self._label(label, name))
            self.names.append(name)
            try:
                yield file_bytes(image, name)
            except DataError as error:
                yield error

    def settle(self, packed: list[int]) -> Settled:
        """Number the classes.

        Raises:
            DataError: Some labels are numbers and some are names.
        """
        words = {label for label in self._labels if isinstance(label, str)}
        if words and len(words) < len({*self._labels}):
            raise DataError(f"some labels are numbers and some are names, such as '{printable(min(words))}'")
        if self._known is None:
            highest = -1 if words else max(int(label) for label in self._labels)
            self.class_names = sorted(words) or [str(number) for number in range(highest + 1)]
            self._number_of = {name: number for number, name in enumerate(self.class_names)}
        labels = [self._number_of[label] if isinstance(label, str) else label for label in self._labels]
        return Settled(packed, [labels[n] for n in packed], len(self.names))

    def _label(self, value: Any, name: str) -> int | str:
        if isinstance(value, str):
            if self._known is not None and value not in self._number_of:
                raise DataError(f"{name}: '{printable(value)}' is none of the {len(self._known)} classes")
            return value
        try:
            number = operator.index(value)
        except TypeError:
            number = None
        if number is None:
            raise DataError(f"{name}: its label is {_kind(value)}; expected are a number of a class or its name")
        most = _MOST_CLASSES if self._known is None else len(self._known)
        if not 0 <= number < most:
            unlabelled = ", as of images without labels" if number == -1 else ""
            raise DataError(f"{name}: the label {number} is out of range{unlabelled}; labels go from 0 to {most - 1}")
        return number


def pack_dataset(
    dataset: Any,
    path: str | os.PathLike[str],
    *,
    class_names: list[str] | None = None,
    max_side: int | None = None,
    quality: int | None = None,
    raw: bool = False,
    orient: bool = False,
    tiles: bool = False,
    on_error: Literal["fail", "skip"] = "fail",
    overwrite: bool = False,
    resume: bool = False,
    num_workers: int | None = None,
) -> list[str]:
    """Pack a data set of PyTorch's kind into a .beton file, with `path`.json beside it, as `poolformer pack` does.

    Files (bytes or paths) are kept as they are; pixels are stored as they are, or with `quality` as JPEGs.

    Args:
        dataset: Has a length, and `dataset[n]` is (image, label) or a mapping of these. An image is bytes of a file, a
            path, a Pillow image, uint8 (H, W, 3) or (H, W), or a tensor (3, H, W); a label is a number or a name.
        path: Path of the file to be.
        class_names: Names of the classes; by default `dataset.classes` where that is, else those of the labels.
        max_side: Longer images are resized to this long side, pixels.
        quality: JPEG quality of what is encoded.
        raw: Store pixels.
        orient: Turn files as EXIF says.
        tiles: Store JPEGs so that they can be decoded in parts.
        on_error: What to do with what is no sound image.
        overwrite: Whether a file of this name may be replaced.
        resume: Continue an interrupted pack of the same data set and options; each sample is asked for again.
        num_workers: Number of threads; None for one a core. `dataset` is asked by one at a time.

    Returns:
        What was skipped, a line each.

    Raises:
        DataError: An image or a label is none, or the file cannot be written.
        ConfigError: Options against each other.
    """
    storage = Storage(max_side=max_side, quality=quality, raw=raw, orient=orient, tiles=tiles)
    target = checked_target(os.fspath(path), overwrite=overwrite)
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise ConfigError(f"{_kind(dataset)} is no data set: it needs __len__ and __getitem__")
    classes = class_names if class_names is not None else _classes(dataset)
    files = RowFiles(_rows(dataset), estimate=len(dataset), class_names=classes)
    workers = num_workers or available_cores()
    options: dict[str, Any] = {"on_error": on_error, "overwrite": overwrite, "resume": resume, "workers": workers}
    return pack(files, target, storage=storage, asked={"SRC": f"the {_kind(dataset)}"}, **options)


def file_bytes(image: Any, name: str) -> bytes:
    """Return an image as the bytes of a file, without a loss.

    Raises:
        DataError: It is none, or cannot be read.
    """
    if isinstance(image, Mapping) and {"bytes", "path"} & image.keys():
        image = image["bytes"] if image.get("bytes") is not None else image.get("path")
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return _of_url(str(image), name) if is_url(image) else read_file(os.fspath(image))
    if hasattr(image, "detach"):  # a tensor, channels first
        image = image.detach().cpu().numpy()
        image = image.transpose(1, 2, 0) if image.ndim == 3 and image.shape[0] in (1, 3) else image
    if isinstance(image, np.ndarray):
        image = _of_array(image, name)
    if not (hasattr(image, "save") and hasattr(image, "mode")):
        raise DataError(f"{name}: its image is {_kind(image)}; expected are bytes, a path, a Pillow image or an array")
    buffer = io.BytesIO()
    kinds = {"RGB": "PPM", "L": "PPM", "CMYK": "TIFF", "YCbCr": "TIFF", "LAB": "TIFF", "F": "TIFF", "I": "TIFF"}
    try:
        image.save(buffer, kinds.get(image.mode, "PNG"))
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: cannot be read ({describe(error)})") from error
    return buffer.getvalue()


def _of_array(image: np.ndarray, name: str) -> Any:
    from PIL import Image

    image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or not image.size:
        raise DataError(f"{name}: its image is {image.dtype} {image.shape}; expected is uint8 (H, W, 3) or (H, W)")
    return Image.fromarray(np.ascontiguousarray(image))


def _of_url(url: str, name: str) -> bytes:
    import fsspec

    try:
        with fsspec.open(url, "rb") as file:
            return file.read()
    except Exception as error:  # of every kind of store
        raise DataError(f"{name}: '{printable(url)}' cannot be read ({describe(error)[:200]})") from error


def _rows(dataset: Any) -> Iterator[tuple[str, Any, Any]]:
    for n in range(len(dataset)):
        name = f"sample {n}"
        try:
            row = dataset[n]
        except Exception as error:  # of whatever the data set does
            raise DataError(f"{name} cannot be read ({describe(error)[:300]})") from error
        if isinstance(row, Mapping):
            keys = [next((key for key in known if key in row), None) for known in (IMAGES, LABELS)]
            row = tuple(row[key] for key in keys if key is not None)
        if not (isinstance(row, tuple | list) and len(row) == 2):
            raise DataError(f"{name} is {_kind(row)}; expected is a pair, image and label")
        yield name, row[0], row[1]


def _classes(dataset: Any) -> list[str] | None:
    """Return the names of the classes as torchvision's data sets have them, also behind a Subset."""
    while (names := getattr(dataset, "classes", None)) is None and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    return list(names) if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else None


def _kind(value: Any) -> str:
    return f"{type(value).__name__}{f' of {len(value)}' if isinstance(value, tuple | list) else ''}"
