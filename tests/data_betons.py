"""Small .beton files whose images are of no matter."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from poolformer.data.beton import JPEG, RAW, Stored
from poolformer.data.beton_stream import BetonWriter


def write_beton(path: Path, labels: Sequence[int], *, sizes: Sequence[int] | None = None) -> Path:
    """A file of raw images of 4 by 4, or of given sizes."""
    with BetonWriter(path, capacity=len(labels)) as writer:
        for n, label in enumerate(labels):
            data = np.full(sizes[n] if sizes else 48, n, np.uint8)
            writer.add(Stored(JPEG if sizes else RAW, 4, 4, data), label)
        writer.finish(["a"], {})
    return path


def without_notes(path: Path) -> Path:
    """As ffcv leaves a file: with no checksums."""
    path.write_bytes(path.read_bytes().replace(b"metafmr1", bytes(8)))
    return path
