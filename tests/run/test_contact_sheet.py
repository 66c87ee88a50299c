"""The sheet has the images of which the network is least certain, and most, in their order, each with what is said."""

import numpy as np
import torch
from PIL import Image

from poolformer.run import drawing
from poolformer.run.contact_sheet import ContactSheet, Said

PLAIN = {"mean": torch.zeros(3, 1, 1), "std": torch.full((3, 1, 1), 255.0)}


def images(confidences):
    """Grey images as bright as the network is certain."""
    return torch.tensor(confidences)[:, None, None, None].expand(-1, 3, 8, 8)


def shown(monkeypatch):
    """Have the sheets say how bright their images are, and what is written below."""
    found = []
    real = drawing.sheet

    def sheet(pixels, captions, colours):
        found.append(([int(each[0, 0, 0]) for each in pixels], [list(each) for each in captions], list(colours)))
        return real(pixels, captions, colours)

    monkeypatch.setattr(drawing, "sheet", sheet)
    return found


def test_of_many_images_the_extremes_are_kept_whatever_the_batches(tmp_path, monkeypatch):
    found = shown(monkeypatch)
    confidences = np.random.default_rng(0).permutation(np.arange(100) / 100).tolist()
    for size in (1, 7, 100):
        sheet = ContactSheet(3)
        for first in range(0, 100, size):
            part = confidences[first : first + size]
            sheet.update(images(part), [Said(str(value), "ant", value, None, None) for value in part], **PLAIN)
        sheet.write(tmp_path / "sheet.jpg")
        least, most = found[-2:]
        assert [name for *_, name in least[1]] == ["0.0", "0.01", "0.02"]
        assert [name for *_, name in most[1]] == ["0.99", "0.98", "0.97"]
        assert least[0] == [0, 3, 5]
    with Image.open(tmp_path / "sheet.jpg") as picture:
        assert picture.format == "JPEG"


def test_of_few_images_each_is_there_once(tmp_path, monkeypatch):
    found = shown(monkeypatch)
    sheet = ContactSheet(3)
    said = [
        Said("a.png", "ant", 0.5, "ant", True),
        Said("b.png", "ant", 0.5, "bee", False),
        Said("c.png", "bee", 0.9, None, None),
    ]
    sheet.update(images([0.5, 0.5, 0.9]), said, **PLAIN)
    sheet.update(images([0.1]), [Said("d.png", "bee", 0.1, None, None)], **PLAIN)
    sheet.write(tmp_path / "sheet.png")
    assert [caption for _, captions, _ in found for caption in captions] == [
        *(["bee 10.0%", "", "d.png"], ["ant 50.0%", "is ant", "a.png"], ["ant 50.0%", "is bee", "b.png"]),
        ["bee 90.0%", "c.png"],
    ]
    assert found[0][2] == [drawing.NEUTRAL, drawing.GOOD, drawing.BAD]


def test_of_no_images_nothing_is_written(tmp_path):
    ContactSheet().write(tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())
