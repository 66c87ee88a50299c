"""Packing onto a name: one pack at a time, all or nothing, and never onto what is something else."""

import json
import os
import resource
import shutil
import tarfile
import threading
from pathlib import Path

import forked
import pytest
from data_images import encoded, photo, write_class_folders

from poolformer.cli.dispatch import main
from poolformer.data.beton import Beton
from poolformer.data.pack import sha256
from poolformer.data.target import checked_target, locked
from poolformer.errors import DataError

posix = pytest.mark.skipif(os.name != "posix", reason="of files as POSIX has them")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("data") / "source", classes=2, images=2)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refused(capsys, *arguments: object) -> str:
    """Pack, and return the one line that says why it is not done."""
    try:
        code = main(["pack", *map(str, arguments)])
    except SystemExit as end:  # argparse's
        code = end.code
    assert code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def is_a_pair(path: Path) -> bool:
    described = path.with_name(path.name + ".json")
    Beton(path)
    return not described.exists() or json.loads(described.read_text())["sha256"] == sha256(path)


# ---- one at a time


@posix
def test_a_second_pack_to_one_name_is_refused_while_the_first_is_at_it(source, tmp_path, capsys):
    with locked(tmp_path / "x.beton"):
        assert "x.beton' is being written by another `poolformer pack`" in refused(capsys, source, tmp_path / "x.beton")
    assert names(tmp_path) == []
    assert main(["pack", str(source), str(tmp_path / "x.beton")]) == 0


@posix
def test_of_packs_that_start_together_one_writes_a_sound_file(source, tmp_path):
    codes = []

    def pack() -> None:
        codes.append(main(["pack", str(source), str(tmp_path / "x.beton"), "--overwrite", "--num_workers", "1"]))

    threads = [threading.Thread(target=pack) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) in ({0}, {0, 2})
    assert names(tmp_path) == ["x.beton", "x.beton.json"]
    assert main(["verify", str(tmp_path / "x.beton")]) == 0


# ---- all or nothing


def test_what_killed_packs_left_is_removed_by_the_next_and_nothing_else(source, tmp_path):
    stale = [".x.beton.77-0a1b2c.tmp", ".x.beton.json.77-0a1b2c.tmp", ".x.beton.lock"]
    others = [".x.beton.v2.77-0a1b2c.tmp", "x.beton.partial", ".x.beton.tmp"]
    for name in stale + others:
        (tmp_path / name).write_text("half")
    assert main(["pack", str(source), str(tmp_path / "x.beton")]) == 0
    assert names(tmp_path) == sorted([*others, "x.beton", "x.beton.json"])


@posix
@pytest.mark.parametrize("before", [False, True], ids=["new", "there before"])
def test_a_disk_that_takes_no_more_leaves_what_was_there(source, tmp_path, capsys, before):
    if before:
        assert main(["pack", str(source), str(tmp_path / "x.beton")]) == 0
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        assert "x.beton' cannot be written: File too large" in refused(
            capsys, source, tmp_path / "x.beton", "--overwrite"
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept


# At its n-th creation, renaming or removal of a file below a folder, a child of this process dies or has an error.
AIMED = """
import os, pathlib, shutil, sys
from poolformer.cli import main
from poolformer.data import pack, target  # once, for all children
from poolformer.data.pixels import resize
folder, before, source, kind = sys.argv[1:]
count, at = 0, None
def hook(event, arguments):
    global count
    if at is None or event not in ("open", "os.rename", "os.remove") or folder not in str(arguments[0]):
        return
    if event == "open" and not (arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    count += 1
    if count == at:
        if kind == "kill":
            os.kill(os.getpid(), 9)
        raise OSError(5, "Input/output error")
sys.addaudithook(hook)
for number in range(1, 100):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    child = os.fork()
    if not child:
        at = number
        code = main(["pack", source, folder + "/x.beton", "--overwrite", "--num_workers", "1"])
        os._exit(code if count >= at else 77)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    shutil.copytree(folder, f"{folder}-{number}")
    print(number, code, flush=True)
    if code == 77:
        break
"""


@posix
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kill", "error"])
def test_at_whatever_operation_it_dies_no_description_stands_beside_another_file(tmp_path, kind):
    old, new = (write_class_folders(tmp_path / name, classes=2, images=count) for name, count in (("a", 1), ("b", 2)))
    (tmp_path / "before").mkdir()
    assert main(["pack", str(old), str(tmp_path / "before" / "x.beton")]) == 0
    arguments = [tmp_path / "at", tmp_path / "before", new, kind]
    done = forked.run("-c", AIMED, *arguments)
    assert done.returncode == 0, done.stderr
    results = [tuple(map(int, line.split())) for line in done.stdout.splitlines() if line[:1].isdigit()]
    assert len(results) >= 10
    assert results[-1][1] == 77  # it went through
    for number, code in results[:-1]:
        folder = tmp_path / f"at-{number}"
        assert code == (-9 if kind == "kill" else 2), done.stderr
        assert len(Beton(folder / "x.beton")) in (2, 4)
        assert is_a_pair(folder / "x.beton")
        if kind == "error":
            left = set(names(folder)) - {"x.beton", "x.beton.json"}
            assert len(left) <= 1  # of one file the removal is what failed
        assert main(["pack", str(new), str(folder / "x.beton"), "--overwrite"]) == 0
        assert names(folder) == ["x.beton", "x.beton.json"]
        assert len(Beton(folder / "x.beton")) == 4
        assert is_a_pair(folder / "x.beton")
        shutil.rmtree(folder)


# ---- never onto what is something else


@posix
@pytest.mark.parametrize("options", [[], ["--overwrite"]], ids=str)
def test_devices_and_folders_are_refused_before_anything_is_packed(tmp_path, capsys, options):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "y.json").mkdir()
    source = tmp_path / "nowhere"  # what to pack is not looked at yet
    assert "pipe' is no regular file and is not replaced" in refused(capsys, source, tmp_path / "pipe", *options)
    assert "/dev/null' is no regular file" in refused(capsys, source, "/dev/null", *options)
    for text in (tmp_path / "folder", f"{tmp_path}/folder/", f"{tmp_path}/folder/."):
        assert "folder' is a folder: give the file to write in it, such as" in refused(capsys, source, text, *options)
    assert "y.json' is a folder and is not replaced" in refused(capsys, source, tmp_path / "y", *options)
    assert names(tmp_path) == ["folder", "pipe", "y.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "argument dst: the path is empty: give one"),
        ("{0}/new/", "there is no folder '{0}/new/'"),
        ("{0}/new/x.beton", "there is no folder '{0}/new'"),
        ("s3://bucket/x.beton", "argument dst: the path s3://bucket/x.beton: this is a URL"),
        ("{0}/" + 300 * "x", "cannot be written: File name too long"),
        ("{0}/loop", "is a link that leads to itself"),
        ("{0}/file/x.beton", "there is no folder '{0}/file'"),
    ],
)
def test_names_that_cannot_be_written_are_refused_in_a_line(source, tmp_path, capsys, text, message):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    assert message.format(tmp_path) in refused(capsys, source, text.format(tmp_path))
    assert names(tmp_path) == ["file", "loop"]
    assert "argument src: the path is empty: give one" in refused(capsys, "", tmp_path / "x.beton")
    assert "there is no folder, tar or zip file" in refused(capsys, 300 * "x", tmp_path / "x.beton")


def test_what_is_packed_is_not_replaced_by_the_result(tmp_path, capsys):
    source = write_class_folders(tmp_path / "source", classes=2, images=1)
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(source, "source")
    before = archive.read_bytes()
    (tmp_path / "link").symlink_to(archive)
    for target in (archive, tmp_path / "link"):
        assert "is what is to be packed" in refused(capsys, archive, target, "--overwrite")
    image = source / "class_0" / "0.JPEG"
    assert "0.JPEG' is one of the images to be packed" in refused(capsys, source, image, "--overwrite")
    assert (archive.read_bytes(), image.read_bytes()) == (before, encoded(photo(0, width=40, height=70)))


def test_a_file_in_the_folder_that_is_packed_is_no_image_of_it(tmp_path):
    source = write_class_folders(tmp_path / "source", classes=2, images=1)
    for options in ([], ["--overwrite"]):
        assert main(["pack", str(source), str(source / "x.beton"), *options]) == 0
        assert len(Beton(source / "x.beton")) == 2


def test_a_file_of_the_users_in_the_place_of_the_description_is_kept(source, tmp_path, capsys):
    (tmp_path / "val.json").write_text('{"annotations": []}')
    message = refused(capsys, source, tmp_path / "val")
    assert "val.json' is already there and describes no .beton file: --overwrite replaces it" in message
    assert names(tmp_path) == ["val.json"]
    assert main(["pack", str(source), str(tmp_path / "val"), "--overwrite"]) == 0
    assert is_a_pair(tmp_path / "val")


@posix
def test_a_link_stays_one_and_the_description_stands_beside_the_file(source, tmp_path, capsys):
    (tmp_path / "disk").mkdir()
    (tmp_path / "x.beton").symlink_to(tmp_path / "disk" / "big.beton")
    assert main(["pack", str(source), str(tmp_path / "x.beton")]) == 0
    assert (tmp_path / "x.beton").is_symlink()
    assert names(tmp_path / "disk") == ["big.beton", "big.beton.json"]
    (tmp_path / "disk" / "big.beton.json").write_text('{"sha256": "0"}')
    assert main(["verify", str(tmp_path / "x.beton")]) == 1
    assert "its sha256 is not the one in 'big.beton.json'" in capsys.readouterr().out


def test_a_file_that_appears_while_it_is_packed_is_kept(source, tmp_path):
    """The command looked before; `pack` looks again when nobody else can write."""
    from poolformer.data.class_folders import FolderFiles
    from poolformer.data.pack import Storage, pack

    files = FolderFiles(source)
    (tmp_path / "x.beton").write_text("of another")
    with pytest.raises(DataError, match=r"x\.beton' is already there"):
        pack(files, tmp_path / "x.beton", storage=Storage(), overwrite=False, workers=1)
    assert names(tmp_path) == ["x.beton"]


def test_a_mistyped_ending_is_refused_and_another_one_is_not(source, tmp_path, capsys):
    said = refused(capsys, source, tmp_path / "train.betno")
    assert f"'{tmp_path}/train.betno' ends in .betno: did you mean '{tmp_path}/train.beton'?" in said
    assert checked_target(str(tmp_path / "train.ffcv"), overwrite=False) == tmp_path / "train.ffcv"
