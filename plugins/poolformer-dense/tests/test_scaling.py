"""How images and masks are scaled, cut and recoloured."""

from functools import partial

import pytest
import torch
from poolformer_dense import scaling
from poolformer_dense.scaling import IGNORED, resized_masks, to_train, to_validate
from torch import Tensor
from torchvision.transforms import v2

MEAN = torch.tensor([124, 116, 104])


def ramp(height: int, width: int) -> tuple[Tensor, Tensor]:
    """An image of which each column has its own level, and the same as its mask."""
    levels = torch.arange(width).expand(height, width)
    return levels.to(torch.uint8).expand(3, height, width), levels


@pytest.fixture
def plain(monkeypatch):
    """No change of colours."""
    monkeypatch.setattr(scaling, "_recoloured", lambda image: image)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("size", [(30, 50), (90, 40)])
def test_images_and_masks_are_cut_and_flipped_alike(size, plain):
    rising = []
    for _ in range(20):
        image, mask = to_train(32, *ramp(*size))
        assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((3, 32, 32), torch.uint8, (32, 32), torch.int64)
        inside = mask != IGNORED
        assert (image[0][inside].long() - mask[inside]).abs().max() <= 2  # one is resized smoothly, one is not
        rising.append(bool(mask[0, 1] < mask[0, 5]))
    assert 0 < sum(rising) < 20


def test_images_to_train_on_have_half_to_twice_the_size_of_validation(plain):
    # Levels of the ramp from column to column, of images whose shorter side is 64, and in validation 32.
    steps = [to_train(32, *ramp(64, 200))[1][0].diff().abs()[:12].float().mean() for _ in range(200)]
    assert 0.9 < min(steps) < 1.1
    assert 3.6 < max(steps) < 4.1
    assert 1.5 < torch.stack(steps).median() < 1.8  # 2 / 1.25: all sizes are as likely


def test_what_an_image_lacks_is_filled_with_the_mean_colour_and_no_class(monkeypatch):
    monkeypatch.setattr(scaling, "_recoloured", lambda image: torch.full_like(image, 7))
    filled = 0
    for _ in range(20):
        image, mask = to_train(32, *ramp(64, 64))
        nothing = mask == IGNORED
        filled += bool(nothing.any())
        assert not nothing[0, 0]
        assert (image[:, ~nothing] == 7).all()
        assert torch.equal(image[:, nothing], MEAN[:, None].expand(3, int(nothing.sum())).byte())
    assert 0 < filled < 20


def test_colours_change_within_their_levels_and_masks_do_not(monkeypatch):
    image, mask = torch.randint(256, (3, 40, 40), dtype=torch.uint8), torch.randint(3, (40, 40))
    monkeypatch.setattr(scaling, "_between", lambda low, high: 1.0 if low == 0.5 else (low + high) / 2)  # as it is
    same_image, same_mask = to_train(40, image, mask)
    assert torch.equal(same_image, image)
    assert torch.equal(same_mask, mask)
    monkeypatch.undo()
    changed = [scaling._recoloured(image) for _ in range(40)]
    assert {each.dtype for each in changed} == {torch.uint8}
    differences = [bool((each != image).any()) for each in changed]
    assert 30 < sum(differences) < 40  # of 16, one has none of the four


@pytest.mark.parametrize("contrast_last", [True, False])
def test_contrast_is_changed_before_the_colours_or_after_them(monkeypatch, contrast_last):
    draws = iter([contrast_last, True, True, True, True])
    monkeypatch.setattr(scaling, "_by_half", lambda: next(draws))
    monkeypatch.setattr(scaling, "_between", lambda low, high: high)
    image = torch.randint(256, (3, 40, 40), dtype=torch.uint8)
    expected = (image.int() + 32).clamp(max=255).byte()
    multiply, saturate = (
        partial(v2.functional.adjust_brightness, brightness_factor=1.5),
        v2.functional.adjust_saturation,
    )
    expected = expected if contrast_last else multiply(expected)
    expected = v2.functional.adjust_hue(saturate(expected, 1.5), 0.1)
    assert torch.equal(scaling._recoloured(image), multiply(expected) if contrast_last else expected)


@pytest.mark.parametrize(
    ("levels", "varied"),
    [
        ([0, 0, 0, 0], False),
        ([0, 0, 0, 1], False),
        ([0, 0, 1, 1], True),
        ([0, 0, 0, IGNORED], False),
        ([0, 1, IGNORED, IGNORED], True),
        ([IGNORED] * 4, False),
    ],
)
def test_a_crop_is_varied_where_no_class_has_three_quarters(levels, varied):
    assert scaling._is_varied(torch.tensor(levels)) is varied


def test_a_crop_of_one_class_is_taken_anew(plain, monkeypatch):
    mask = torch.zeros(64, 256, dtype=torch.long)
    mask[:, 224:] = 1
    image = torch.zeros(3, 64, 256, dtype=torch.uint8)

    def varied() -> int:
        torch.manual_seed(0)
        return sum(scaling._is_varied(to_train(32, image, mask)[1]) for _ in range(100))

    often = varied()
    monkeypatch.setattr(scaling, "_TRIALS", 1)
    assert often > 2 * varied() > 0


@pytest.mark.parametrize(
    ("size", "side", "keep_shape", "resized"),
    [
        ((150, 250), 64, True, (64, 128)),
        ((250, 150), 64, True, (128, 64)),
        ((10, 250), 64, True, (32, 256)),
        ((1, 250), 64, True, (32, 256)),
        ((150, 250), 64, False, (64, 64)),
        ((150, 250), 60, False, (60, 60)),
    ],
)
def test_validation_sees_whole_images_and_all_pixels_of_their_masks(size, side, keep_shape, resized):
    image, mask = ramp(*size)
    seen, same = to_validate(side, keep_shape, image, mask)
    assert seen.shape == (3, *resized)
    assert torch.equal(same, mask)
    assert seen[..., 0].max() <= 3
    assert seen[..., -1].min() >= size[1] - 5


def test_a_pixel_of_a_resized_mask_has_the_class_at_its_centre():
    mask = torch.arange(64).expand(1, 8, 64)
    assert resized_masks(mask, (1, 8))[0, 0].tolist() == [4, 12, 20, 28, 36, 44, 52, 60]
    assert torch.equal(resized_masks(mask, (8, 64)), mask)
    assert resized_masks(torch.tensor([[[0, IGNORED]]]), (1, 4))[0, 0].tolist() == [0, 0, IGNORED, IGNORED]
