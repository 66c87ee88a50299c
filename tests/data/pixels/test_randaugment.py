"""The fifteen operations equal timm's on Pillow to the last bit; the draws follow its distribution."""

import numpy as np
import pytest
from data_images import photo
from PIL import Image
from timm.data import auto_augment as timm_operations

from poolformer.data.pixels.jpeg import to_pixels, to_words
from poolformer.data.pixels.keyed import stream, word
from poolformer.data.pixels.randaugment import OPERATIONS, Policy, apply, argument, augment, parse_policy
from poolformer.errors import ConfigError

FILL = (124, 116, 104)
GEOMETRIC = ("Rotate", "Shear", "Translate")


def by_timm(monkeypatch, pixels, name, magnitude, sign, resample):
    monkeypatch.setattr(timm_operations.random, "random", lambda: 0.0 if sign > 0 else 1.0)  # it draws the sign
    level_to_arg = timm_operations.LEVEL_TO_ARG[name]
    arguments = level_to_arg(magnitude, {"translate_pct": 0.45}) if level_to_arg else ()
    operation = timm_operations.NAME_TO_OP[name]
    return np.asarray(operation(Image.fromarray(pixels), *arguments, fillcolor=FILL, resample=resample))


@pytest.mark.parametrize(
    ("name", "cubic"),
    [(name, False) for name in OPERATIONS] + [(name, True) for name in OPERATIONS if name.startswith(GEOMETRIC)],
)
def test_operation_equals_timm(monkeypatch, name, cubic):
    resample = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
    for seed, size in enumerate([(64, 64), (50, 71)]):
        pixels = np.asarray(photo(seed, width=size[1], height=size[0]))
        for magnitude in (0.0, 3.1, 8.3, 9.0, 9.7):
            for sign in (1.0, -1.0):
                words, operation = to_words(pixels), OPERATIONS.index(name)
                apply(words, operation, argument(operation, magnitude, sign), cubic)
                want = by_timm(monkeypatch, pixels, name, magnitude, sign, resample)
                np.testing.assert_array_equal(to_pixels(words), want, err_msg=f"{size} {magnitude} {sign}")


@pytest.mark.parametrize("name", ["AutoContrast", "Equalize", "ContrastIncreasing"])
def test_flat_images_equal_timm(monkeypatch, name):
    pixels = np.full((16, 16, 3), 77, np.uint8)
    words, operation = to_words(pixels), OPERATIONS.index(name)
    apply(words, operation, argument(operation, 9.0, 1.0), False)
    np.testing.assert_array_equal(to_pixels(words), by_timm(monkeypatch, pixels, name, 9.0, 1.0, None))


def test_posterize_to_no_bits_is_black():
    """Magnitude 10 asks for 0 bits, which Pillow 13 refuses; older ones gave black."""
    words, operation = to_words(np.asarray(photo(0))), OPERATIONS.index("PosterizeIncreasing")
    apply(words, operation, argument(operation, 10.0, 1.0), False)
    assert not to_pixels(words).any()


def test_a_quarter_of_the_images_stays_as_it_is():
    """Two operations, each left out with probability 1/2."""
    image = to_words(np.asarray(photo(0, width=24, height=24)))
    unchanged = 0
    for sample in range(2000):
        words = image.copy()
        augment(words, parse_policy("rand-m9-mstd0.5-inc1"), 2, stream(word(0), 0, sample))
        unchanged += np.array_equal(words, image)
    assert unchanged / 2000 == pytest.approx(0.25, abs=0.04)


def test_policy_is_read_in_timms_spelling():
    assert parse_policy("rand-m9-mstd0.5-inc1") == Policy(2, 9.0, 0.5, 0.5)
    assert parse_policy("rand-n3-m7-inc1-p0.8") == Policy(3, 7.0, 0.0, 0.8)
    assert parse_policy(None).operations == 0


@pytest.mark.parametrize(
    "text", ["rand-m9-mstd0.5", "rand-m9-inc0", "augmix-m3", "rand-m90-inc1", "rand-m9-inc1-w0", ""]
)
def test_other_policies_are_refused_by_name(text):
    with pytest.raises(ConfigError, match=r"rand-m9-mstd0\.5-inc1"):
        parse_policy(text)
