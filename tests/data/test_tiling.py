"""Packing in tiles: ordinary JPEGs of the same pixels, and what could not be tiled is counted."""

import json

import numpy as np
import pytest
from data_images import encoded, photo, reference_pixels, write_class_folders

from poolformer.commands.pack import main as pack
from poolformer.commands.verify import main as verify
from poolformer.data import pack_dataset
from poolformer.data.beton import JPEG, Beton
from poolformer.data.pixels.jpeg import decode
from poolformer.data.pixels.jpeg_segments import RESTART_INTERVAL, segments
from poolformer.data.tiling import Tiling
from poolformer.errors import ConfigError


@pytest.fixture
def source(tmp_path):
    return write_class_folders(tmp_path / "source")


def has_tiles(data: bytes) -> bool:
    return any(segment.marker == RESTART_INTERVAL for segment in segments(data))


def described(path) -> dict:
    return json.loads((path.parent / f"{path.name}.json").read_text())


@pytest.mark.parametrize("options", [[], ["--max_side=50"], ["--max_side=50", "--quality=70", "--orient"]], ids=str)
def test_pixels_are_those_of_a_file_without_tiles(source, tmp_path, options):
    paths = [tmp_path / "plain.beton", tmp_path / "tiles.beton"]
    for path, flag in zip(paths, ([], ["--tiles"]), strict=True):
        assert pack([str(source), str(path), *options, *flag]) == 0
    plain, tiles = map(Beton, paths)
    for n in range(len(plain)):
        image = tiles.read(n)
        assert image.mode == JPEG
        assert has_tiles(image.data.tobytes())
        np.testing.assert_array_equal(
            reference_pixels(image.data.tobytes()), reference_pixels(plain.read(n).data.tobytes())
        )
    assert "tiles" not in described(paths[0]) | described(paths[0])["settings"]
    assert described(paths[1])["settings"]["tiles"] is True
    assert described(paths[1])["tiles"] == {"images": 12, "as_they_were": 0, "differing": 0}
    assert verify([str(paths[1])]) == 0


def test_jpegs_of_another_kind_stay_as_they_are_and_are_counted(source, tmp_path, capsys):
    progressive = encoded(photo(1), progressive=True)
    (source / "class_0" / "a.jpg").write_bytes(progressive)
    (source / "class_0" / "b.jpg").write_bytes(encoded(photo(2).convert("CMYK")))  # pixels: no JPEG is stored
    (source / "class_0" / "c.png").write_bytes(encoded(photo(3), "PNG"))
    assert pack([str(source), str(tmp_path / "x.beton"), "--tiles"]) == 0
    assert "12 JPEGs in tiles, 1 JPEGs of another kind as they were\n" in capsys.readouterr().out
    stored = [Beton(tmp_path / "x.beton").read(n) for n in range(15)]
    assert sum(image.data.tobytes() == progressive for image in stored) == 1
    assert described(tmp_path / "x.beton")["tiles"] == {"images": 12, "as_they_were": 1, "differing": 0}


def test_a_jpeg_whose_tiles_show_something_else_stays_as_it_is():
    data, tiling = encoded(photo(0)), Tiling()
    words = decode(data, "x").copy()
    assert has_tiles(tiling.tiles_of(data, words ^ np.uint32(0xFF000000)))  # padding is no pixel
    words[3, 4] ^= 1
    assert tiling.tiles_of(data, words) == data
    assert tiling.counts == {"images": 1, "as_they_were": 0, "differing": 1}
    assert "1 as they were because their tiles had other pixels" in tiling.remark


def test_a_data_set_is_packed_in_tiles(tmp_path):
    pack_dataset([(encoded(photo(n)), n % 2) for n in range(4)], tmp_path / "x.beton", tiles=True)
    beton = Beton(tmp_path / "x.beton")
    assert all(has_tiles(beton.read(n).data.tobytes()) for n in range(4))


def test_tiles_of_raw_pixels_are_refused(source, tmp_path):
    with pytest.raises(ConfigError, match="give either --raw or --tiles"):
        pack([str(source), str(tmp_path / "x.beton"), "--raw", "--tiles"])


@pytest.mark.ffcv
def test_ffcv_reads_tiles(source, tmp_path):
    pytest.importorskip("ffcv")
    from ffcv.libffcv import imdecode

    pack([str(source), str(tmp_path / "plain.beton")])
    pack([str(source), str(tmp_path / "tiles.beton"), "--tiles"])
    plain, tiles = Beton(tmp_path / "plain.beton"), Beton(tmp_path / "tiles.beton")
    for n in range(4):
        seen = []
        for image in (plain.read(n), tiles.read(n)):
            size = image.height, image.width
            seen.append(np.full((*size, 3), 7, np.uint8))
            imdecode(image.data.copy(), seen[-1], *size, *size)
        np.testing.assert_array_equal(*seen)
        assert np.abs(seen[0].astype(int) - reference_pixels(plain.read(n).data.tobytes())).mean() < 2  # the fast DCT
