"""The C++ for CPUs is compiled once, kept where nobody else can write, and loaded only as it was compiled."""

import functools
import os
from pathlib import Path

import pytest
import torch

from poolformer.kernels import cpu


def test_without_a_compiler_there_is_no_cpp_and_the_log_says_why(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not cpu.load.__wrapped__()
    assert "no-such-compiler" in caplog.text
    assert not list(tmp_path.rglob("*.so"))


def test_a_library_that_is_not_whole_is_compiled_again(monkeypatch, tmp_path):
    asked = []

    def load_library(path: str) -> None:
        asked.append(Path(path).read_bytes())
        if asked[-1] != b"whole":
            raise OSError("file too short")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpu, "_compile", lambda compiler, sources, library: None)
    for content in (b"torn", b"whole"):
        monkeypatch.setattr(cpu, "_run", lambda command, content=content: _output(command).write_bytes(content))
        if content == b"torn":
            cpu._library()
    monkeypatch.setattr(torch.ops, "load_library", load_library)
    cpu._load()
    assert asked == [b"torn", b"whole"]


@pytest.fixture
def compiled(monkeypatch, tmp_path) -> Path:
    """A library in a cache, compiled by nobody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cpu, "_compile", lambda compiler, sources, library: None)
    monkeypatch.setattr(cpu, "_run", lambda command: _output(command).write_bytes(b"whole"))
    library = cpu._library()
    monkeypatch.setattr(cpu, "_run", lambda command: _output(command).write_bytes(b"compiled again"))
    assert cpu._library().read_bytes() == b"whole"
    return library


def _cut(library: Path) -> None:
    library.write_bytes(b"who")


def _flipped(library: Path) -> None:
    library.write_bytes(b"wholf")


def _without_digest(library: Path) -> None:
    cpu._digest_file(library).unlink()


def _digest_is_no_text(library: Path) -> None:
    cpu._digest_file(library).write_bytes(b"\xff")


def _writable_by_others(library: Path) -> None:
    library.chmod(0o666)


def _digest_writable_by_others(library: Path) -> None:
    cpu._digest_file(library).chmod(0o666)


def _of_another_user(library: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(library, 12345, -1)


@pytest.mark.skipif(os.name != "posix", reason="of owners as POSIX has them")
@pytest.mark.parametrize(
    "change",
    [
        _cut,
        _flipped,
        _without_digest,
        _digest_is_no_text,
        _writable_by_others,
        _digest_writable_by_others,
        _of_another_user,
    ],
)
def test_a_library_that_is_not_as_it_was_compiled_is_not_loaded(compiled, change):
    change(compiled)
    assert cpu._library().read_bytes() == b"compiled again"
    assert cpu._is_as_compiled(compiled)


@pytest.mark.skipif(os.name != "posix", reason="of owners as POSIX has them")
def test_a_library_is_compiled_once_also_where_new_files_are_the_groups_too(compiled, request):
    request.addfinalizer(functools.partial(os.umask, os.umask(0o002)))  # as Red Hat and Ubuntu set it
    compiled.unlink()
    assert cpu._library().read_bytes() == b"compiled again"
    assert cpu._is_as_compiled(compiled)


@pytest.mark.skipif(os.name != "posix", reason="of owners as POSIX has them")
def test_a_folder_that_others_can_write_is_not_used(compiled, monkeypatch, tmp_path, caplog):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    monkeypatch.setattr(cpu.caches, "private_cache", lambda: private)
    compiled.parent.chmod(0o777)
    assert cpu._library() == private / "poolformer" / compiled.name
    assert "is not used: others can write it" in caplog.text
    assert "chmod go-w" in caplog.text


def test_a_mount_from_which_nothing_can_be_run_is_said_and_nothing_compiled_again(compiled, monkeypatch, caplog):
    def load_library(path: str) -> None:
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr(torch.ops, "load_library", load_library)
    assert not cpu.load.__wrapped__()
    assert caplog.text.count("noexec") == 1
    assert compiled.read_bytes() == b"whole"


def _output(command: list[str]) -> Path:
    return Path(command[command.index("-o") + 1])


def test_what_a_compiler_refuses_is_quoted_in_the_log_and_not_kept(monkeypatch, tmp_path, caplog):
    compiler = tmp_path / "refuses"
    compiler.write_text("#!/bin/sh\necho 'error: no such standard' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", str(compiler))
    assert not cpu.load.__wrapped__()
    assert "error: no such standard" in caplog.text
    assert not list(tmp_path.rglob("*.so"))
