"""A zip is read as the folder that it was made of, by many threads, and whatever is wrong with it is a line."""

import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from data_images import encoded, photo, write_class_folders

from poolformer.commands.pack import main as pack
from poolformer.data.archive_files import ArchiveFiles
from poolformer.data.class_folders import FolderFiles
from poolformer.errors import DataError


@pytest.fixture
def source(tmp_path):
    return write_class_folders(tmp_path / "source")


def zipped(folder, path, *, prefix="", method=zipfile.ZIP_DEFLATED, more=()):
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            if file.is_file():
                archive.write(file, f"{prefix}{file.relative_to(folder)}")
        for name, data in more:
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=str
)
def test_a_zip_packs_to_the_same_bytes_as_its_folder(source, tmp_path, method):
    more = [("__MACOSX/class_0/._0.JPEG", b"x"), ("class_0/.DS_Store", b"x"), ("../out.jpg", b"x"), ("notes.txt", b"")]
    path = zipped(source, tmp_path / "x.zip", method=method, more=more)
    assert pack([str(source), str(tmp_path / "a.beton")]) == pack([str(path), str(tmp_path / "b.beton")]) == 0
    assert (tmp_path / "a.beton").read_bytes() == (tmp_path / "b.beton").read_bytes()


def test_what_is_left_out_is_said(source, tmp_path):
    more = [("__MACOSX/class_0/._0.JPEG", b"x"), ("../out.jpg", b"x"), ("notes.txt", b""), ("class_0/x.gif", b"")]
    files = ArchiveFiles(zipped(source, tmp_path / "x.zip", more=more))
    for said in ("1 .gif", "1 .txt", "1 hidden ('__MACOSX')", "1 name that leads outside ('../out.jpg')"):
        assert said in files.remarks


def test_a_split_of_a_zip_is_taken(source, tmp_path, capsys):
    path = zipped(source, tmp_path / "x.zip", prefix="set/train/", more=[("set/val/a/0.jpg", encoded(photo(0)))])
    assert ArchiveFiles(path, split="train").class_names == ["class_0", "class_1", "class_2"]
    with pytest.raises(DataError, match=r"which are no classes but splits: use `poolformer pack .*x.zip FILE --split"):
        ArchiveFiles(path)


def test_threads_read_the_same(source, tmp_path):
    files, folder = ArchiveFiles(zipped(source, tmp_path / "x.zip")), FolderFiles(source)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(files.read, [*range(12)] * 20)) == [folder.read(n) for n in range(12)] * 20


def test_a_damaged_zip_is_a_line(source, tmp_path, mistake):
    path = zipped(source, tmp_path / "x.zip", method=zipfile.ZIP_STORED)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "x.zip' cannot be read as a zip file (File is not a zip file): it is cut off" in mistake(
        "pack", path, "y.beton"
    )
    at = whole.index(b"\xff\xd8\xff") + 300
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert "is damaged in the archive, its checksum is another" in mistake("pack", path, "y.beton")
    at = whole.index(b"PK\1\2") + 8  # a flag of the first member in the index
    path.write_bytes(whole[:at] + b"\1" + whole[at + 1 :])
    assert "is encrypted; unpack the archive" in mistake("pack", path, "y.beton")
    path.write_bytes(b"PK\5\6" + bytes(18))
    assert "has no images in class folders" in mistake("pack", path, "y.beton")
