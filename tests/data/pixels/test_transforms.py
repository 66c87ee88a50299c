"""Transforms equal timm's where nothing is drawn, and depend on (seed, epoch, sample) alone where something is."""

import numpy as np
import pytest
from data_images import as_pillow_13, photo
from PIL import Image
from timm.data import create_transform
from timm.data.transforms import RandomResizedCropAndInterpolation

from poolformer.data.pixels.image_kernels import plan
from poolformer.data.pixels.jpeg import to_words
from poolformer.data.pixels.keyed import normal, stream, uniform, word
from poolformer.data.pixels.transforms import EvalTransform, TrainTransform
from poolformer.errors import ConfigError

RECIPE = {
    "image_size": 32,
    "scale": (0.08, 1.0),
    "ratio": (3 / 4, 4 / 3),
    "hflip": 0.5,
    "interpolation": "random",
    "auto_augment": "rand-m9-mstd0.5-inc1",
}


def transformed(transform, image: Image.Image, *, epoch=0, sample=0):
    out = np.empty((3, transform.image_size, transform.image_size), np.uint8)
    transform(to_words(np.asarray(image)), out, epoch=epoch, sample=sample)
    return out


@pytest.mark.parametrize(
    "size", [(96, 72), (72, 96), pytest.param((40, 130), marks=as_pillow_13), (130, 40), (33, 33), (20, 17)]
)
@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 0.95, 1.0])
def test_evaluation_equals_timm(size, crop_pct):
    image = photo(1, width=size[0], height=size[1])
    want = create_transform(32, crop_pct=crop_pct, interpolation="bicubic", normalize=False)(image).numpy()
    np.testing.assert_array_equal(transformed(EvalTransform(image_size=32, crop_pct=crop_pct), image), want)


def test_training_depends_on_seed_epoch_and_sample():
    image = photo(2)
    base = transformed(TrainTransform(**RECIPE, seed=1), image, epoch=3, sample=5)
    np.testing.assert_array_equal(transformed(TrainTransform(**RECIPE, seed=1), image, epoch=3, sample=5), base)
    for seed, epoch, sample in [(2, 3, 5), (1, 4, 5), (1, 3, 6)]:
        other = transformed(TrainTransform(**RECIPE, seed=seed), image, epoch=epoch, sample=sample)
        assert (other != base).any()


def test_crops_and_flips_equal_pillow_on_the_same_draws():
    """A crop of everything, always flipped, is a plain resize mirrored."""
    options = {**RECIPE, "scale": (1.0, 1.0), "hflip": 1.0, "interpolation": "bicubic", "auto_augment": None}
    image = photo(3, width=60, height=60)
    got = transformed(TrainTransform(**options | {"ratio": (1.0, 1.0)}, seed=0), image)
    want = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))[:, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(got, want)


def test_a_padded_crop_is_the_whole_image_moved_within_black():
    options = {**RECIPE, "hflip": 0.0, "interpolation": "bicubic", "auto_augment": None, "pad": 4}
    pixels = np.asarray(photo(3, width=32, height=32)).transpose(2, 0, 1)
    padded = np.pad(pixels, ((0, 0), (4, 4), (4, 4)))
    windows = {padded[:, y : y + 32, x : x + 32].tobytes(): (y, x) for y in range(9) for x in range(9)}
    transform = TrainTransform(**options, seed=0)
    found = [windows[transformed(transform, photo(3, width=32, height=32), sample=n).tobytes()] for n in range(300)]
    assert {y for y, _ in found} == {x for _, x in found} == set(range(9))
    assert len(set(found)) > 70  # of 81: the two are drawn apart


def test_crops_cover_the_area_and_ratio_they_promise():
    transform = TrainTransform(**RECIPE, seed=0)
    boxes = np.array([plan(300, 400, transform.recipe, 0, n)[1].box for n in range(4000)])
    top, left, height, width = boxes.T
    area, ratio = height * width / (300 * 400), width / height
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 300).all()
    assert (left + width <= 400).all()
    assert 0.079 < area.min() < 0.1
    assert 0.9 < area.max() <= 1
    assert 0.74 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.35
    assert area.mean() == pytest.approx(np.mean([_area_by_timm() for _ in range(4000)]), abs=0.02)


def _area_by_timm():
    image = Image.new("RGB", (400, 300))
    _, _, height, width = RandomResizedCropAndInterpolation.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3))
    return height * width / (300 * 400)


def test_impossible_ratio_falls_back_to_the_centre():
    transform = TrainTransform(**RECIPE, seed=0)
    assert plan(1000, 10, transform.recipe, 0, 0)[1].box == (493, 0, 13, 10)
    assert plan(10, 1000, transform.recipe, 0, 0)[1].box == (0, 493, 10, 13)


def test_draws_are_uniform_and_gaussian():
    state = stream(word(-1), 0, 0)
    draws = np.array([uniform(state, 2.0, 4.0) for _ in range(20000)])
    assert draws.min() >= 2
    assert draws.max() < 4
    assert draws.mean() == pytest.approx(3, abs=0.02)
    draws = np.array([normal(state, 9.0, 0.5) for _ in range(20000)])
    assert (draws.mean(), draws.std()) == pytest.approx((9, 0.5), abs=0.02)


@pytest.mark.parametrize(
    ("name", "value"),
    [("scale", (0.0, 1.0)), ("ratio", (2.0, 1.0)), ("hflip", 1.5), ("pad", 33), ("interpolation", "nearest")],
)
def test_impossible_options_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        TrainTransform(**RECIPE | {name: value}, seed=0)


def test_crop_pct_beyond_one_is_refused():
    with pytest.raises(ConfigError, match=r"crop_pct=1\.1"):
        EvalTransform(image_size=32, crop_pct=1.1)
