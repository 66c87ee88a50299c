"""Tars as people have them: whole or refused, links followed inside, the last of equal names, one level of tars."""

import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from data_images import encoded, photo

from poolformer.cli.dispatch import main
from poolformer.data.archive_files import ArchiveFiles
from poolformer.data.beton import Beton
from poolformer.data.class_folders import FolderFiles
from poolformer.errors import DataError

HTML = b"<!DOCTYPE html><html><title>404 Not Found</title></html>" + bytes(600)
DIR, LINK, HARD, PIPE = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE


def tarred(*entries: tuple, form: int = tarfile.GNU_FORMAT) -> bytes:
    """An archive of (name, bytes) and (name, kind, target)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, what, *target in entries:
            member = tarfile.TarInfo(name)
            if isinstance(what, bytes) and not target:
                member.size = len(what)
                tar.addfile(member, io.BytesIO(what))
            else:
                member.type, member.linkname = what, target[0]
                tar.addfile(member)
    return file.getvalue()


def of_class(*names: str) -> bytes:
    return tarred(*((name, name.encode()) for name in names))


PLAIN = [(f"{folder}/{n}.jpg", f"{folder}{n}".encode()) for folder in ("cat", "dog") for n in range(2)]


@pytest.fixture
def files(tmp_path):
    def open_tar(content: bytes, **options: str) -> ArchiveFiles:
        (tmp_path / "x.tar").write_bytes(content)
        return ArchiveFiles(tmp_path / "x.tar", **options)

    return open_tar


def taken(files: ArchiveFiles | FolderFiles) -> dict[str, list[bytes]]:
    return {
        name: [files.read(n) for n, other in enumerate(files.labels) if other == label]
        for label, name in enumerate(files.class_names)
    }


def headers(content: bytes) -> list[int]:
    return [at for at in range(0, len(content), 512) if content[at + 257 : at + 262] == b"ustar"]


# ---- whole or refused


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_flipped_byte_in_any_header_is_refused_with_its_place(files, form):
    content = tarred(*PLAIN, form=form)
    assert taken(files(content)) == {"cat": [b"cat0", b"cat1"], "dog": [b"dog0", b"dog1"]}
    for at in headers(content):
        for place in (0, 124, 150, 156, 511):
            damaged = bytearray(content)
            damaged[at + place] ^= 1
            with pytest.raises(DataError, match=r"x\.tar' cannot be read as a tar file: ") as caught:
                files(bytes(damaged))
            assert f"at byte {at}, after" in str(caught.value) or at == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:512], "would end at byte 516 of 512: it is cut off"),
        (lambda data: data[:2048], "it ends at byte 2048, after 'cat/1.jpg', without an end marker: it is cut off"),
        (lambda data: data[:2000], "it ends at byte 2000, after 'cat/1.jpg', without"),
        (lambda data: data[: 4096 + 512], "it ends at byte 4608, after 'dog/1.jpg', in its end marker"),
        (lambda data: data[:4096], "it ends at byte 4096, after 'dog/1.jpg', without an end marker"),
        (lambda data: data + data, "something follows its end marker, at byte 10240, after 'dog/1.jpg'"),
        (lambda data: data[:-1] + b"x", "something follows its end marker, at byte 10239"),
        (lambda data: data[:1024] + bytes(512) + data[1024:], "something follows its end marker, at byte 1536"),
        (lambda data: data[:2048] + bytes(512) + data[2560:], "something follows its end marker, at byte 2560"),
        (lambda data: b"", "it is empty"),
        (lambda data: HTML, "it does not begin as one: it is a web page"),
        (lambda data: b"PK\3\4" + bytes(1000), "cannot be read as a zip file (File is not a zip file): it is cut off"),
    ],
)
def test_what_is_cut_off_joined_or_no_tar_is_refused(files, change, message):
    with pytest.raises(DataError) as caught:
        files(change(tarred(*PLAIN)))
    assert message in str(caught.value)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gz", "xz"])
def test_a_compressed_tar_that_is_damaged_is_refused(files, pack):
    content = pack(tarred(*PLAIN))
    assert len(taken(files(content))) == 2
    for damaged in (content[:-1], content[: len(content) // 2], content[:-9] + b"x" + content[-8:], content[:12]):
        with pytest.raises(DataError, match=r"x\.tar' cannot be read as a tar file"):
            files(damaged)
    with pytest.raises(DataError, match="without an end marker"):
        files(pack(tarred(*PLAIN)[:4096]))


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (b"", "it is empty"),
        (HTML, "it does not begin as one: it is a web page"),
        (HTML[:100], "it does not begin as one: it is a web page"),
        (of_class("0.jpg")[:515], "would end at byte"),
        (of_class("0.jpg")[:1100], "without an end marker"),
        (gzip.compress(of_class("0.jpg")), "it does not begin as one"),
    ],
    ids=["empty", "web page", "short page", "cut off", "cut at its end", "compressed"],
)
def test_a_class_tar_that_is_none_is_refused_and_shifts_no_labels(files, inner, message):
    with pytest.raises(DataError) as caught:
        files(tarred(("n00.tar", of_class("0.jpg")), ("n01.tar", inner), ("n02.tar", of_class("0.jpg"))))
    assert "x.tar': its member 'n01.tar' cannot be read as a tar file: " in str(caught.value)
    assert message in str(caught.value)


def test_an_inner_tar_ends_where_its_member_does(files):
    """What would follow it is the next member's, whose header a reader without bounds takes for its own."""
    whole = of_class("0.jpg")
    with pytest.raises(
        DataError, match=r"'n00\.tar' cannot be read as a tar file: it ends at byte 1024, after '0\.jpg'"
    ):
        files(tarred(("n00.tar", whole[:1024]), ("n01.tar", whole)))


def test_a_class_tar_or_folder_without_images_is_refused_as_a_folder_is(files):
    message = "1 of 3 class folders have no images, the first is 'fox'; fill or remove them"
    for fox in (("fox.tar", tarred()), ("fox", DIR, ""), ("fox/x", b"")):
        with pytest.raises(DataError, match=message):
            files(tarred(*PLAIN, fox))


# ---- one level of tars, in bounded time


def test_tars_in_tars_in_a_tar_are_not_read(files):
    """A reader that follows each to the end of the whole file needs twice the time with each more of them."""
    start = time.monotonic()
    with pytest.raises(DataError, match=r"its member '0\.tar' cannot be read as a tar file: it is empty"):
        files(tarred(*((f"{n}.tar", b"") for n in range(24))))
    inner = of_class("0.jpg")
    for _ in range(3):
        inner = tarred(("0.jpg", b"x"), ("deep.tar", inner))
    found = files(tarred(("a.tar", inner), ("b.TAR", of_class("0.jpg"))))
    assert taken(found) == {"a": [b"x"], "b": [b"0.jpg"]}
    assert found.remarks == "left out: 1 .tar"
    assert time.monotonic() - start < 5


@pytest.mark.slow
def test_an_archive_of_many_members_takes_time_by_its_size(files):
    """Links that lead to links, and names of many folders, are what can cost more."""
    names = [(f"cat/{n}.jpg", LINK, f"{n + 1}.jpg") for n in range(3000)]
    deep = [("/".join("d" * 60) + f"/{n}.jpg", b"x") for n in range(1000)]
    start = time.monotonic()
    found = files(tarred(*names, ("cat/3000.jpg", b"x"), *deep, form=tarfile.PAX_FORMAT))
    assert time.monotonic() - start < 10
    assert len(found.names) == 1000 + 8
    with pytest.raises(DataError, match="is a name of 4005 characters and 2002 folders"):
        files(tarred(("/".join("d" * 2003), b"x")))


# ---- links and equal names


def test_links_inside_the_archive_are_followed_and_others_counted(files):
    found = files(
        tarred(
            *PLAIN,
            ("cat/hard.jpg", HARD, "dog/1.jpg"),
            ("cat/soft.jpg", LINK, "../dog/0.jpg"),
            ("cat/twice.jpg", LINK, "soft.jpg"),
            ("cat/through.jpg", LINK, "../newest/1.jpg"),
            ("newest", LINK, "dog"),
            ("store/4f2a", b"annexed"),
            ("cat/annexed.jpg", LINK, "../.store/4f2a"),
            (".store/4f2a", b"annexed"),
            ("dog/lost.jpg", LINK, "nowhere.jpg"),
            ("dog/lost.png", HARD, "dog/nowhere.jpg"),
            ("dog/outside.jpg", LINK, "/etc/x.jpg"),
            ("dog/above.jpg", LINK, "../../../x.jpg"),
            ("dog/loop.jpg", LINK, "loop.jpg"),
            ("store/0.jpg", b"s"),
        )
    )
    assert taken(found)["cat"] == [b"cat0", b"cat1", b"annexed", b"dog1", b"dog0", b"dog1", b"dog0"]
    assert taken(found)["dog"] == [b"dog0", b"dog1"]
    assert "5 links that lead nowhere or outside ('dog/above.jpg')" in found.remarks
    assert "1 link to a folder that is read already ('newest')" in found.remarks


def test_of_members_of_the_same_name_the_last_counts(files):
    found = files(tarred(*PLAIN, ("cat/0.jpg", b"new"), ("./dog//1.jpg", b"newer"), ("cat/x/../1.jpg", b"newest")))
    assert taken(found) == {"cat": [b"new", b"newest"], "dog": [b"dog0", b"newer"]}
    assert found.remarks == "left out: 3 older members of the same name ('cat/0.jpg')"
    old, new = of_class("0.jpg", "1.jpg"), of_class("0.jpg")
    found = files(tarred(("cat.tar", old), ("dog.tar", old), ("cat.tar", new)))
    assert {name: len(images) for name, images in taken(found).items()} == {"cat": 1, "dog": 2}


@pytest.mark.parametrize("kind", [LINK, PIPE, tarfile.REGTYPE])
def test_an_archive_in_which_a_file_lies_in_no_folder_is_refused(files, kind):
    with pytest.raises(DataError, match=r"'fox/0\.jpg' is in 'fox', which is no folder"):
        files(tarred(*PLAIN, ("fox", kind, "dog"), ("fox/0.jpg", b"x")))


def test_a_hard_link_is_what_it_was_when_it_was_made(files):
    later = [("cat/old.jpg", HARD, "cat/0.jpg"), ("cat/0.jpg", b"new"), ("dog/0.jpg", HARD, "dog/0.jpg")]
    found = files(tarred(*PLAIN, *later))
    assert taken(found) == {"cat": [b"new", b"cat1", b"cat0"], "dog": [b"dog0", b"dog1"]}


# ---- everything else that lies in tars


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_kind_are_names(files, form):
    long, odd = "l" * 150, os.fsdecode(b"caf\xe9")
    names = [long, odd, "日本", "a b"]
    fronts = ["/data/", "./data/", "data//"]
    entries = [(f"{front}{name}/0.jpg", front.encode()) for front in fronts for name in names]
    found = files(tarred(*entries, form=form))
    assert found.class_names == sorted(names)
    assert len(found.names) == 4  # the last of equal names
    found = files(tarred(*PLAIN, ("../fox/0.jpg", b"x"), form=form))
    assert "1 name that leads outside ('../fox/0.jpg')" in found.remarks


def test_devices_hidden_files_and_other_endings_are_counted(files):
    found = files(
        tarred(
            *PLAIN,
            ("cat/pipe.jpg", PIPE, ""),
            ("cat/._0.jpg", b"x"),
            ("__MACOSX/cat/._0.jpg", b"x"),
            ("__MACOSX/cat/._1.jpg", b"x"),
            ("PaxHeaders.12/0.jpg", b"x"),
            ("cat/a.gif", b"x"),
            ("cat/b.GIF", b"x"),
            ("cat/README", b"x"),
            ("top.jpg", b"x"),
        )
    )
    assert taken(found) == {"cat": [b"cat0", b"cat1"], "dog": [b"dog0", b"dog1"]}
    assert found.remarks == (
        "left out: 2 .gif, 1 without an ending, 3 hidden ('PaxHeaders.12'), "
        "1 image beside the class folders ('top.jpg'), 1 device or pipe ('cat/pipe.jpg')"
    )


@pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
@pytest.mark.parametrize("form", ["gnu", "posix --sparse-version=0.0", "posix --sparse-version=1.0"])
def test_files_stored_with_holes_are_counted_and_what_follows_is_found(files, tmp_path, form):
    for name in ("cat", "dog"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "0.jpg").write_bytes(name.encode())
    with open(tmp_path / "d" / "cat" / "a.jpg", "wb") as file:
        for n in range(40):
            file.seek(n << 20)
            file.write(b"x")
    command = f"tar -S --format={form} --sort=name -cf y.tar d".split()
    subprocess.run(command, check=True, cwd=tmp_path)
    found = files((tmp_path / "y.tar").read_bytes())
    assert taken(found) == {"cat": [b"cat"], "dog": [b"dog"]}
    assert "1 file stored with holes ('d/cat/a.jpg')" in found.remarks


def test_packing_says_what_it_left_out(tmp_path, capsys):
    image = encoded(photo(0))
    names = ["a/0.jpg", "b/0.jpg", "b/0.jpg", "b/x.heic"]
    (tmp_path / "x.tar").write_bytes(tarred(*((name, image) for name in names)))
    assert main(["pack", str(tmp_path / "x.tar"), str(tmp_path / "x.beton")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ["left out: 1 .heic, 1 older member of the same name ('b/0.jpg')"]
    assert len(Beton(tmp_path / "x.beton")) == 2


@pytest.mark.skipif(not hasattr(os, "pread"), reason="needs pread")
def test_an_archive_that_shrinks_while_it_is_read_is_found(files):
    found = files(tarred(*PLAIN))
    os.truncate(found.path, 3000)
    with pytest.raises(DataError, match="the archive was cut off while it was read"):
        found.read(3)


def test_nothing_is_left_of_an_archive_that_was_unpacked(files, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    found = files(gzip.compress(tarred(*PLAIN)))
    assert list(Path(tmp_path / "tmp").iterdir()) == []
    assert found.read(0) == b"cat0"
