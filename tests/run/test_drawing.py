"""Pictures by their pixels: what is drawn where, and that no shape or name is too odd to be drawn."""

import numpy as np
import pytest
import torch

from poolformer.run import drawing

MEAN, STD = torch.full((3, 1, 1), 100.0), torch.full((3, 1, 1), 50.0)


def test_normalised_images_come_back_as_their_pixels():
    pixels = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8)
    found = drawing.pixels_of((pixels - MEAN) / STD, mean=MEAN, std=STD)
    assert np.array_equal(found, pixels.permute(0, 2, 3, 1).numpy())


def test_what_lies_outside_of_the_levels_is_cut_off():
    """As the noise of random erasing does, and a loss that diverges."""
    found = drawing.pixels_of(
        torch.tensor([9.0, -9.0, torch.nan]).view(1, 1, 1, 3).expand(1, 3, 1, 3), mean=MEAN, std=STD
    )
    assert found[0, 0, :, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 12])
def test_any_number_of_channels_is_shown(channels):
    images, one = torch.rand(2, channels, 6, 6), torch.ones(channels, 1, 1)
    assert drawing.pixels_of(images, mean=one, std=one).shape == (2, 6, 6, 3)


def test_images_that_the_data_normalised_are_stretched():
    found = drawing.pixels_of(torch.tensor([-3.0, 0, 3]).view(1, 1, 1, 3), mean=MEAN, std=STD, normalised=True)
    assert found[0, 0, :, 0].tolist() == [0, 128, 255]
    assert not drawing.pixels_of(torch.ones(1, 3, 2, 2), mean=MEAN, std=STD, normalised=True).any()  # and a flat one


@pytest.mark.parametrize("side", [8, 224, 300])
def test_a_sheet_has_an_image_in_each_cell(side):
    pixels = np.zeros((3, side, side, 3), np.uint8)
    pixels[..., 1] = 200
    picture = np.asarray(drawing.sheet(pixels, [("a", "b")] * 3, [drawing.GOOD, drawing.BAD, drawing.GOOD], columns=2))
    assert (picture[60, 60] == (0, 200, 0)).all()
    assert (picture == drawing.BAD).all(2).any()
    assert (picture == (0, 200, 0)).all(2).sum() == 3 * drawing.SIDE**2


@pytest.mark.slow
def test_a_long_name_is_cut_and_any_letters_are_drawn():
    drawing.sheet(np.zeros((1, 8, 8, 3), np.uint8), [("x" * 500, "Füchse 狐\n🦊")])
    assert drawing.bars("title", [("x" * 500, 2.0, "a"), ("", -1.0, "")]).width < 1000


def test_headings_of_a_matrix_that_do_not_fit_stand_upright():
    counts = np.eye(3, dtype=int)
    short, long = (drawing.matrix(counts, [f"{stem}{k}" for k in range(3)]) for stem in ("a", "n01440764-"))
    assert short.width == long.width
    assert long.height > short.height
    headings = [np.asarray(long.crop((150 + 34 * k, 24, 182 + 34 * k, long.height - 3 * 34 - 8))) for k in range(3)]
    assert (headings[0] != headings[1]).any()


@pytest.mark.parametrize("letter", ["a", "é"])
def test_of_two_long_names_before_a_bar_both_keep_their_ends(letter):
    said = drawing.pair(f"n01_{f'{letter}_long_name_' * 9}_01", ", taken for ", f"n02_{'a_long_name_' * 9}_02")
    assert [(name[:4], name[-3:]) for name in said.split(", taken for ")] == [("n01_", "_01"), ("n02_", "_02")]
    assert drawing.fitting(said, drawing.bars("", [(said, 1.0, "")]).width - 420 - 16) == said


def test_a_short_name_leaves_its_place_to_the_other():
    long = "Staffordshire bullterrier, Staffordshire bull terrier"
    assert drawing.pair("cat", ", taken for ", long) == f"cat, taken for {long}"


def test_a_matrix_of_few_classes_is_as_wide_as_its_title():
    title = "rows: class of the images; columns: what the network says"
    assert drawing.matrix(np.eye(2), ["a", "b"]).width >= drawing.width_of(title) + 16


def test_a_bar_is_as_long_as_its_share():
    def length(share):
        picture = np.asarray(drawing.bars("", [("a", share, "")], colour=(1, 2, 3)))
        return (picture == (1, 2, 3)).all(2).any(0).sum()

    assert length(0.0) == 0
    assert length(1.0) == pytest.approx(2 * length(0.5), abs=2)


def test_a_matrix_is_darkest_where_most_images_are():
    picture = np.asarray(drawing.matrix(np.array([[9, 1], [0, 0]]), ["a", "b"])).astype(int)
    left, top, side = 150, 40, 34
    brightness = [
        [picture[top + 2 + side * row, left + 2 + side * column].sum() for column in (0, 1)] for row in (0, 1)
    ]
    assert brightness[0][0] < brightness[0][1] < brightness[1][0] == brightness[1][1] == 3 * 255


def test_a_reliability_diagram_takes_empty_bins():
    assert drawing.reliability([(0.0, 0.0, 0)] * 15, ece=0.0).width > 300
