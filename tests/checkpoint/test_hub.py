"""Weights of the Hugging Face hub, from a small hub on this machine."""

import hashlib
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from poolformer.backbones import create_backbone
from poolformer.checkpoint.hub import fetch, is_on_hub
from poolformer.checkpoint.pretrained import load_pretrained
from poolformer.errors import CheckpointError


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Return the files of a hub, by their paths, that is the one asked."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self._answer(body=False)

        def do_GET(self):
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            content = files.get(self.path)
            self.send_response(200 if content is not None else 404)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if body:
                self.wfile.write(content or b"")

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield files
    server.shutdown()
    server.server_close()


def test_weights_of_a_repository_are_loaded(hub):
    theirs = create_backbone("poolformer_tiny", num_classes=3, image_size=16)
    hub["/somebody/poolformer_tiny/resolve/main/model.safetensors"] = save(theirs.state_dict())
    ours = create_backbone("poolformer_tiny", num_classes=3, image_size=16)
    load_pretrained(ours, "hf-hub:somebody/poolformer_tiny", name="poolformer_tiny")
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_a_revision_and_a_pickle_are_taken_where_they_are(hub, tmp_path):
    hub["/somebody/net/resolve/v2/pytorch_model.bin"] = b"weights"
    with open(fetch("hf_hub:somebody/net@v2"), "rb") as file:
        assert file.read() == b"weights"


def test_a_repository_without_weights_is_said_to_be_one(hub):
    with pytest.raises(CheckpointError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
        fetch("hf-hub:somebody/empty")


def test_a_hub_that_is_not_reached_is_an_error_of_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub tries five times
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"the hub cannot give 'hf-hub:a/b': .*pass the file$") as caught:
        fetch("hf-hub:a/b")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["hf-hub:", "hf-hub:user", "hf-hub:user/repo@", "hf-hub:user/repo/../x"])
def test_what_names_no_repository_is_refused(source):
    assert is_on_hub(source)
    with pytest.raises(CheckpointError, match="write hf-hub:user/repo"):
        fetch(source)
