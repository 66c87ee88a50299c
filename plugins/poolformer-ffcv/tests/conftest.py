"""Small .beton files, as `poolformer pack` and as ffcv write them."""

import io

import numpy as np
import pytest
from ffcv.pipeline.compiler import Compiler
from PIL import Image

from poolformer.data.beton import JPEG, Stored
from poolformer.data.beton_stream import BetonWriter

SAMPLES, CLASSES = 11, 3


def photo(seed: int, *, width: int = 60, height: int = 48) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def jpeg(seed: int) -> Stored:
    pixels, buffer = photo(seed, width=48 + 3 * (seed % 5)), io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return Stored(JPEG, *pixels.shape[:2], np.frombuffer(buffer.getvalue(), np.uint8))


def write(path, samples=SAMPLES, *, label=lambda n: n % CLASSES):
    """A file of ours; returns its path as text."""
    with BetonWriter(path, capacity=samples) as writer:
        for n in range(samples):
            writer.add(jpeg(n), label(n))
        writer.finish(sorted({str(label(n)) for n in range(samples)}), {})
    return str(path)


@pytest.fixture
def beton(tmp_path) -> str:
    """11 images of 3 classes."""
    return write(tmp_path / "x.beton")


@pytest.fixture
def numbered(tmp_path) -> str:
    """24 images, each a class of its own: labels tell which they are."""
    return write(tmp_path / "numbered.beton", 24, label=int)


@pytest.fixture(autouse=True)
def uncompiled():
    """ffcv without numba, which takes seconds a loader."""
    Compiler.set_enabled(False)
    yield
    Compiler.set_enabled(True)
