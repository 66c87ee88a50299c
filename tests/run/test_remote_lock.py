"""One of two writes to a URL: told by who beats, never by anybody's clock."""

import json
import time

import pytest

from poolformer.errors import ConfigError
from poolformer.files.store import Store, StoreError
from poolformer.run import remote_lock
from poolformer.run.remote_lock import NAME, RemoteLock, TakenOver, read


@pytest.fixture(params=["memory", "s3"])
def store(request, tmp_path, monkeypatch) -> Store:
    for name, seconds in {"_BEAT_S": 0.1, "_SILENCE_S": 1.5, "_POLL_S": 0.1, "_SETTLE_S": 0.2}.items():
        monkeypatch.setattr(remote_lock, name, seconds)
    if request.param == "s3":
        return Store(f"s3://{request.getfixturevalue('s3').bucket}/run")
    return Store(f"memory://{tmp_path.name}/run")


def taken(store: Store, owner: str) -> RemoteLock:
    lock = RemoteLock(store, owner)
    lock.wait()
    lock.take()
    return lock


def killed(lock: RemoteLock) -> None:
    lock._ends.set()
    lock._thread.join()


def test_a_second_writer_is_refused_with_who_writes_and_since_when(store):
    first = taken(store, "first")
    with pytest.raises(
        ConfigError, match=rf"another run is writing to '{store.url}': process \d+ of .+ \(since 20.+\)"
    ):
        taken(store, "second")
    first.verify()
    first.release()
    assert not RemoteLock(store, "second").wait()


def test_of_two_that_find_no_lock_one_gets_it(store):
    first, second = RemoteLock(store, "first"), RemoteLock(store, "second")
    assert not first.wait()
    assert not second.wait()
    first.take()
    with pytest.raises(ConfigError, match="another run is writing"):
        second.take()
    first.release()


@pytest.mark.slow
@pytest.mark.parametrize("since", ["1970-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_a_killed_writers_lock_is_taken_over_when_it_is_silent_whatever_the_clocks_say(store, since):
    first = taken(store, "first")
    killed(first)
    store.write(NAME, json.dumps({**read(store), "since": since}).encode())
    begun_s = time.monotonic()
    second = taken(store, "second")
    assert time.monotonic() - begun_s > 1.4
    with pytest.raises(TakenOver, match="has taken over"):
        first.verify()
    first.release()
    assert read(store)["owner"] == "second"
    second.release()


def test_a_spools_own_lock_is_taken_at_once_and_says_who_wrote_last(store):
    killed(taken(store, "first"))
    again, begun_s = RemoteLock(store, "first"), time.monotonic()
    assert again.wait()
    again.take()
    assert time.monotonic() - begun_s < 1.4
    again.release()
    assert RemoteLock(store, "first").wait()


def test_a_start_that_writes_nothing_leaves_the_lock_as_it_was(store):
    taken(store, "first").release(undo=True)
    assert read(store) is None
    taken(store, "first").release()
    taken(store, "second").release(undo=True)
    assert RemoteLock(store, "first").wait()


def test_a_lock_that_cannot_be_written_is_not_held(s3):
    from s3_server import forbidden_to_write

    store = Store(f"s3://{s3.bucket}/run")
    s3.fault = forbidden_to_write
    with pytest.raises(StoreError, match="Access Denied"):
        taken(store, "first")


@pytest.mark.slow
def test_a_torn_lock_is_that_of_somebody_until_it_is_silent(store):
    first = taken(store, "first")
    killed(first)
    store.write(NAME, b'{"owner": "fir')
    first.verify()
    begun_s = time.monotonic()
    taken(store, "second").release()
    assert time.monotonic() - begun_s > 1.4
