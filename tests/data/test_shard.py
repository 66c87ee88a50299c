"""Parts that several machines pack are together the whole."""

import json
import tarfile

import fsspec
import pytest
from data_images import write_class_folders

from poolformer.cli import main
from poolformer.commands.pack import main as pack
from poolformer.data.beton import Beton
from poolformer.data.beton_set import BetonSet
from poolformer.data.row_files import RowFiles
from poolformer.data.shard import Shard, ShardStream


@pytest.fixture
def source(tmp_path):
    return write_class_folders(tmp_path / "source")


@pytest.fixture
def archive(source, tmp_path):
    with tarfile.open(tmp_path / "source.tar", "w") as archive:
        for file in sorted(source.rglob("*")):
            archive.add(file, str(file.relative_to(source.parent)), recursive=False)
    return tmp_path / "source.tar"


def parts_of(source, folder, count, *options):
    paths = [folder / f"part-{number}.beton" for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        assert pack([str(source), str(path), f"--shard={number}/{count}", *options]) == 0
    return paths


def images_of(beton):
    return [(int(label), beton.read(n).data.tobytes()) for n, label in enumerate(beton.labels)]


@pytest.mark.parametrize("count", [1, 5, 12])
def test_each_image_is_in_exactly_one_part(source, tmp_path, count):
    pack([str(source), str(tmp_path / "whole.beton")])
    whole, parts = Beton(tmp_path / "whole.beton"), [Beton(path) for path in parts_of(source, tmp_path, count)]
    together = BetonSet(parts, "parts")  # which refuses other classes or settings
    assert together.class_names == whole.class_names
    assert sorted(images_of(together)) == sorted(images_of(whole))
    assert [images_of(part) for part in parts] == [images_of(whole)[n::count] for n in range(count)]


def test_parts_of_an_archive_and_of_a_stream_are_those_of_the_folder(source, archive, tmp_path):
    fsspec.filesystem("memory").pipe("/shard.tar", archive.read_bytes())
    places = [tmp_path / name for name in ("folder", "tar", "stream")]
    for place, given in zip(places, (source, archive, "memory://shard.tar"), strict=True):
        place.mkdir()
        parts_of(given, place, 5)
    for number in range(1, 6):
        assert len({(place / f"part-{number}.beton").read_bytes() for place in places}) == 1


def test_the_description_says_the_part_and_counts_its_images(source, tmp_path, capsys):
    for image in (source / "class_0" / "1.JPEG", source / "class_2" / "3.JPEG"):
        image.write_bytes(b"no image")
    second = parts_of(source, tmp_path, 4, "--on_error=skip")[1]
    described = json.loads((tmp_path / f"{second.name}.json").read_text())
    assert described["shard"] == "2/4"
    assert described["classes"] == {"class_0": 0, "class_1": 1, "class_2": 1}
    assert "2 images of 3 classes" in capsys.readouterr().out


def test_a_skipped_image_of_a_stream_moves_no_other_to_another_part(source):
    rows = [("row", path.read_bytes(), path.parent.name) for path in sorted(source.rglob("*.JPEG"))]
    rows[4] = "row 4", b"", "class_1"
    stream = ShardStream(RowFiles(iter(rows), estimate=len(rows)), Shard(2, 3))
    assert [bytes(data) for data in stream.images()] == [data for _, data, _ in rows[1::3]]
    settled = stream.settle([0, 2, 3])
    assert (settled.order, settled.labels, settled.listed) == ([0, 2, 3], [0, 1, 2], 4)
    assert stream.class_names == ["class_0", "class_1", "class_2"]


@pytest.mark.parametrize("text", ["9/8", "0/4", "a/b", "4", "1/0", "-1/4", "1/2/3", ""])
def test_what_is_no_part_is_refused_in_a_line(source, tmp_path, capsys, text):
    with pytest.raises(SystemExit) as left:
        pack([str(source), str(tmp_path / "x.beton"), f"--shard={text}"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert f"{text!r} is no part: write i/n with i from 1 to n" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("is_stream", [False, True], ids=["folder", "stream"])
def test_more_parts_than_images_are_refused_in_a_line(source, archive, tmp_path, capsys, is_stream):
    fsspec.filesystem("memory").pipe("/shard.tar", archive.read_bytes())
    given = "memory://shard.tar" if is_stream else str(source)
    assert main(["pack", given, str(tmp_path / "x.beton"), "--shard=2/13"]) == 2
    assert "--shard 2/13: there are only 12 images, too few for 13 parts" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.beton*"))
