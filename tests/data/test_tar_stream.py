"""A tar at a URL is packed as it comes, to what the same tar on a disk gives."""

import io
import os
import tarfile

import fsspec
import numpy as np
import pytest
from data_images import encoded, photo, write_class_folders

from poolformer.commands.pack import main as pack
from poolformer.data import pack_stream, patience, remote
from poolformer.data.beton import Beton


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(patience, "PAUSES_S", (0.01,) * 2)


@pytest.fixture
def source(tmp_path):
    source = write_class_folders(tmp_path / "source")
    (source / "class_1" / "x.gif").touch()
    (source / "class_1" / "._0.JPEG").touch()
    os.link(source / "class_0" / "0.JPEG", source / "class_2" / "z.JPEG")
    return source


def tar_of(source, path, mode="w", *, order=1):
    with tarfile.open(path, mode) as archive:
        for file in sorted(source.rglob("*"))[::order]:
            archive.add(file, str(file.relative_to(source.parent)), recursive=False)
    return path


def tar_of_tars(source, path):
    with tarfile.open(path, "w") as archive:
        for folder in sorted(source.iterdir()):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as class_archive:
                for file in sorted(folder.glob("*.JPEG")):
                    class_archive.add(file, file.name)
            member = tarfile.TarInfo(f"{folder.name}.tar")
            member.size = len(inner.getvalue())
            archive.addfile(member, io.BytesIO(inner.getvalue()))
    return path


def contents(path):
    beton = Beton(path)
    return beton.class_names, beton.labels.tolist(), [beton.read(n).data.tobytes() for n in range(len(beton))]


def packed(source, path, *options):
    assert pack([str(source), str(path), *map(str, options)]) == 0
    return path


@pytest.mark.parametrize("make", ["tar", "tar.gz", "tar.xz", "tar of tars"])
def test_a_stream_packs_to_the_bytes_of_the_file(http, source, tmp_path, make, capsys):
    (source / "class_2" / "z.JPEG").unlink()
    path = tmp_path / make
    if make == "tar of tars":
        tar_of_tars(source, path)
    else:
        tar_of(source, path, f"w:{make[4:]}")
    http.content["x.tar"] = path.read_bytes()
    packed(path, tmp_path / "a.beton")
    told = capsys.readouterr().out.split("\n", 1)[1]
    packed(http.url("x.tar"), tmp_path / "b.beton")
    assert (tmp_path / "a.beton").read_bytes() == (tmp_path / "b.beton").read_bytes()
    assert capsys.readouterr().out.split("\n", 1)[1] == told


def test_samples_come_in_the_order_of_the_classes_whatever_that_of_the_tar(tmp_path, source):
    path = tar_of(source, tmp_path / "x.tar", order=-1)
    with fsspec.open(f"memory://{tmp_path.name}/x.tar", "wb") as file:
        file.write(path.read_bytes())
    url = f"memory://{tmp_path.name}/x.tar"
    assert contents(packed(url, tmp_path / "a.beton")) == contents(packed(path, tmp_path / "b.beton"))
    path = tar_of(source, tmp_path / "x.tar")  # with a hard link
    with fsspec.open(url, "wb") as file:
        file.write(path.read_bytes())
    options = ["--max_side", 30, "--overwrite"]
    assert contents(packed(url, tmp_path / "a.beton", *options)) == contents(
        packed(path, tmp_path / "b.beton", *options)
    )


@pytest.mark.parametrize("estimate", [0, 3])
def test_a_wrong_estimate_makes_no_difference(http, source, tmp_path, monkeypatch, estimate):
    path = tar_of(source, tmp_path / "x.tar")
    (source / "class_2" / "z.JPEG").unlink()
    http.content["x.tar"] = tar_of(source, path).read_bytes()
    monkeypatch.setattr(
        "poolformer.data.tar_stream._BYTES_AN_IMAGE", path.stat().st_size // estimate if estimate else 1 << 60
    )
    monkeypatch.setattr(pack_stream, "_BLOCK", 1000)
    packed(path, tmp_path / "a.beton")
    packed(http.url("x.tar"), tmp_path / "b.beton")
    assert (tmp_path / "a.beton").read_bytes() == (tmp_path / "b.beton").read_bytes()


def test_an_index_that_turns_out_longer_moves_the_images(tmp_path):
    rng = np.random.default_rng(0)
    images = [pack_stream.Stored(0, 1, 1, rng.integers(0, 256, size, np.uint8)) for size in (10, 9_000_000, 5)]
    with open(tmp_path / "x.beton", "w+b") as file:
        stream = pack_stream._GrowingStream(file, estimate=1)
        for image in images:
            stream.add(image, 0)
        stream.arrange([2, 1], [1, 0], 900_000)
        stream.finish(["a", "b"], {})
    beton = Beton(tmp_path / "x.beton")
    assert [beton.read(n).data.tolist() for n in (0, 1)] == [images[n].data.tolist() for n in (2, 1)]
    assert beton.labels.tolist() == [1, 0]


def test_a_split_is_taken_and_bad_images_are_skipped(http, source, tmp_path, capsys):
    (source / "class_0" / "bad.jpg").write_bytes(b"bad")
    both = tmp_path / "both"
    source.rename(both / "train") if both.mkdir() is None else None
    (both / "val" / "class_0").mkdir(parents=True)
    (both / "val" / "class_0" / "v.jpg").write_bytes(encoded(photo(9)))
    path = tar_of(both, tmp_path / "x.tar")
    http.content["x.tar"] = path.read_bytes()
    options = ["--split", "train", "--on_error", "skip"]
    assert contents(packed(http.url("x.tar"), tmp_path / "a.beton", *options)) == contents(
        packed(path, tmp_path / "b.beton", *options)
    )
    assert "bad.jpg': " in capsys.readouterr().out


def test_a_cut_connection_is_mended_and_an_end_that_comes_early_is_a_line(
    http, source, tmp_path, mistake, monkeypatch, capsys
):
    path = tar_of(source, tmp_path / "x.tar")
    whole = path.read_bytes() + bytes(2_000_000)
    http.content["x.tar"], http.cut_after = whole, 1_500_000
    packed(http.url("x.tar"), tmp_path / "a.beton")
    assert "13 images" in capsys.readouterr().out
    http.cut_after = None
    http.content["x.tar"] = path.read_bytes()[:40_000]
    assert "cut off" in mistake("pack", http.url("x.tar"), "y.beton")
    http.content["x.tar"] = tar_of(source, tmp_path / "x.tar.gz", "w:gz").read_bytes()[:-3000]
    assert "x.tar' cannot be unpacked: Compressed file ended" in mistake("pack", http.url("x.tar"), "y.beton")
    http.content["x.tar"] = b"<html>log in</html>"
    assert "it is a web page" in mistake("pack", http.url("x.tar"), "y.beton")
    assert "there is no file" in mistake("pack", http.url("none.tar"), "y.beton")
    assert not (tmp_path / "y.beton").exists()
    monkeypatch.setattr(remote, "PIECE", 100)
    assert "--labels goes with" in mistake("pack", http.url("x.tar"), "y.beton", "--labels", "x.csv")
