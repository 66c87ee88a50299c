"""A data set of the Hugging Face Hub, packed as it comes: `hf:NAME`, `hf:NAME:SPLIT` or `hf:NAME:CONFIG:SPLIT`."""

from collections.abc import Iterator
from typing import Any

from ..errors import ConfigError, DataError, describe
from .row_files import IMAGES, LABELS, RowFiles

PREFIX = "hf:"


def is_hf(text: str) -> bool:
    """Return whether a text names a data set of the Hub; `hf://` is the URL of a file there."""
    return text.startswith(PREFIX) and not text.startswith(f"{PREFIX}//")


def open_hf(text: str, *, split: str | None = None) -> RowFiles:
    """Open a data set; what the package `datasets` loads by a name, which may be a folder of this machine as well.

    Args:
        text: NAME, config and split, as in `hf:cifar100:test`.
        split: The split, where the text has none.

    Raises:
        ConfigError: The package is not installed, or split or config are not said.
        DataError: There is no such data set, or it has no images with labels.
    """
    name, config, named = _parts(text)
    split = named or split
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(f"{text} needs a package that is not installed: pip install datasets") from error
    try:
        found = datasets.load_dataset(name, config, split=split, streaming=True)
    except Exception as error:  # of the Hub, of the network, of files of a stranger
        raise DataError(f"{text} cannot be opened ({describe(error)[:500]})") from error
    if isinstance(found, dict):
        if len(found) != 1:
            raise ConfigError(f"{text} has the splits {', '.join(found)}: say which, as in {text}:{next(iter(found))}")
        split, found = next(iter(found.items()))
    features = found.features or {}
    image = _column(IMAGES, features, datasets.Image, text)
    label = _column(LABELS, features, datasets.ClassLabel, text)
    if features and isinstance(features[image], datasets.Image):
        found = found.cast_column(image, datasets.Image(decode=False))
    names = list(features[label].names) if features and isinstance(features[label], datasets.ClassLabel) else None
    sizes = found.info.splits or {}
    estimate = sizes[split].num_examples if split in sizes else 0
    return RowFiles(_rows(found, image, label, text), estimate=estimate or 0, class_names=names)


def _rows(found: Any, image: str, label: str, text: str) -> Iterator[tuple[str, Any, Any]]:
    rows = iter(found)
    n = 0
    while True:
        try:
            row = next(rows)
            named = f"{text}, row {n}", row[image], row[label]
        except StopIteration:
            return
        except KeyError as error:
            raise DataError(f"{text}, row {n} has no column {error}, but {', '.join(row)}") from error
        except Exception as error:  # as above
            raise DataError(f"{text}, row {n} cannot be read ({describe(error)[:300]})") from error
        yield named
        n += 1


def _column(known: tuple[str, ...], features: dict[str, Any], kind: type, text: str) -> str:
    """Return the column of the images or of the labels: by its name, or the only one of its kind."""
    if not features:
        return known[0]
    of_kind = [name for name, feature in features.items() if isinstance(feature, kind)]
    named = [name for name in known if name in features]
    preferred = [name for name in named if name in of_kind] or named or (of_kind if len(of_kind) == 1 else [])
    if not preferred:
        raise DataError(f"{text} has no column '{known[0]}', but {', '.join(features)}")
    return preferred[0]


def _parts(text: str) -> tuple[str, str | None, str | None]:
    name, *more = text.removeprefix(PREFIX).split(":")
    if not name or len(more) > 2 or not all(more):
        raise ConfigError(f"'{text}' names no data set: write hf:NAME, hf:NAME:SPLIT or hf:NAME:CONFIG:SPLIT")
    return name, more[0] if len(more) == 2 else None, more[-1] if more else None
