"""Files at a URL are there as a whole or not at all, whatever the store makes of what it is sent."""

import io
from collections.abc import Callable

import pytest

from poolformer.errors import ConfigError
from poolformer.files.paths import is_url, without_scheme
from poolformer.files.store import Store, StoreError

NAME = "checkpoints/last.ckpt"


def send(store: Store, content: bytes, name: str = NAME, **options: Callable) -> None:
    store.send(io.BytesIO(content), len(content), name, **options)


@pytest.fixture(params=["memory", "s3", "file"])
def store(request, tmp_path) -> Store:
    if request.param == "s3":
        server = request.getfixturevalue("s3")
        return Store(f"s3://{server.bucket}/run")
    return Store(f"memory://{tmp_path.name}/run" if request.param == "memory" else f"file://{tmp_path}/run")


@pytest.mark.slow
def test_files_are_sent_fetched_listed_and_removed(store, tmp_path):
    assert (store.names(), store.read("x")) == ([], None)
    for content in (b"first" * 10_000_000, b"second"):  # of several pieces, then a shorter one over it
        send(store, content)
        store.fetch(NAME, tmp_path / "fetched" / "last.ckpt")
        assert (tmp_path / "fetched" / "last.ckpt").read_bytes() == content
    store.write("small", b"1", new=True)
    with pytest.raises(StoreError):
        store.write("small", b"2", new=True)
    assert (store.read("small"), store.names()) == (b"1", [NAME, "small"])
    assert (store.names(""), store.names("checkpoints"), store.names("none")) == (["small"], [NAME], [])
    assert [store.has(name) for name in ("small", NAME, "checkpoints", "none")] == [True, True, False, False]
    store.remove("small")
    store.remove("small")
    assert store.names() == [NAME]


def test_what_killed_writes_have_left_is_removed_and_nothing_else(store):
    for name in (".last.ckpt.0123abcd.tmp", "checkpoints/.x.ckpt.0123abcd.tmp", ".mine.tmp", "x.0123abcd.tmp"):
        store.write(name, b"")
    store.remove_unfinished(store.names())
    assert store.names() == [".mine.tmp", "x.0123abcd.tmp"]


def test_a_name_is_not_given_when_something_speaks_against_it_in_the_last_moment(store):
    send(store, b"first")

    def no() -> None:
        raise StoreError("no")

    with pytest.raises(StoreError, match="no"):
        send(store, b"second", before=no)
    assert (store.read(NAME), store.names()) == (b"first", [NAME])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("refused", "Reduce your request rate"),
        ("clock_wrong", "difference between the request time and the current time"),
        ("cut", "read back is not what was written"),
        ("hung_up", "onnection"),
    ],
)
def test_a_fault_leaves_what_was_there(s3, fault, said):
    import s3_server

    store = Store(f"s3://{s3.bucket}/faults/{fault}")
    send(store, b"first")
    s3.fault = getattr(s3_server, fault)
    with pytest.raises(StoreError, match=said):
        send(store, b"second")
    s3.fault = None
    assert store.read(NAME) == b"first"
    store.remove_unfinished(store.names())
    send(store, b"second")
    assert (store.read(NAME), store.names()) == (b"second", [NAME])


@pytest.mark.slow
def test_a_bucket_is_not_made(s3):
    with pytest.raises(StoreError, match="bucket does not exist"):
        send(Store("s3://another/run"), b"x")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gs://bucket/run", "pip install gcsfs"),
        ("s3://", "s3:// names no folder"),
        ("nothing://x/y", "nothing://x/y cannot be opened: .*not known"),
    ],
)
def test_a_store_that_is_not_available_is_a_line(url, said):
    if url.startswith("gs:"):
        pytest.importorskip("fsspec")
        try:
            import gcsfs  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("gcsfs is installed")
    with pytest.raises(ConfigError, match=said):
        Store(url)


@pytest.mark.parametrize(
    ("text", "is_one", "path"),
    [
        ("s3://b/run", True, "s3://b/run"),
        ("simplecache::s3://b/run", True, "simplecache::s3://b/run"),
        ("file:///tmp/run", False, "/tmp/run"),
        ("runs/digits", False, "runs/digits"),
        ("C://run", False, "C://run"),
    ],
)
def test_a_url_of_this_machine_is_its_path(text, is_one, path):
    assert (is_url(text), without_scheme(text)) == (is_one, path)
