"""Names of classes come in all letters and lengths, and are told apart in a picture."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from poolformer.run import lettering

INK, PAPER = (0, 0, 0), (255, 255, 255)


@pytest.fixture
def alone(monkeypatch):
    """Have no font but Pillow's own."""
    own = ImageFont.load_default(11)
    lettering._has.cache_clear()
    monkeypatch.setattr(lettering, "_fonts", lambda: [own])
    yield
    lettering._has.cache_clear()


def drawn(text):
    picture = Image.new("RGB", (200, 20), PAPER)
    lettering.write(ImageDraw.Draw(picture), (0, 0), text, INK)
    return np.asarray(picture)


def test_without_another_font_accents_are_left_out_and_other_letters_are_numbers(alone):
    assert lettering.fitting("Käfer\nÑandú", 500) == "Kafer Nandu"
    assert lettering.fitting("狗 a", 500) == r"\u72d7 a"
    assert (drawn("Käfer") == drawn("Kafer")).all()
    assert (drawn("狗") != drawn("猫")).any()


def test_with_one_that_has_the_letters_they_are_drawn():
    if len(lettering._fonts()) == 1:
        pytest.skip("no other font is installed here")
    assert lettering.fitting("Käfer", 500) == "Käfer"
    assert (drawn("Käfer") != drawn("Kafer")).any()


def test_names_that_begin_alike_stay_apart_where_they_are_cut():
    names = [f"n0144{'0' * 40}{number}" for number in range(3)]
    cut = [lettering.fitting(name, 90) for name in names]
    assert len({*cut}) == 3
    assert all(lettering.width_of(each) <= 90 and "..." in each for each in cut)
    assert lettering.fitting(f"{'x' * 99} 23%", 90).endswith(" 23%")
    assert lettering.fitting("anything", 0) == "..."


def test_an_upright_text_is_read_from_below():
    picture = lettering.upright("l", INK, PAPER, height=60)
    assert picture.size == (15, 60)
    dark = np.argwhere(np.asarray(picture).min(2) < 128)
    assert dark[:, 0].min() > 40
