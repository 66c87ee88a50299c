"""Packing: nothing lost by default, nothing half written, every bad file named."""

import io
import json
import os
import signal
import tarfile
import time

import numpy as np
import pytest
from data_images import encoded, photo, reference_pixels, write_class_folders
from forked import Started
from PIL import Image

from poolformer.commands.pack import main as pack
from poolformer.commands.verify import main as verify
from poolformer.data.beton import JPEG, RAW, Beton
from poolformer.data.pack import Storage
from poolformer.data.pixels.jpeg import decode, to_pixels
from poolformer.errors import ConfigError, DataError


@pytest.fixture
def source(tmp_path):
    return write_class_folders(tmp_path / "source")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "x.beton"


def files_of(source):
    return sorted(path for path in source.rglob("*") if path.is_file())


def place_of(beton, n):
    return int(beton.entries(np.array([n])).place[0])


def stored_pixels(beton, n):
    image = beton.read(n)
    if image.mode == RAW:
        return image.data.reshape(image.height, image.width, 3)
    return to_pixels(decode(image.data, "x"))


def test_jpeg_bytes_are_kept(source, target):
    assert pack([str(source), str(target)]) == 0
    beton = Beton(target)
    assert [beton.read(n).data.tobytes() for n in range(12)] == [path.read_bytes() for path in files_of(source)]
    assert beton.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert beton.class_names == ["class_0", "class_1", "class_2"]


def test_threads_make_no_difference(source, target, tmp_path):
    pack([str(source), str(target), "--max_side=50", "--num_workers=1"])
    pack([str(source), str(tmp_path / "y.beton"), "--max_side=50", "--num_workers=4"])
    assert target.read_bytes() == (tmp_path / "y.beton").read_bytes()


def test_sidecar_describes_the_file(source, target):
    pack([str(source), str(target), "--max_side=50"])
    described = json.loads((target.parent / "x.beton.json").read_text())
    assert described["images"] == 12
    assert described["classes"] == {"class_0": 4, "class_1": 4, "class_2": 4}
    assert described["bytes"] == target.stat().st_size
    assert described["settings"] == {"max_side": 50, "quality": None, "raw": False}
    assert len(described["sha256"]) == 64


def test_a_share_of_the_images_is_stored_raw(source, target):
    pack([str(source), str(target), "--max_side=50", "--raw_share=0.5"])
    beton = Beton(target)
    assert beton.settings["raw_share"] == 0.5
    storage = Storage(max_side=50, raw_share=0.5)
    wanted = [RAW if storage.is_raw(path.read_bytes()) else JPEG for path in files_of(source)]
    assert [beton.read(n).mode for n in range(12)] == wanted
    assert {*wanted} == {RAW, JPEG}
    for wrong in (["--raw_share=1.5"], ["--raw_share=0.5", "--raw"]):
        with pytest.raises(ConfigError, match="raw_share"):
            pack([str(source), str(target), "--overwrite", *wrong])


def test_a_larger_raw_share_takes_what_a_smaller_one_does():
    files = [b"%d" % n for n in range(2000)]
    raw = [{file for file in files if Storage(raw_share=share).is_raw(file)} for share in (0, 0.3, 0.9, 1)]
    assert raw[0] == set() < raw[1] < raw[2] < raw[3] == {*files}
    assert [len(each) / 2000 for each in raw] == pytest.approx([0, 0.3, 0.9, 1], abs=0.04)


def test_max_side_and_quality(source, target, tmp_path):
    pack([str(source), str(target), "--max_side=50", "--quality=90"])
    pack([str(source), str(tmp_path / "y.beton"), "--max_side=50", "--quality=20"])
    fine, coarse = Beton(target), Beton(tmp_path / "y.beton")
    for n, path in enumerate(files_of(source)):
        whole, image = reference_pixels(path.read_bytes()), fine.read(n)
        assert image.mode == JPEG
        if max(whole.shape) <= 50:  # nothing to gain from a second loss
            assert image.data.tobytes() == path.read_bytes()
            continue
        assert max(image.height, image.width) == 50
        assert image.width / image.height == pytest.approx(whole.shape[1] / whole.shape[0], rel=0.03)
        small = np.asarray(Image.fromarray(whole).resize((image.width, image.height), Image.Resampling.BICUBIC), int)
        assert np.abs(stored_pixels(fine, n) - small).mean() < 6
        assert coarse.read(n).data.size < image.data.size


def test_raw_keeps_the_pixels(source, target):
    pack([str(source), str(target), "--raw"])
    beton = Beton(target)
    for n, path in enumerate(files_of(source)):
        assert beton.read(n).mode == RAW
        np.testing.assert_array_equal(stored_pixels(beton, n), reference_pixels(path.read_bytes()))


ODD = {
    "grey.jpg": encoded(photo(0).convert("L")),
    "cmyk.jpg": encoded(photo(1).convert("CMYK")),
    "rgba.png": encoded(photo(2).convert("RGBA"), "PNG"),
    "palette.png": encoded(photo(3).convert("P"), "PNG"),
    "named.JPEG": encoded(photo(4), "PNG"),
    "one.png": encoded(photo(5, width=1, height=1), "PNG"),
    "ünïcode.jpg": encoded(photo(6)),
}


@pytest.mark.parametrize("options", [[], ["--quality=90"], ["--raw"]], ids=str)
def test_odd_images_are_converted(source, target, options):
    for name, data in ODD.items():
        (source / "class_0" / name).write_bytes(data)
    pack([str(source), str(target), *options])
    beton = Beton(target)
    names = [path.name for path in files_of(source)]
    for name, data in ODD.items():
        got = stored_pixels(beton, names.index(name))
        if "--quality=90" in options and name in ("cmyk.jpg", "rgba.png", "palette.png", "named.JPEG", "one.png"):
            assert np.abs(got.astype(int) - reference_pixels(data)).mean() < 16  # the palette dithers
        else:
            np.testing.assert_array_equal(got, reference_pixels(data), err_msg=name)
    assert verify([str(target)]) == 0


BAD = {
    "empty.jpg": b"",
    "text.jpg": b"not an image",
    "cut.jpg": encoded(photo(7))[:900],
    "zeroed.jpg": encoded(photo(8))[:900] + bytes(900),
    "bomb.png": encoded(Image.new("1", (20_000, 20_000)), "PNG"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_stops_packing_and_leaves_nothing(source, target, name):
    (source / "class_1" / name).write_bytes(BAD[name])
    with pytest.raises(DataError, match=rf"class_1/{name}': .*\(--on_error skip packs the others\)"):
        pack([str(source), str(target)])
    assert sorted(path.name for path in target.parent.iterdir()) == ["source"]


def test_bad_files_are_left_out_and_listed(source, target, capsys):
    for name, data in BAD.items():
        (source / "class_1" / name).write_bytes(data)
    assert pack([str(source), str(target), "--on_error=skip"]) == 0
    listed = capsys.readouterr().out
    assert "12 images of 3 classes" in listed
    assert all(f"class_1/{name}" in listed for name in BAD)
    assert len(json.loads((target.parent / "x.beton.json").read_text())["skipped"]) == len(BAD)
    assert verify([str(target)]) == 0


def test_nothing_but_bad_files_is_an_error(tmp_path, target):
    (tmp_path / "source" / "a").mkdir(parents=True)
    (tmp_path / "source" / "a" / "x.jpg").write_bytes(b"no")
    with pytest.raises(DataError, match="none of the 1 files is a sound image"):
        pack([str(tmp_path / "source"), str(target), "--on_error=skip"])
    assert not target.exists()


@pytest.mark.parametrize("compression", ["", "xz", "gz"])
def test_a_tar_gives_the_same_file_as_the_folder(source, target, tmp_path, compression):
    archive = tmp_path / f"source.tar.{compression}"
    with tarfile.open(archive, f"w:{compression}") as tar:
        tar.add(source, "some/where")
    pack([str(source), str(target)])
    pack([str(archive), str(tmp_path / "y.beton")])
    assert target.read_bytes() == (tmp_path / "y.beton").read_bytes()


def test_a_tar_of_class_tars_gives_the_same_file(source, target, tmp_path):
    """ILSVRC2012_img_train.tar is made so."""
    archive = tmp_path / "source.tar"
    with tarfile.open(archive, "w") as outer:
        for folder in sorted(source.iterdir()):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for path in folder.iterdir():
                    inner.add(path, path.name)
            entry = tarfile.TarInfo(f"{folder.name}.tar")
            entry.size = buffer.tell()
            buffer.seek(0)
            outer.addfile(entry, buffer)
    pack([str(source), str(target)])
    pack([str(archive), str(tmp_path / "y.beton")])
    assert target.read_bytes() == (tmp_path / "y.beton").read_bytes()


def test_split_chooses_a_part(source, target, tmp_path):
    both = tmp_path / "both"
    both.mkdir()
    source.rename(both / "train")
    write_class_folders(both / "val", images=1)
    with tarfile.open(tmp_path / "both.tar", "w") as tar:
        tar.add(both, "both")
    for whole in (both, tmp_path / "both.tar"):
        with pytest.raises(DataError, match="holds train, val, which are no classes"):
            pack([str(whole), str(target), "--overwrite"])
        pack([str(whole), str(target), "--split=val", "--overwrite"])
        assert len(Beton(target)) == 3
    with pytest.raises(DataError, match=r"both\.tar' has no folder 'test', but train, val$"):
        pack([str(tmp_path / "both.tar"), str(target), "--split=test", "--overwrite"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "there is no folder, tar or zip file"),
        (lambda root: root.mkdir(), "has no images in class folders"),
        (lambda root: (root / "a").mkdir(parents=True), "has no images in class folders"),
        (
            lambda root: (write_class_folders(root) / "a").mkdir(),
            "1 of 4 class folders have no images, the first is 'a'",
        ),
        (lambda root: root.write_bytes(b"no tar"), "cannot be read as a tar file"),
    ],
    ids=["missing", "empty", "no images", "an empty class", "no tar"],
)
def test_impossible_sources_are_named(tmp_path, target, make, message):
    make(tmp_path / "nowhere")
    with pytest.raises(DataError, match=message) as caught:
        pack([str(tmp_path / "nowhere"), str(target)])
    assert "nowhere" in str(caught.value)
    assert not target.exists()


def test_an_existing_file_is_kept(source, target):
    target.write_text("precious")
    with pytest.raises(DataError, match=r"x\.beton' is already there: --overwrite"):
        pack([str(source), str(target)])
    assert target.read_text() == "precious"


def test_a_missing_target_folder_is_named(source, tmp_path):
    with pytest.raises(DataError, match=r"there is no folder '.*nowhere'"):
        pack([str(source), str(tmp_path / "nowhere" / "x.beton")])


@pytest.mark.parametrize("options", [["--max_side=0"], ["--quality=101"], ["--raw", "--quality=90"]], ids=str)
def test_impossible_options_are_refused(source, target, options):
    with pytest.raises(ConfigError):
        pack([str(source), str(target), *options])


def test_verify_finds_a_flipped_byte(source, target, capsys):
    pack([str(source), str(target)])
    beton = Beton(target)
    content = bytearray(target.read_bytes())
    content[place_of(beton, 7) + 400] ^= 4
    target.write_bytes(content)
    assert verify([str(target)]) == 1
    report = capsys.readouterr().out
    assert "sample 7: its bytes are not those that were packed" in report
    assert "its sha256 is not the one in 'x.beton.json'" in report
    assert "2 faults" in report


def packing(tmp_path, target):
    """Start ``poolformer pack`` on large images; return it when a page is whole, and its arguments."""
    source = write_class_folders(tmp_path / "many", classes=2, images=4)
    large = encoded(photo(0, width=1500, height=1500))
    for n in range(60):
        (source / "class_0" / f"large{n}.jpg").write_bytes(large)
    arguments = [str(source), str(target), "--max_side=800"]
    process, journal, end = Started("-m", "poolformer", "pack", *arguments), target.parent / ".x.beton.journal", 0.0
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 1):
        assert process.poll() is None, process.said()
        assert (end := end or time.monotonic() + 60) > time.monotonic()
        time.sleep(0.01)
    return process, arguments


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="of signals as POSIX has them")
@pytest.mark.parametrize(
    ("signum", "code", "said"),
    [("SIGKILL", -9, ""), ("SIGTERM", 143, "ended by SIGTERM\n"), ("SIGINT", 130, "interrupted\n")],
)
def test_a_stopped_pack_is_resumed_and_gives_the_same_file(tmp_path, target, capsys, signum, code, said):
    process, arguments = packing(tmp_path, target)
    process.send_signal(getattr(signal, signum))
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.endswith(said)
    assert ("the same command with --resume continues" in err) == (signum != "SIGKILL")
    names = sorted(path.name for path in target.parent.iterdir())
    assert [name for name in names if name != ".x.beton.lock"] == [".x.beton.journal", ".x.beton.unfinished", "many"]
    assert pack([*arguments, "--resume"]) == 0
    resumed = [path.read_bytes() for path in (target, target.with_name("x.beton.json"))]
    assert sorted(path.name for path in target.parent.iterdir()) == ["many", "x.beton", "x.beton.json"]
    assert pack([*arguments, "--overwrite"]) == 0
    assert [path.read_bytes() for path in (target, target.with_name("x.beton.json"))] == resumed
