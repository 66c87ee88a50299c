"""A part of the training images held out to validate on: chosen by the names of the files, the same for every run."""

import hashlib
import os
import unicodedata
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..errors import DataError, printable
from .pages import Pages
from .pixels.keyed import uniforms
from .pixels.slots import Filled
from .pixels.transforms import Transform
from .sources import FileSource, Source

_SHOWN = 3


class Part:
    """Some of the samples of a source. What is drawn for them depends on their numbers there, not on the part.

    Args:
        whole: The source.
        samples: Which of its samples, int64.
    """

    def __init__(self, whole: Source, samples: np.ndarray) -> None:
        self.whole, self.samples = whole, samples
        self.labels = whole.labels[samples]

    @property
    def paths(self) -> list[str]:
        """Paths of the files; of samples that are none, their numbers in the whole."""
        paths = getattr(self.whole, "paths", None)
        return [str(sample) if paths is None else paths[sample] for sample in self.samples.tolist()]

    @cached_property
    def fingerprint(self) -> str:
        """Tells these samples from others."""
        digest = hashlib.blake2b(self.whole.fingerprint.encode(), digest_size=8)
        digest.update(self.samples.tobytes())
        return digest.hexdigest()

    def pages(self) -> Pages | None:
        """Return which page of a file each sample lies in, if there are pages."""
        pages = self.whole.pages()
        return None if pages is None else pages.of(self.samples)

    def will_load(self, samples: np.ndarray) -> None:
        """Tell the source which samples are loaded next."""
        self.whole.will_load(self.samples[samples])

    def fill(self, samples: np.ndarray, transform: Transform, epoch: int, slots: np.ndarray) -> Filled:
        """Write transformed samples into slots, as the source does."""
        return self.whole.fill(self.samples[samples], transform, epoch, slots)

    def load(self, sample: int, transform: Transform, epoch: int, out: np.ndarray) -> np.ndarray | None:
        """Write a transformed sample into out, as the source does."""
        return self.whole.load(int(self.samples[sample]), transform, epoch, out)


class Parts(NamedTuple):
    """A source in two parts."""

    train: Part
    val: Part
    remark: str
    """How many are held out, in a line."""


def hold_out(
    source: Source | Part, share: float, *, path: str, class_names: list[str] | None = None, option: str = "val_share"
) -> Parts:
    """Hold out a share of the images of each class.

    Of a class those are held out whose names have the smallest hashes: `round(share * images)`, at least one, and never
    the last. A file that is added moves one other of its class at most, and a larger share holds out what a smaller one
    does. The name is that below the class folder, so that a tree may be moved; a sample of a .beton has none, and its
    number in its class stands in. Of a part, a further share is held out by the same hashes.

    Args:
        source: All images, or a part of them.
        share: Above 0, below 1.
        path: Where they lie, for what is said.
        class_names: Names of their classes, where they have any.
        option: Which option says the share, for what is said.

    Raises:
        DataError: No class has two images.
    """
    labels = source.labels
    numbers, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    is_held_out = _smallest(_keys(source), places, counts, share)
    if not is_held_out.any():
        instead = "pass --data.val PATH" if option == "val_share" else "they are too few to choose by a part of them"
        raise DataError(f"no class in '{path}' has two images, so that none can be held out: {instead}")
    train, val = _part(source, ~is_held_out), _part(source, is_held_out)
    remark = f"val: {len(val.labels)} of {len(labels)} images of {path} ({option} {share:g})"
    alone = [class_names[label] if class_names else str(label) for label in numbers[counts == 1].tolist()]
    if alone:
        more = ", ..." if alone[_SHOWN:] else ""
        what = "class of one image is" if len(alone) == 1 else "classes of one image are"
        remark += f"; {len(alone)} {what} trained on only ({', '.join(map(printable, alone[:_SHOWN]))}{more})"
    return Parts(train, val, remark)


def _part(source: Source | Part, is_in: np.ndarray) -> Part:
    samples = np.flatnonzero(is_in)
    return Part(source.whole, source.samples[samples]) if isinstance(source, Part) else Part(source, samples)


def _smallest(keys: np.ndarray, places: np.ndarray, counts: np.ndarray, share: float) -> np.ndarray:
    """Return which samples have the smallest keys of their class, bool.

    Args:
        keys: Of the samples.
        places: Number of each one's class.
        counts: Samples of each class.
        share: How many of each to choose.
    """
    wanted = np.minimum(np.maximum(np.floor(share * counts + 0.5).astype(np.int64), 1), counts - 1)
    order = np.lexsort((keys, places))  # class by class; equal keys by number
    chosen = np.empty(len(places), bool)
    chosen[order] = _ranks(counts) < np.repeat(wanted, counts)
    return chosen


def _keys(source: Source | Part) -> np.ndarray:
    if isinstance(source, Part):
        return _keys(source.whole)[source.samples]
    if isinstance(source, FileSource) and source.class_prefix is not None:
        return np.array([_key(path[source.class_prefix :]) for path in source.paths], np.uint64)
    # A class has as many keys as the largest: each is drawn once, and not for each sample.
    _, places, counts = np.unique(source.labels, return_inverse=True, return_counts=True)
    numbers = np.empty(len(places), np.int64)
    numbers[np.argsort(places, kind="stable")] = _ranks(counts)
    return uniforms(np.arange(counts.max()), 1, seed=0, epoch=0)[numbers, 0]


def _key(below_root: str) -> int:
    """Return a hash of a file's name below its class folder, whichever way its accents are written."""
    name = unicodedata.normalize("NFC", below_root.replace(os.sep, "/").partition("/")[2])
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest(), "little")


def _ranks(counts: np.ndarray) -> np.ndarray:
    """Return the numbers of samples in their classes, of samples class by class."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
