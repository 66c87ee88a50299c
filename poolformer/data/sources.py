"""Where a loader's samples come from: a .beton file or image files. Each loads one sample into a slot of the batch."""

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from ..errors import DataError, printable
from .beton import RAW, Beton
from .beton_set import BetonSet
from .class_folders import read_file
from .pages import Pages
from .pixels.image_kernels import write_words
from .pixels.jpeg import decode, decode_sound_jpeg, decode_upright
from .pixels.reading import pieces_of_files, whole_files
from .pixels.slots import Filled, Images, fill_slots
from .pixels.transforms import Transform
from .read_ahead import memory, will_read

_SIZES = 1000
_KEPT = 0.5
"""A file of more than this share of the memory may not stay there beside the rest."""


class BetonSource:
    """The samples of a .beton file, or of several."""

    def __init__(self, beton: Beton | BetonSet) -> None:
        self._beton = beton
        self.labels = beton.labels
        self.fingerprint = beton.fingerprint
        """Tells the contents of one file from those of another."""
        most = memory()
        self._reads_ahead = most is not None and beton.bytes > _KEPT * most
        if self._reads_ahead and most is not None:
            sizes = f"{beton.bytes / 2**30:.1f} of {most / 2**30:.1f} GiB of memory"
            rank_zero_info(f"'{printable(str(beton.path))}': read ahead, as memory may not keep it ({sizes})")

    def pages(self) -> Pages:
        """Return which page of the file each sample lies in."""
        return self._beton.pages()

    def will_load(self, samples: np.ndarray) -> None:
        """Be told which samples are loaded next."""
        if self._reads_ahead:
            entries = self._beton.entries(samples)
            will_read(self._beton.descriptors(samples), entries.place, entries.size)

    def load(self, sample: int, transform: Transform, epoch: int, out: np.ndarray) -> np.ndarray | None:
        """Write a transformed sample into out, uint8 (3, S, S), and return what its transform leaves to the device.

        Raises:
            DataError: Its bytes are damaged.
        """
        image, name = self._beton.read(sample), self._beton.name(sample)
        if image.mode == RAW:
            words = np.empty((image.height, image.width), np.uint32)
            write_words(image.data, image.width, 0, 0, words)
        elif self._beton.has_checksums:
            words = decode_sound_jpeg(image.data, name, height=image.height, width=image.width)
        else:
            words = decode(image.data, name)
            if words.shape != (image.height, image.width):
                raise DataError(f"{name}: its size is not what the index says; pack the file again")
        return transform(words, out, epoch=epoch, sample=sample)

    def fill(self, samples: np.ndarray, transform: Transform, epoch: int, slots: np.ndarray) -> Filled:
        """Write transformed samples into slots, uint8 (n, 3, S, S), where kernels alone can do it."""
        entries = self._beton.entries(samples)
        images = Images(
            pieces_of_files(self._beton.descriptors(samples), entries.place, entries.size, entries.crc),
            is_raw=entries.mode == RAW,
            heights=entries.height,
            widths=entries.width,
            are_sound=self._beton.has_checksums,
            are_upright=True,
        )
        return fill_slots(images, transform.recipe, samples, epoch, slots)


class FileSource:
    """Image files.

    Args:
        paths: Paths of the files.
        labels: The class of each.
        orient: Whether to turn them as EXIF says.
        class_prefix: Letters of each path before its class folder; None where they lie in none.
    """

    def __init__(
        self, paths: Sequence[str], labels: Sequence[int], *, orient: bool = False, class_prefix: int | None = None
    ) -> None:
        self.paths, self.class_prefix, self._orient = paths, class_prefix, orient
        self.labels = np.asarray(labels, np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Tells these files from others: the names of all, below the last two folders, and the sizes of a thousand."""
        digest = hashlib.blake2b(digest_size=8)
        for path in self.paths:
            digest.update("/".join(path.rsplit("/", 2)[-2:]).encode(errors="surrogateescape") + b"\0")
        for path in self.paths[:: max(1, len(self.paths) // _SIZES)]:
            digest.update(b"%d," % (os.path.getsize(path) if os.path.exists(path) else -1))
        return digest.hexdigest()

    def pages(self) -> None:
        """Files have no pages."""

    def will_load(self, samples: np.ndarray) -> None:
        """Be told which samples are loaded next; a system that reads files ahead does so once they are opened."""

    def load(self, sample: int, transform: Transform, epoch: int, out: np.ndarray) -> np.ndarray | None:
        """Write a transformed sample into out, uint8 (3, S, S), and return what its transform leaves to the device.

        Raises:
            DataError: The file cannot be read, or is no sound image.
        """
        data, name = read_file(self.paths[sample]), f"'{printable(str(self.paths[sample]))}'"
        words = decode_upright(data, name)[0] if self._orient else decode(data, name)
        return transform(words, out, epoch=epoch, sample=sample)

    def fill(self, samples: np.ndarray, transform: Transform, epoch: int, slots: np.ndarray) -> Filled:
        """Write transformed samples into slots, uint8 (n, 3, S, S), where kernels alone can do it."""
        sizes = np.full(len(samples), -1, np.int32)
        images = Images(
            whole_files([self.paths[sample] for sample in samples]),
            is_raw=np.zeros(len(samples), np.bool_),
            heights=sizes,
            widths=sizes,
            are_sound=False,
            are_upright=not self._orient,
        )
        return fill_slots(images, transform.recipe, samples, epoch, slots)


Source = BetonSource | FileSource
