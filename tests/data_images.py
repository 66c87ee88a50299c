"""Real JPEG and PNG files of a few pixels, drawn from a seed."""

import io
import threading
import time
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

as_pillow_13 = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13,
    reason="older Pillow resizes portrait images with the horizontal pass first",
)


def photo(seed: int, *, width: int = 96, height: int = 72) -> Image.Image:
    """Smooth blobs with some noise: compresses like a photograph."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), int)
    return Image.fromarray(np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8))


def encoded(image: Image.Image, file_format: str = "JPEG", **options: object) -> bytes:
    """The bytes of `image` as a file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **({"quality": 92} if file_format == "JPEG" else {}) | options)
    return buffer.getvalue()


def reference_pixels(data: bytes) -> np.ndarray:
    """What Pillow decodes, uint8 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def write_class_folders(root: Path, *, classes: int = 3, images: int = 4) -> Path:
    """Class folders of JPEGs of differing sizes; returns `root`."""
    for label in range(classes):
        folder = root / f"class_{label}"
        folder.mkdir(parents=True)
        for n in range(images):
            image = photo(100 * label + n, width=40 + 13 * n + 5 * label, height=70 - 9 * n)
            (folder / f"{n}.JPEG").write_bytes(encoded(image))
    return root


def loading_threads() -> list[threading.Thread]:
    """The loaders' threads that go on after five seconds: those of an abandoned epoch end by themselves, in moments."""
    for _ in range(500):
        alive = [thread for thread in threading.enumerate() if thread.name.startswith("poolformer-data")]
        if not alive:
            break
        time.sleep(0.01)
    return alive
