"""Slots that kernels fill hold what one image after the other would give; others are left to the caller."""

import numpy as np
import pytest
from data_images import encoded, photo

from poolformer.data.beton import RAW, Beton
from poolformer.data.beton_stream import BetonWriter
from poolformer.data.pack import Storage, stored_image
from poolformer.data.pixels.reading import IS_POSSIBLE
from poolformer.data.pixels.transforms import EvalTransform, TrainTransform
from poolformer.data.sources import BetonSource, FileSource
from poolformer.data.tiling import Tiling

pytestmark = pytest.mark.skipif(not IS_POSSIBLE, reason="Windows reads files by Python")

FILES = [
    encoded(photo(0, width=96, height=72)),
    encoded(photo(1, width=50, height=170), subsampling=0),
    encoded(photo(2, width=170, height=50).convert("L")),
    encoded(photo(3), progressive=True),
    encoded(photo(4), "PNG"),
    encoded(photo(5), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
]
OPTIONS = {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "hflip": 0.5, "interpolation": "random"}
RECIPE = {**OPTIONS, "image_size": 32, "seed": 1, "auto_augment": "rand-m9-mstd0.5-inc1"}
TRANSFORMS = {
    "training": TrainTransform(**RECIPE),
    "on the device": TrainTransform(**RECIPE, augment_on="device"),
    "evaluation": EvalTransform(image_size=32, crop_pct=0.9),
    "the middle alone": EvalTransform(image_size=32, crop_pct=0.4),
}


def packed(path, **options) -> BetonSource:
    with BetonWriter(path, capacity=len(FILES)) as writer:
        for n, data in enumerate(FILES):
            writer.add(stored_image(data, "x", Storage(**options), Tiling()), n)
        writer.finish([f"class {n}" for n in range(len(FILES))], {})
    return BetonSource(Beton(path))


def files(folder, *, orient: bool = False) -> FileSource:
    paths = [str(folder / str(n)) for n in range(len(FILES))]
    for path, data in zip(paths, FILES, strict=True):
        with open(path, "wb") as file:
            file.write(data)
    return FileSource(paths, range(len(FILES)), orient=orient)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize(
    ("kind", "left"), [("packed", {3}), ("raw", set()), ("tiles", {3}), ("files", {3, 4}), ("turned", {3, 4, 5})]
)
def test_slots_hold_what_one_image_after_the_other_gives(tmp_path, name, kind, left):
    options = {"raw": {"raw": True}, "tiles": {"tiles": True}}.get(kind, {})
    is_packed = kind in ("packed", "raw", "tiles")
    source = packed(tmp_path / "x.beton", **options) if is_packed else files(tmp_path, orient=kind == "turned")
    transform, samples = TRANSFORMS[name], np.array([4, 2, 0, 5, 1, 3])
    for epoch in range(3):
        slots, want = np.zeros((2, len(samples), 3, 32, 32), np.uint8)
        filled = source.fill(samples, transform, epoch, slots)
        assert set(samples[~filled.done].tolist()) == left
        for place, sample in enumerate(samples.tolist()):
            draws = source.load(sample, transform, epoch, want[place])
            if filled.done[place]:
                np.testing.assert_array_equal(slots[place], want[place])
                if draws is not None:
                    np.testing.assert_array_equal(filled.draws[place], draws)


def test_an_image_whose_size_is_not_what_the_index_says_is_left(tmp_path):
    with BetonWriter(tmp_path / "x.beton", capacity=2) as writer:
        sound = stored_image(FILES[0], "x", Storage(), Tiling())
        writer.add(sound._replace(height=sound.height - 1), 0)
        writer.add(stored_image(FILES[0], "x", Storage(raw=True), Tiling()), 1)
        writer.finish(["a", "b"], {})
    source = BetonSource(Beton(tmp_path / "x.beton"))
    assert source._beton.read(1).mode == RAW
    filled = source.fill(np.arange(2), TRANSFORMS["training"], 0, np.zeros((2, 3, 32, 32), np.uint8))
    assert filled.done.tolist() == [False, True]


def test_damage_is_left_to_who_can_name_it(tmp_path):
    source = packed(tmp_path / "x.beton")
    place = int(source._beton.entries(np.array([0])).place[0])
    with open(tmp_path / "x.beton", "r+b") as file:
        file.seek(place + 300)
        file.write(b"\0\1\2")
    filled = source.fill(np.arange(6), TRANSFORMS["training"], 0, np.zeros((6, 3, 32, 32), np.uint8))
    assert filled.done.tolist() == [False, True, True, False, True, True]
