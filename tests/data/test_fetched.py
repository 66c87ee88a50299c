"""A .beton at a URL is fetched once, whole and verified; everything that can go wrong is a line."""

import hashlib
import json
import os
import shutil
import threading

import fsspec
import pytest
from data_images import write_class_folders

from poolformer.commands.pack import main as pack
from poolformer.commands.verify import main as verify
from poolformer.data import FFCVData, fetched, patience, remote
from poolformer.data.beton import Beton
from poolformer.data.fetched import fetch
from poolformer.errors import DataError


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    assert pack([str(write_class_folders(folder / "images")), str(folder / "x.beton"), "--raw"]) == 0
    return folder / "x.beton"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(patience, "PAUSES_S", (0.01,) * 2)
    monkeypatch.setattr(fetched, "WAIT_S", 0.01)
    monkeypatch.setattr(remote, "PIECE", 3_000_000)
    monkeypatch.setenv(fetched.PLACE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def said():
    return []


@pytest.fixture
def served(http, packed):
    """The file with its description, at an HTTP server."""
    http.content = {"x.beton": packed.read_bytes(), "x.beton.json": packed.with_name("x.beton.json").read_bytes()}
    return http


def gets(http, name="x.beton"):
    return [part for method, asked, part in http.requests if (method, asked) == ("GET", name)]


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("store", ["memory", "s3"])
@pytest.mark.parametrize("described", [True, False])
def test_a_file_comes_whole_with_its_description(request, packed, cache, said, tmp_path, store, described):
    place = f"memory://{tmp_path.name}" if store == "memory" else f"s3://{request.getfixturevalue('s3').bucket}/in"
    for name in ["x.beton", "x.beton.json"][: 1 + described]:
        with fsspec.open(f"{place}/{name}", "wb") as file:
            file.write(packed.with_name(name).read_bytes())
    path = fetch(f"{place}/x.beton", say=said.append)
    assert path.read_bytes() == packed.read_bytes()
    assert files_in(cache) == [".lock", "x.beton", "x.beton.json"][: 2 + described]
    assert verify([str(path)]) == 0
    assert len(said) == 1
    assert "fetching" in said[0]
    assert fetch(f"{place}/x.beton", say=said.append) == path
    assert len(said) == 1


def test_a_changed_file_is_fetched_anew_and_a_run_may_go_on_with_the_old(served, packed, cache, said):
    first = fetch(served.url("x.beton"), say=said.append)
    shorter = cache.parent / "y.beton"
    pack([str(packed.parent / "images"), str(shorter)])
    served.content = {"x.beton": shorter.read_bytes()}
    second = fetch(served.url("x.beton"), say=said.append)
    assert (first.read_bytes(), second.read_bytes()) == (packed.read_bytes(), shorter.read_bytes())
    assert "1 older copies" in said[-1]


def test_what_came_before_a_cut_is_kept_and_the_next_fetch_goes_on(served, packed, cache, said):
    stream = remote.RemoteFile.pieces
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote.RemoteFile, "pieces", lambda file, start=0: cut(stream(file, start)))
        with pytest.raises(DataError, match="no more; what came is kept, and the same command resumes there"):
            fetch(served.url("x.beton"), say=said.append)
    assert files_in(cache) == [".lock", "x.beton.part"]
    came = next(cache.rglob("*.part")).stat().st_size
    assert 0 < came < packed.stat().st_size
    served.requests.clear()
    assert fetch(served.url("x.beton"), say=said.append).read_bytes() == packed.read_bytes()
    assert gets(served)[0] == f"bytes={came}-"
    assert f"from byte {came} on" in said[-1]


def test_what_came_whole_before_a_kill_is_used_and_what_is_too_long_is_not(served, packed, cache, said):
    path = fetch(served.url("x.beton"), say=said.append)
    part = path.with_name("x.beton.part")
    path.rename(part)
    served.requests.clear()
    assert fetch(served.url("x.beton"), say=said.append).read_bytes() == packed.read_bytes()
    assert gets(served) == []
    path.rename(part)
    with part.open("ab") as file:
        file.write(b"more")
    assert fetch(served.url("x.beton"), say=said.append).read_bytes() == packed.read_bytes()


def cut(pieces):
    yield next(pieces)
    raise DataError("no more")


def test_damage_on_the_way_is_found_and_not_kept(served, packed, cache, said):
    broken = bytearray(packed.read_bytes())
    broken[-100] ^= 1
    served.content["x.beton"] = bytes(broken)
    with pytest.raises(DataError, match=r"http.*x.beton: its sha256 is not the one in http.*x.beton.json"):
        fetch(served.url("x.beton"), say=said.append)
    del served.content["x.beton.json"]
    with pytest.raises(DataError, match=r"http.*x.beton: sample 7: its place in the file is damaged"):
        fetch(served.url("x.beton"), say=said.append)
    served.content["x.beton"] = b"<html>log in first</html>"
    with pytest.raises(DataError, match=r"http.*x.beton: is too short to be a .beton file"):
        fetch(served.url("x.beton"), say=said.append)
    assert set(files_in(cache)) <= {".lock", "x.beton.json"}


def test_one_fetches_while_the_others_wait(served, packed, said):
    paths = []
    all_of_them = [
        threading.Thread(target=lambda: paths.append(fetch(served.url("x.beton"), say=said.append))) for _ in range(3)
    ]
    for each in all_of_them:
        each.start()
    for each in all_of_them:
        each.join()
    assert len(paths) == 3
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == packed.read_bytes()
    assert len(gets(served)) == 1
    assert sum("waiting for it" in line for line in said) >= 1


def test_without_a_network_the_copy_is_used(served, said):
    path = fetch(served.url("x.beton"), say=said.append)
    served.status["x.beton"] = 503
    assert fetch(served.url("x.beton"), say=said.append) == path
    assert "is used as it is" in said[-1]
    served.status["x.beton"] = 404
    with pytest.raises(DataError, match="there is no file"):
        fetch(served.url("x.beton"), say=said.append)


def test_too_little_room_and_a_cache_that_cannot_be_written_are_lines(served, monkeypatch, said):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"needs 8.5 MB, and in .* are free: POOLFORMER_DATA_CACHE names a larger"):
        fetch(served.url("x.beton"), say=said.append)
    monkeypatch.setenv(fetched.PLACE, "/dev/null/cache")
    with pytest.raises(DataError, match=r"'/dev/null/cache', which cannot be written .*POOLFORMER_DATA_CACHE"):
        fetch(served.url("x.beton"), say=said.append)


def test_a_data_module_reads_what_lies_at_a_url(served, packed):
    data = FFCVData(
        train=served.url("x.beton"), val=packed.as_uri(), batch_size=4, image_size=32, num_workers=0, seed=0
    )
    data.prepare_data()
    data.setup("fit")
    images, _ = next(iter(data.train_dataloader()))
    other = FFCVData(train=str(packed), val=str(packed), batch_size=4, image_size=32, num_workers=0, seed=0)
    other.setup("fit")
    assert (images == next(iter(other.train_dataloader()))[0]).all()
    assert len(gets(served)) == 1


@pytest.mark.slow
def test_mistakes_at_the_command_line_are_lines(http, mistake):
    options = ["fit", "--config", "s12", "--data", "FFCVData"]
    assert f"--data.train: there is no file {http.url('none')}" in mistake(
        *options, "--data.train", http.url("none"), "--data.val", http.url("none")
    )
    assert "pip install adlfs" in mistake(*options, "--data.train", "abfs://b/x", "--data.val", "x")
    options[-1] = "FolderData"
    assert "--data.train s3://b/x: this is a URL" in mistake(*options, "--data.train", "s3://b/x", "--data.val", "x")


def test_the_description_that_is_kept_is_that_of_the_copy(served):
    path = fetch(served.url("x.beton"))
    described = json.loads(path.with_name("x.beton.json").read_text())
    assert described["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(Beton(path)) == described["images"]
    assert os.path.basename(path) == "x.beton"
