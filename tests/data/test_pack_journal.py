"""A pack that was stopped is resumed to the very bytes of one that was not, or refused with what differs."""

import os
import resource
import shutil
import tarfile
from functools import partial
from pathlib import Path

import fsspec
import pytest
from data_images import encoded, photo, write_class_folders

from poolformer.cli.dispatch import main
from poolformer.data import pack_dataset, pack_journal
from poolformer.data.pack import Storage, pack
from poolformer.data.pack_source import open_source
from poolformer.data.shard import read_shard, shard_of
from poolformer.errors import DataError
from poolformer.files import lock

posix = pytest.mark.skipif(os.name != "posix", reason="on file systems with locks")
pytestmark = posix


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch):
    monkeypatch.setattr(pack_journal, "PAGE", 1 << 12)  # an image or two; of the journal's alone


@pytest.fixture
def source(tmp_path) -> Path:
    return write_class_folders(tmp_path / "source")


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "x.beton"


def command(source: object, target: Path, *options: str) -> int:
    return main(["pack", str(source), str(target), *options])


def stop(source: object, target: Path, *, after: int, shard: str | None = None, **forms: object) -> None:
    """Pack until so many images are done, and be interrupted there."""

    def progress(done: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    files = open_source(str(source), split=None, labels=None, on_error="fail", say=print)
    files = files if shard is None else shard_of(files, read_shard(shard))
    with pytest.raises(KeyboardInterrupt):
        pack(files, target, storage=Storage(**forms), asked={"SRC": str(source)}, workers=2, progress=progress)
    assert not target.exists()
    assert {path.name for path in left_of(target)} == {".x.beton.unfinished", ".x.beton.journal"}


def left_of(target: Path) -> list[Path]:
    return sorted(target.parent.glob(".x.beton.*"))


def contents(target: Path) -> list[bytes]:
    return [target.read_bytes(), target.with_name(f"{target.name}.json").read_bytes()]


def packed_at_once(source: object, target: Path, *options: str) -> list[bytes]:
    whole = target.with_name("whole.beton")
    assert command(source, whole, *options) == 0
    return contents(whole)


def refused(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert main(["pack", *map(str, arguments)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def given_as(kind: str, source: Path) -> object:
    if kind == "folder":
        return source
    if kind == "zip":
        return shutil.make_archive(str(source), "zip", source.parent, source.name)
    with tarfile.open(source.with_suffix(".tar"), "w") as archive:
        for file in sorted(source.rglob("*"), reverse=True):  # in another order than that of the file to be
            archive.add(file, str(file.relative_to(source.parent)), recursive=False)
    if kind == "tar":
        return source.with_suffix(".tar")
    fsspec.filesystem("memory").pipe("/resume.tar", source.with_suffix(".tar").read_bytes())
    return "memory://resume.tar"


@pytest.mark.parametrize(
    ("kind", "options", "forms"),
    [
        ("folder", [], {}),
        ("folder", ["--tiles", "--max_side=60"], {"tiles": True, "max_side": 60}),
        ("folder", ["--shard=2/2"], {"shard": "2/2"}),
        ("tar", [], {}),
        ("zip", ["--raw"], {"raw": True}),
        ("stream", ["--tiles"], {"tiles": True}),
        ("stream", ["--shard=1/2"], {"shard": "1/2"}),
    ],
)
def test_an_interrupted_pack_is_resumed_to_the_same_bytes(source, target, capsys, kind, options, forms):
    given = given_as(kind, source)
    whole = packed_at_once(given, target, *options)
    stop(given, target, after=5, **forms)
    capsys.readouterr()
    assert command(given, target, *options, "--resume") == 0
    assert "resumed after " in capsys.readouterr().err
    assert contents(target) == whole
    assert left_of(target) == []
    capsys.readouterr()
    assert command(given, target, *options, "--resume") == 0  # of a job that is started again
    assert "is there, whole: nothing to resume" in capsys.readouterr().out
    assert contents(target) == whole


@pytest.mark.parametrize(
    "damage",
    [
        "nothing",
        "torn file",
        "no page in the file",
        "torn journal",
        "no page in the journal",
        "empty journal",
        "flipped",
    ],
)
def test_what_is_torn_is_cut_off_and_packed_again(source, target, damage):
    whole = packed_at_once(source, target)
    stop(source, target, after=9)
    journal, unfinished = left_of(target)
    lines, size = journal.read_bytes().splitlines(keepends=True), unfinished.stat().st_size
    if damage == "torn file":
        os.truncate(unfinished, size - (size - (1 << 23)) // 2)
    elif damage == "no page in the file":
        os.truncate(unfinished, 100)
    elif damage == "torn journal":
        journal.write_bytes(b"".join(lines)[:-7])
    elif damage == "no page in the journal":
        journal.write_bytes(lines[0])
    elif damage == "empty journal":
        journal.write_bytes(b"")
    elif damage == "flipped":
        with open(unfinished, "r+b") as file:
            file.seek((1 << 23) + 5)
            file.write(b"\x55\xaa\x55")
            file.seek(0)
            file.write(b"a header of an index that was written already")
    assert command(source, target, "--resume") == 0
    assert contents(target) == whole


def test_it_may_be_stopped_and_resumed_again_and_again(source, target):
    whole = packed_at_once(source, target)
    files = partial(open_source, str(source), split=None, labels=None, on_error="fail", say=print)
    stop(source, target, after=4)
    before = [path.read_bytes() for path in left_of(target)]

    def check(*done: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # while it looks at what is there
        pack(files(), target, storage=Storage(), workers=1, resume=True, working=check)
    assert [path.read_bytes() for path in left_of(target)] == before
    for after in (6, 8, 10):

        def progress(done: int, after: int = after) -> None:
            if done == after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pack(files(), target, storage=Storage(), workers=1, resume=True, progress=progress)
    said: list[str] = []
    pack(files(), target, storage=Storage(), workers=1, resume=True, say=said.append, progress=said.append)
    assert said[0].startswith("resumed after ")
    assert int(said[0].split()[2]) >= 6
    assert contents(target) == whole


@pytest.mark.parametrize("kind", ["folder", "stream"])
def test_what_is_stopped_at_its_checksum_is_only_finished(source, target, kind):
    given = given_as(kind, source)
    whole = packed_at_once(given, target)
    options = {"storage": Storage(), "asked": {"SRC": str(given)}, "workers": 1, "resume": True}
    said: list[object] = []

    def stop_at_checksum(work: str, *how_much: object) -> None:
        if work == "checksum of":
            raise KeyboardInterrupt

    for working in (stop_at_checksum, lambda *done: None):
        files = open_source(str(given), split=None, labels=None, on_error="fail", say=print)
        try:
            pack(files, target, **options, working=working, progress=said.append)
        except KeyboardInterrupt:
            said.clear()
    assert len(said) <= 4  # those of the last page
    assert contents(target) == whole


def test_what_cannot_be_published_is_kept_and_only_finished_later(source, target, capsys):
    whole = packed_at_once(source, target)

    def put_a_folder_in_the_way(work: str, *how_much: object) -> None:
        if work == "checksum of":
            (target / "in the way").mkdir(parents=True)

    files = open_source(str(source), split=None, labels=None, on_error="fail", say=print)
    with pytest.raises(DataError, match="cannot be written"):
        pack(files, target, storage=Storage(), asked={"SRC": str(source)}, workers=1, working=put_a_folder_in_the_way)
    (target / "in the way").rmdir()
    target.rmdir()
    assert target.with_name(f".{target.name}.unfinished").is_file()
    assert command(source, target, "--resume") == 0
    assert contents(target) == whole


def test_a_disk_that_is_full_is_resumed_when_there_is_room(source, target, capsys):
    whole = packed_at_once(source, target)
    end = (1 << 23) + sum(path.stat().st_size for path in source.rglob("*.JPEG")) // 2
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (end, limits[1]))
    try:
        assert command(source, target) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    kept, error = capsys.readouterr().err.splitlines()
    assert "what is packed is kept in '" in kept
    assert "cannot be written: File too large" in error
    assert command(source, target, "--resume") == 0
    assert contents(target) == whole


def test_a_bad_image_is_repaired_or_skipped_on_resuming(source, target, capsys):
    whole, bad = packed_at_once(source, target), source / "class_2" / "0.JPEG"
    sound = bad.read_bytes()
    bad.write_bytes(b"none")
    assert command(source, target) == 2
    kept, error = capsys.readouterr().err.splitlines()
    assert "the same command with --resume continues" in kept
    assert "class_2/0.JPEG': is no image" in error or "class_2/0.JPEG'" in error
    shutil.copytree(target.parent, target.parent / "other", ignore=shutil.ignore_patterns("source*", "whole*"))
    bad.write_bytes(sound)
    assert command(source, target, "--resume") == 0
    assert contents(target) == whole
    bad.write_bytes(b"none")
    assert command(source, target.parent / "other" / "x.beton", "--resume", "--on_error=skip") == 0
    assert contents(target.parent / "other" / "x.beton") == packed_at_once(
        source, target, "--on_error=skip", "--overwrite"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max_side=50"], "--max_side was 60 and is 50; pack without --resume to start anew"),
        ([], "--max_side was 60 and is not given"),
        (["--max_side=60", "--tiles"], "--tiles was not given and is given"),
        (
            ["--max_side=60", "--quality=80", "--orient"],
            "--quality was not given and is 80, --orient was not given and",
        ),
        (["--max_side=60", "--shard=1/2"], "--shard was not given and is 1/2"),
    ],
    ids=str,
)
def test_other_options_are_refused_by_name(source, target, capsys, options, message):
    stop(source, target, after=6, max_side=60)
    before = [path.read_bytes() for path in left_of(target)]
    line = refused(capsys, source, target, "--resume", *options)
    assert f".x.beton.unfinished' cannot be resumed: {message}" in line
    assert [path.read_bytes() for path in left_of(target)] == before


def test_another_source_is_refused(source, target, capsys):
    stop(source, target, after=6)
    other = write_class_folders(source.parent / "other")
    assert f"SRC was {source} and is {other};" in refused(capsys, other, target, "--resume")
    (source / "class_1" / "new.JPEG").write_bytes(encoded(photo(3)))
    assert f"{source} holds other images or classes than it did" in refused(capsys, source, target, "--resume")
    (source / "class_1" / "new.JPEG").unlink()
    first = source / "class_0" / "0.JPEG"
    first.write_bytes(encoded(photo(77)))
    assert command(source, target, "--resume") == 2
    assert "class_0/0.JPEG' has changed since it was packed: pack without --resume" in capsys.readouterr().err


def test_a_data_set_of_python_is_resumed_and_refused_where_it_is_another(target):
    rows = [(encoded(photo(n)), n % 3) for n in range(12)]
    pack_dataset(rows, target.with_name("whole.beton"))
    with pytest.raises(DataError, match="sample 8"):
        pack_dataset([*rows[:8], (b"none", 0), *rows[9:]], target)
    kept = shutil.copytree(target.parent, target.parent / "kept")
    with pytest.raises(DataError, match=r"'sample 2' has changed since it was packed"):
        pack_dataset([*rows[:2], *rows[3:], rows[2]], kept / "x.beton", resume=True)
    pack_dataset(rows, target, resume=True)
    assert contents(target) == contents(target.with_name("whole.beton"))


def test_without_resume_what_was_left_is_packed_anew_and_with_nothing_left_from_the_start(source, target, capsys):
    stop(source, target, after=6)
    capsys.readouterr()
    assert command(source, target, "--max_side=30") == 0
    assert ".x.beton.unfinished' is packed anew; --resume would continue it\n" in capsys.readouterr().err
    assert command(source, target, "--max_side=30", "--resume", "--overwrite") == 0
    assert "nothing unfinished is left of 'x.beton': packing from the start\n" in capsys.readouterr().err
    assert left_of(target) == []


def test_a_source_that_is_missing_does_not_cost_what_was_left(source, target):
    stop(source, target, after=6)
    before = [path.read_bytes() for path in left_of(target)]
    assert command(source / "nowhere", target) == 2
    assert [path.read_bytes() for path in left_of(target)] == before


def test_where_nothing_can_be_locked_nothing_is_kept(source, target, monkeypatch, capsys):
    monkeypatch.setattr(lock, "fcntl", None)
    (source / "class_2" / "0.JPEG").write_bytes(b"none")
    assert command(source, target) == 2
    assert left_of(target) == []
    assert command(source, target, "--on_error=skip", "--resume") == 0
    assert "nothing unfinished is left of 'x.beton'" in capsys.readouterr().err
