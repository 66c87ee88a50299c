"""Files at URLs are read whole, from any byte on, and behind a cut; what will not pass is a line."""

import logging

import fsspec
import pytest

from poolformer.data import patience, remote
from poolformer.data.remote import RemoteFile
from poolformer.errors import ConfigError, DataError

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(patience, "PAUSES_S", (0.01,) * 4)
    monkeypatch.setattr(remote, "PIECE", 1000)


@pytest.fixture(params=["memory", "s3", "http", "http without parts"])
def url(request, tmp_path):
    if request.param.startswith("http"):
        server = request.getfixturevalue("http")
        server.content["x"], server.gives_parts = CONTENT, request.param == "http"
        return server.url("x")
    place = f"memory://{tmp_path.name}"
    if request.param == "s3":
        place = f"s3://{request.getfixturevalue('s3').bucket}"
    with fsspec.open(f"{place}/x", "wb") as file:
        file.write(CONTENT)
    return f"{place}/x"


@pytest.mark.parametrize("start", [0, 1, 1000, 10_239])
def test_a_file_is_read_from_any_byte_on(url, start):
    file = RemoteFile(url)
    assert file.size == len(CONTENT)
    assert b"".join(file.pieces(start)) == CONTENT[start:]
    assert file.is_still()


@pytest.mark.parametrize("gives_parts", [True, False])
def test_a_reading_goes_on_behind_a_cut(http, caplog, gives_parts):
    # Of what is in aiohttp's buffer when the cut is seen nothing comes: more than that has to be sent.
    content = CONTENT * 400
    http.content["x"], http.cut_after, http.gives_parts = content, 3_000_000, gives_parts
    pieces = RemoteFile(http.url("x")).pieces()
    came = next(pieces)
    if not gives_parts:  # each time from the beginning
        http.cut_after = None
    with caplog.at_level(logging.WARNING):
        assert came + b"".join(pieces) == content
    assert "trying again" in caplog.text


def test_a_reading_that_never_goes_on_is_a_line(http):
    http.content["x"], http.cut_after = CONTENT, 0
    with pytest.raises(DataError, match=r"http://.*/x cannot be read "):
        b"".join(RemoteFile(http.url("x")).pieces())


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_what_a_server_refuses_is_told_apart(http, status):
    http.content["x"], http.status["x"] = CONTENT, status
    said = {404: "there is no file http.*/x", 500: "http.*/x cannot be read .*500"}
    refused = "http.*/x may not be read: check the credentials"
    with pytest.raises((DataError, ConnectionError), match=said.get(status, refused)):
        RemoteFile(http.url("x"))


def answering(status):
    def answer(environ, start, moto):
        start(status, [("Content-Length", "0")])
        return [b""]

    return answer


@pytest.mark.slow
def test_what_s3_refuses_is_told_apart(s3, monkeypatch):
    with pytest.raises(DataError, match=r"^there is no file s3://.*/none$"):
        RemoteFile(f"s3://{s3.bucket}/none")
    s3.fault = answering("403 Forbidden")
    with pytest.raises(DataError, match=r"s3://.*/x may not be read: check the credentials"):
        RemoteFile(f"s3://{s3.bucket}/x")
    s3.fault = answering("503 Service Unavailable")
    with pytest.raises(ConnectionError, match=r"s3://.*/x cannot be read"):
        RemoteFile(f"s3://{s3.bucket}/x")
    s3.fault = None
    for name in s3.environment:
        if "KEY" in name:
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    fsspec.filesystem("s3").clear_instance_cache()
    try:
        with pytest.raises(DataError, match="no credentials"):
            RemoteFile(f"s3://{s3.bucket}/y")
    finally:
        fsspec.filesystem("s3").clear_instance_cache()


def test_a_server_that_is_not_there_and_a_missing_package_are_lines():
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:9/x cannot be read"):
        RemoteFile("http://127.0.0.1:9/x")
    with pytest.raises(ConfigError, match="pip install adlfs"):
        RemoteFile("abfs://bucket/x")
