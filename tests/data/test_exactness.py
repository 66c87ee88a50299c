"""Exactness on real photographs: set POOLFORMER_IMAGES to a folder of class folders (ImageNet's, say) to run these.

Each test prints the largest and the mean difference it found, in levels of 0..255 (pytest -s).
"""

import io
import os
import warnings

import numpy as np
import pytest
import torch
from data_images import as_pillow_13
from PIL import Image
from timm.data import auto_augment as timm_operations
from timm.data import create_transform

from poolformer.commands.pack import main as pack
from poolformer.data import FFCVData, FolderData
from poolformer.data.class_folders import FolderFiles
from poolformer.data.pixels.device_augment import augment
from poolformer.data.pixels.jpeg import decode, read_header, to_pixels, to_words
from poolformer.data.pixels.jpeg_crop import decoded
from poolformer.data.pixels.randaugment import OPERATIONS, apply, argument
from poolformer.data.pixels.resize import BICUBIC, BILINEAR, resize
from poolformer.data.pixels.transforms import EvalTransform

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("POOLFORMER_IMAGES" not in os.environ, reason="POOLFORMER_IMAGES names no folder of images"),
]
FILL = (124, 116, 104)


@pytest.fixture(scope="module")
def files():
    folder = FolderFiles(os.environ["POOLFORMER_IMAGES"])
    return [folder.read(n) for n in range(len(folder.names))]


@pytest.fixture(scope="module")
def photos(files):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged EXIF tags
        return [Image.open(io.BytesIO(data)).convert("RGB") for data in files]


class Difference:
    """Collects differences and, at the end, holds them to a limit."""

    def __init__(self):
        self.largest, self.sum, self.count = 0, 0.0, 0

    def add(self, got, want):
        difference = np.abs(np.asarray(got).astype(int) - np.asarray(want))
        self.largest = max(self.largest, int(difference.max()))
        self.sum += float(difference.mean())
        self.count += 1

    def check(self, what, limit=0):
        print(f"\n{what}: largest {self.largest}, mean {self.sum / self.count:.4f} levels over {self.count} images")
        assert self.largest <= limit


def test_decoding(files, photos):
    whole, part, rng = Difference(), Difference(), np.random.default_rng(0)
    for data, photo in zip(files, photos, strict=True):
        whole.add(to_pixels(decode(data, "x")), photo)
        if read_header(data) is not None:
            for _ in range(3):
                top, left = int(rng.integers(photo.height)), int(rng.integers(photo.width))
                height, width = int(rng.integers(photo.height - top)) + 1, int(rng.integers(photo.width - left)) + 1
                words = decoded(data, top, left, height, width)
                if words is not None:
                    part.add(to_pixels(words), np.asarray(photo)[top : top + height, left : left + width])
    whole.check("decoding")
    part.check("decoding three crops of each")


@as_pillow_13
@pytest.mark.parametrize("kind", [BILINEAR, BICUBIC], ids=["bilinear", "bicubic"])
def test_crop_and_resize(photos, kind):
    difference, rng = Difference(), np.random.default_rng(0)
    how = {BILINEAR: Image.Resampling.BILINEAR, BICUBIC: Image.Resampling.BICUBIC}[kind]
    out = np.empty((224, 224), np.uint32)
    for photo in photos:
        words = to_words(np.asarray(photo))
        for _ in range(3):
            top, left = int(rng.integers(photo.height)), int(rng.integers(photo.width))
            height, width = int(rng.integers(photo.height - top)) + 1, int(rng.integers(photo.width - left)) + 1
            resize(words, top, left, height, width, (224, 224), (0, 0), False, kind, out)
            want = photo.crop((left, top, left + width, top + height)).resize((224, 224), how)
            difference.add(to_pixels(out), want)
    difference.check("crop and resize")


@pytest.mark.parametrize("name", OPERATIONS)
def test_randaugment(monkeypatch, photos, name):
    geometric = name.startswith(("Rotate", "Shear", "Translate"))
    for cubic in (False, True) if geometric else (False,):
        on_host, on_device = Difference(), Difference()
        for n, photo in enumerate(photos):
            small = photo.resize((224, 224), Image.Resampling.BICUBIC)
            sign = 1.0 if n % 2 else -1.0
            magnitude = (3.1, 8.3, 9.0, 9.7)[n % 4]
            monkeypatch.setattr(timm_operations.random, "random", lambda s=sign: 0.0 if s > 0 else 1.0)
            level_to_arg = timm_operations.LEVEL_TO_ARG[name]
            arguments = level_to_arg(magnitude, {"translate_pct": 0.45}) if level_to_arg else ()
            resample = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
            want = timm_operations.NAME_TO_OP[name](small, *arguments, fillcolor=FILL, resample=resample)
            words, operation = to_words(np.asarray(small)), OPERATIONS.index(name)
            value = argument(operation, magnitude, sign)
            apply(words, operation, value, cubic)
            on_host.add(to_pixels(words), want)
            planes = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None]
            changed = augment(planes, np.array([[[operation, value, cubic]]]))
            on_device.add(changed[0].permute(1, 2, 0), want)
        what = f"{name}, {'bicubic' if cubic else 'bilinear'}" if geometric else name
        on_host.check(f"{what}, on the host")
        on_device.check(f"{what}, on the device")


@as_pillow_13
@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 0.95, 1.0])
def test_evaluation(photos, crop_pct):
    difference, ours = Difference(), EvalTransform(image_size=224, crop_pct=crop_pct)
    timms = create_transform(224, crop_pct=crop_pct, interpolation="bicubic", normalize=False)
    out = np.empty((3, 224, 224), np.uint8)
    for photo in photos:
        ours(to_words(np.asarray(photo)), out)
        difference.add(out, timms(photo).numpy())
    difference.check(f"evaluation at crop_pct {crop_pct}")


def test_batches_from_a_folder_and_from_its_beton(tmp_path):
    pack([os.environ["POOLFORMER_IMAGES"], str(tmp_path / "x.beton")])
    modules = [
        FolderData(train=os.environ["POOLFORMER_IMAGES"], val=os.environ["POOLFORMER_IMAGES"], batch_size=16),
        FFCVData(train=str(tmp_path / "x.beton"), val=str(tmp_path / "x.beton"), batch_size=16),
    ]
    for data in modules:
        data.setup("fit")
    for name in ("train_dataloader", "val_dataloader"):
        difference = Difference()
        for (images, labels), (others, other_labels) in zip(*(getattr(m, name)() for m in modules), strict=True):
            assert labels.tolist() == other_labels.tolist()
            difference.add(images.numpy(), others.numpy())
        difference.check(f"{name}, folder against .beton (batches)")
