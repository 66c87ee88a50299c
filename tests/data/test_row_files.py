"""Any object with a length and pairs is packed, without a loss; what is no image or no label is a line."""

import io

import numpy as np
import pytest
import torch
from data_images import encoded, photo, reference_pixels, write_class_folders
from PIL import Image

from poolformer.commands.pack import main as pack
from poolformer.data import pack_dataset
from poolformer.data.beton import RAW, Beton
from poolformer.data.pixels.jpeg import decode, to_pixels
from poolformer.errors import ConfigError, DataError


def pixels(beton, n):
    image = beton.read(n)
    if image.mode == RAW:
        return image.data.reshape(image.height, image.width, 3)
    return to_pixels(decode(image.data, "x"))


def test_files_and_pixels_of_every_kind_are_kept(tmp_path):
    image = photo(0)
    (tmp_path / "x.jpg").write_bytes(encoded(image))
    array = np.asarray(image)
    grey, palette = image.convert("L"), image.convert("P")
    rows = [
        *(
            (tmp_path / "x.jpg", 0),
            (encoded(image), 1),
            ({"bytes": None, "path": str(tmp_path / "x.jpg")}, np.int64(2)),
        ),
        *((image, torch.tensor(1)), (array, 0), (torch.from_numpy(array.copy()).permute(2, 0, 1), 0)),
        *((grey, 0), (np.asarray(grey), 0), (palette, 0), (image.convert("RGBA"), 0), (image.convert("CMYK"), 0)),
    ]
    assert pack_dataset(rows, tmp_path / "x.beton") == []
    beton = Beton(tmp_path / "x.beton")
    assert beton.labels.tolist() == [0, 1, 2, 1] + [0] * 7
    assert beton.class_names == ["0", "1", "2"]
    for n in range(3):
        assert beton.read(n).data.tobytes() == encoded(image)
    for n in (3, 4, 5, 9):
        np.testing.assert_array_equal(pixels(beton, n), array)
    for n, other in [(6, grey), (7, grey), (8, palette)]:
        np.testing.assert_array_equal(pixels(beton, n), np.asarray(other.convert("RGB")))
    buffer = io.BytesIO()
    image.convert("CMYK").save(buffer, "TIFF")
    np.testing.assert_array_equal(pixels(beton, 10), reference_pixels(buffer.getvalue()))


class Named(list):
    classes = ["dog", "cat"]  # noqa: RUF012


def test_names_of_classes_are_those_of_the_data_set_or_of_the_labels(tmp_path):
    pack_dataset(torch.utils.data.Subset(Named([(photo(0), 1), (photo(1), 1)]), [1]), tmp_path / "x.beton")
    assert (Beton(tmp_path / "x.beton").class_names, Beton(tmp_path / "x.beton").labels.tolist()) == (
        ["dog", "cat"],
        [1],
    )
    pack_dataset([{"img": photo(0), "label": "b"}, {"img": photo(1), "label": "a"}], tmp_path / "y.beton")
    assert (Beton(tmp_path / "y.beton").class_names, Beton(tmp_path / "y.beton").labels.tolist()) == (
        ["a", "b"],
        [1, 0],
    )


def test_the_file_is_that_of_the_same_class_folders(tmp_path):
    source = write_class_folders(tmp_path / "source")
    files = sorted(source.rglob("*.JPEG"))
    pack_dataset([(file, file.parent.name) for file in files], tmp_path / "a.beton", max_side=40, num_workers=2)
    pack([str(source), str(tmp_path / "b.beton"), "--max_side=40"])
    assert (tmp_path / "a.beton").read_bytes() == (tmp_path / "b.beton").read_bytes()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "there are no images in it"),
        ([(photo(0), -1)], r"sample 0: the label -1 is out of range, as of images without labels"),
        ([(photo(0), 3.5)], "sample 0: its label is float; expected are"),
        ([(photo(0), None)], "sample 0: its label is NoneType"),
        (Named([(photo(0), 2)]), "sample 0: the label 2 is out of range; labels go from 0 to 1"),
        (Named([(photo(0), "cow")]), "sample 0: 'cow' is none of the 2 classes"),
        ([(photo(0), 0), (photo(0), "a")], "some labels are numbers and some are names, such as 'a'"),
        ([(photo(0), 0, 1)], "sample 0 is tuple of 3; expected is a pair"),
        ([(None, 0)], "sample 0: its image is NoneType; expected are bytes"),
        ([(np.zeros((4, 4, 3)), 0)], r"sample 0: its image is float64 \(4, 4, 3\); expected is uint8"),
        ([("none.jpg", 0)], "none.jpg': cannot be read"),
        ([(b"no image", 0)], "sample 0"),
    ],
)
def test_what_cannot_be_packed_is_a_line(tmp_path, rows, said):
    with pytest.raises(DataError, match=said):
        pack_dataset(rows, tmp_path / "x.beton")
    assert not any(tmp_path.iterdir())


def test_bad_images_are_skipped_and_errors_of_the_data_set_told(tmp_path):
    skipped = pack_dataset([(b"x", 0), (photo(0), 1)], tmp_path / "x.beton", on_error="skip")
    assert len(skipped) == 1
    assert Beton(tmp_path / "x.beton").labels.tolist() == [1]
    with pytest.raises(DataError, match="already there"):
        pack_dataset([(photo(0), 1)], tmp_path / "x.beton")
    with pytest.raises(ConfigError, match="generator is no data set"):
        pack_dataset((row for row in []), tmp_path / "y.beton")

    class Broken(list):
        def __getitem__(self, n):
            raise RuntimeError("no")

    with pytest.raises(DataError, match=r"sample 0 cannot be read \(RuntimeError: no\)"):
        pack_dataset(Broken([1]), tmp_path / "y.beton")


def test_a_lazy_pillow_image_is_read(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(photo(0), "PNG"))
    with Image.open(tmp_path / "x.png") as image:
        pack_dataset([(image, 0)], tmp_path / "x.beton")
    np.testing.assert_array_equal(pixels(Beton(tmp_path / "x.beton"), 0), np.asarray(photo(0)))
