"""Images that are not RGB of 8 bits, upright, of one frame and in ASCII: what becomes of them, the same everywhere."""

import csv
import io
import os
import sys
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from data_images import encoded, photo, write_class_folders
from PIL import Image, ImageOps

from poolformer.classifier import ImageClassifier
from poolformer.cli.dispatch import main
from poolformer.commands.verify import main as verify
from poolformer.data import FFCVData, FolderData
from poolformer.data.beton import JPEG, RAW, Beton
from poolformer.data.pixels.jpeg import decode, decode_upright, to_pixels
from poolformer.errors import DataError, one_line
from poolformer.run.predictions import PredictionWriter

WIDE = (np.arange(48 * 64).reshape(48, 64) * 21).astype(np.uint16)


def pgm(largest: int, pixels: np.ndarray) -> bytes:
    return b"P5\n64 48\n%d\n" % largest + pixels.astype(">u2").tobytes()


DEEP = {
    "grey.png": encoded(Image.fromarray(WIDE), "PNG"),
    "grey.tif": encoded(Image.fromarray(WIDE), "TIFF"),
    "big-endian.tif": encoded(Image.frombytes("I;16B", (64, 48), WIDE.astype(">u2").tobytes()), "TIFF"),
    "grey.pgm": pgm(65535, WIDE),
    "png named.JPEG": encoded(Image.fromarray(WIDE), "PNG"),
}


@pytest.mark.parametrize("name", DEEP)
def test_grey_of_16_bits_keeps_its_upper_8(name):
    pixels = to_pixels(decode(DEEP[name], name))
    np.testing.assert_array_equal(pixels, np.repeat((WIDE >> 8).astype(np.uint8)[..., None], 3, 2))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encoded(Image.fromarray(WIDE.astype(np.int32)), "TIFF"), "integers"),
        (encoded(Image.fromarray(WIDE.astype(np.float32)), "TIFF"), "floats"),
        (b"Pf\n64 48\n-1.0\n" + WIDE.astype("<f4").tobytes(), "floats"),
    ],
    ids=["int32", "float32", "PFM"],
)
def test_pixels_of_32_bits_are_refused(data, kind):
    with pytest.raises(DataError, match=rf"^a\.tif: its pixels are {kind} of 32 bits, .*; save it with 8 or 16 bits$"):
        decode(data, "a.tif")


FRAMES = [photo(n, width=40, height=30) for n in range(3)]


@pytest.mark.parametrize(
    "data",
    [
        encoded(FRAMES[0].convert("P"), "GIF", save_all=True, append_images=FRAMES[1:]),
        encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
        encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True),
        encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]),
        encoded(FRAMES[0].convert("RGBA"), "PNG"),
        encoded(FRAMES[0].convert("LA"), "PNG"),
        encoded(FRAMES[0].convert("1"), "PNG"),
        encoded(FRAMES[0].convert("P"), "PNG", transparency=3),
    ],
    ids=["GIF", "APNG", "WebP", "TIFF", "RGBA", "LA", "1 bit", "transparent palette"],
)
def test_the_first_image_is_read_and_transparency_dropped(data):
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(to_pixels(decode(data, "x")), np.asarray(image.convert("RGB")))


def test_an_avif_of_any_name_is_read():
    Image.init()
    if "AVIF" not in Image.OPEN:
        pytest.skip("Pillow without AVIF")
    data = encoded(photo(1), "AVIF")
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(to_pixels(decode(data, "n01.JPEG")), np.asarray(image.convert("RGB")))


def test_a_photograph_of_a_telephone_is_called_what_it_is():
    with pytest.raises(DataError, match=r"^a\.jpg: cannot be read as an image \(HEIC, which is not read here\)"):
        decode(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(100), "a.jpg")


# ---- orientation


def tagged(orientation: int, file_format: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photo(orientation, width=40, height=30), file_format, exif=exif)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_ignored_or_followed_as_asked(orientation, file_format):
    data = tagged(orientation, file_format)
    with Image.open(io.BytesIO(data)) as image:
        as_stored, as_seen = np.asarray(image.convert("RGB")), np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    words, turned = decode_upright(data, "x")
    np.testing.assert_array_equal(to_pixels(decode(data, "x")), as_stored)
    np.testing.assert_array_equal(to_pixels(words), as_seen)
    assert turned == (2 <= orientation <= 8 and file_format != "TIFF")  # which Pillow turns on its own


def test_a_broken_exif_is_no_orientation():
    data = tagged(6).replace(b"MM\0*", b"MM\0!")
    assert not decode_upright(data, "x")[1]


@pytest.fixture
def odd_folder(tmp_path) -> Path:
    folder = write_class_folders(tmp_path / "images", classes=1, images=2)
    for name, data in {**DEEP, "turned.jpg": tagged(6), "mirrored.png": tagged(2, "PNG")}.items():
        (folder / "class_0" / name).write_bytes(data)
    return folder


def images_of(data: type, path: Path, **options: object) -> torch.Tensor:
    module = data(val=str(path), image_size=16, batch_size=16, num_workers=0, **options)
    module.setup("validate")
    return torch.cat([images for images, _ in module.val_dataloader()])


@pytest.mark.parametrize("orient", [False, True])
def test_folder_pack_and_verify_treat_odd_images_alike(odd_folder, tmp_path, orient):
    flag = ["--orient"] if orient else []
    assert main(["pack", str(odd_folder), str(tmp_path / "x.beton"), *flag]) == 0
    assert verify([str(tmp_path / "x.beton")]) == 0
    packed = images_of(FFCVData, tmp_path / "x.beton", orient=orient)
    assert torch.equal(packed, images_of(FolderData, odd_folder, orient=orient))
    assert torch.equal(packed, images_of(FFCVData, odd_folder, orient=orient))
    names = sorted(path.name for path in (odd_folder / "class_0").iterdir())
    beton = Beton(tmp_path / "x.beton")
    turned = beton.read(names.index("turned.jpg"))
    assert (turned.mode, turned.height, turned.width) == ((RAW, 40, 30) if orient else (JPEG, 30, 40))
    assert beton.read(0).data.tobytes() == (odd_folder / "class_0" / names[0]).read_bytes()
    assert beton.settings.get("orient", False) == orient
    data = FFCVData(val=str(tmp_path / "x.beton"), image_size=8)
    data.setup("validate")
    assert data.turns == orient  # also where the option is left out


def test_a_beton_that_was_not_turned_cannot_be(odd_folder, tmp_path, capsys):
    assert main(["pack", str(odd_folder), str(tmp_path / "x.beton")]) == 0
    with pytest.raises(
        DataError, match=r"x\.beton' holds images as they are stored, not turned: pack it with --orient"
    ):
        images_of(FFCVData, tmp_path / "x.beton", orient=True)


# ---- names


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_name_that_is_not_utf8_survives_everywhere(tmp_path, capsys):
    folder, name = write_class_folders(tmp_path / "images", classes=2, images=1), b"caf\xe9\n.jpg"
    for label in (b"class_0", b"class_1"):
        Path(os.fsdecode(os.path.join(os.fsencode(folder), label, name))).write_bytes(encoded(photo(5)))
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = pl.Trainer(default_root_dir=tmp_path / "run", callbacks=[PredictionWriter()], **quiet)
    data = FolderData(predict=str(folder), image_size=8, num_workers=0)
    trainer.predict(ImageClassifier("poolformer_tiny", 2, image_size=8), datamodule=data)
    with (tmp_path / "run" / "predictions.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.reader(file))[1:]
    assert [os.path.basename(os.fsencode(row[0])) for row in rows].count(name) == 2
    assert all(os.path.isfile(row[0]) for row in rows)

    Path(os.fsdecode(os.path.join(os.fsencode(folder), b"class_1", name))).write_bytes(b"")
    capsys.readouterr()
    assert main(["pack", str(folder), str(tmp_path / "x.beton")]) == 2
    assert r"class_1/caf\udce9\n.jpg': the file is empty" in capsys.readouterr().err
    assert main(["pack", str(folder), str(tmp_path / "x.beton"), "--on_error=skip"]) == 0
    out = capsys.readouterr().out
    assert r"class_1/caf\udce9\n.jpg': the file is empty" in out
    assert out.isascii()
    assert main(["verify", str(tmp_path / "x.beton")]) == 0


def test_a_reason_of_several_lines_is_one_line_that_begins_with_the_name(monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise OSError("broken\n  in two\n places")

    monkeypatch.setattr(Image, "open", fails)  # what plugins raise depends on their libraries
    with pytest.raises(DataError) as caught:
        decode(b"II*\0", "'a.tif'")
    assert one_line(caught.value).startswith("'a.tif': cannot be read as an image (broken in two places)")
