"""A part of what is to be packed: n machines pack a part each, and the n files together are one data set."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import ConfigError, DataError
from .pack_stream import ImageFiles, ImageStream, Settled


@dataclass(frozen=True)
class Shard:
    """The images `number`, `number` + `count`, ... of all, counted from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def check(self, images: int) -> None:
        """Refuse more parts than there are images.

        Raises:
            DataError: There are.
        """
        if images < self.count:
            raise DataError(f"--shard {self}: there are only {images} images, too few for {self.count} parts")


def read_shard(text: str) -> Shard:
    """Read `i/n`.

    Raises:
        ConfigError: It is something else, or i is not one of 1 to n.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    shard = Shard(*map(int, found.groups())) if found else None
    if shard is None or not 1 <= shard.number <= shard.count:
        raise ConfigError(f"{text!r} is no part: write i/n with i from 1 to n, such as 1/8")
    return shard


def shard_of(files: ImageFiles | ImageStream, shard: Shard) -> "ShardFiles | ShardStream":
    """Return a part of the images, with the classes of all.

    Raises:
        DataError: There are fewer images than parts; of a stream, this is said once it has come.
    """
    return ShardStream(files, shard) if isinstance(files, ImageStream) else ShardFiles(files, shard)


class ShardFiles:
    """A part of image files that can be read in any order.

    Attributes: see `pack_stream.ImageFiles`.
    """

    def __init__(self, files: ImageFiles, shard: Shard) -> None:
        shard.check(len(files.names))
        self.shard, self._files = shard, files
        self.names = files.names[shard.number - 1 :: shard.count]
        self.labels = files.labels[shard.number - 1 :: shard.count]
        self.class_names, self.remarks = files.class_names, files.remarks

    def read(self, n: int) -> bytes:
        """Return the bytes of an image of this part."""
        return self._files.read(self.shard.number - 1 + n * self.shard.count)


class ShardStream:
    """A part of images that come once. All come by, as only all of them say what the classes are.

    Attributes: see `pack_stream.ImageStream`.
    """

    def __init__(self, files: ImageStream, shard: Shard) -> None:
        self.shard, self._files = shard, files
        self.names: list[str] = []
        self.estimate = -(-files.estimate // shard.count)
        self.class_names, self.remarks = files.class_names, files.remarks

    def images(self) -> Iterator[bytes | DataError]:
        """Yield each n-th image as it comes.

        Raises:
            DataError: Fewer came than there are parts.
        """
        came = 0
        for came, data in enumerate(self._files.images(), 1):
            if (came - self.shard.number) % self.shard.count == 0:
                self.names.append(self._files.names[-1])
                yield data
        if came:
            self.shard.check(came)

    def settle(self, packed: list[int]) -> Settled:
        """Find the classes among all images.

        Raises:
            DataError: There are no classes, or no image of this part is in one.
        """
        first, step = self.shard.number - 1, self.shard.count
        listed = self._files.settle([first + n * step for n in range(len(self.names))])
        self.class_names, self.remarks = self._files.class_names, self._files.remarks
        own, there = [(number - first) // step for number in listed.order], {*packed}
        self.names = [self.names[n] for n in own]
        pairs = [pair for pair in zip(own, listed.labels, strict=True) if pair[0] in there]
        if not pairs:
            raise DataError(f"--shard {self.shard}: no sound image of this part is in a class; take fewer parts")
        return Settled([n for n, _ in pairs], [label for _, label in pairs], len(own))
