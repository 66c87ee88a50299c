"""A spool and its URL: what is sent, what is fetched, and which of the two counts."""

import contextlib
from pathlib import Path

import pytest

from poolformer.errors import ConfigError
from poolformer.files.shown import on_disk, shown
from poolformer.files.store import Store, StoreError
from poolformer.run import config as run_config
from poolformer.run import mirror, remote_lock
from poolformer.run.mirror import Sent
from poolformer.run.spool import Spool, fetch_run

FILES = {"config.yaml": run_config.as_text("first", {}), "events.out.tfevents.1": "curves"}
FILES |= {"checkpoints/best.ckpt": "best", "checkpoints/last.ckpt": "last"}


@pytest.fixture
def url(tmp_path, monkeypatch) -> str:
    for name, seconds in {"_BEAT_S": 0.2, "_SILENCE_S": 1.0, "_POLL_S": 0.1, "_SETTLE_S": 0.1}.items():
        monkeypatch.setattr(remote_lock, name, seconds)
    monkeypatch.setattr(mirror, "_EVERY_S", 0.05)
    monkeypatch.setattr(mirror, "PATIENCE_S", 0.5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "machine"))
    return f"memory://{tmp_path.name}/runs/run"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Be on another machine in a block: one with another cache."""

    @contextlib.contextmanager
    def elsewhere():
        with monkeypatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
            yield

    return elsewhere


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def at(url: str) -> dict[str, str]:
    store = Store(url)
    return {name: store.read(name).decode() for name in store.names() if not name.startswith(".")}


def left(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.rglob("*") if path.is_file()]


def killed(spool: Spool) -> None:
    """End what a spool does, as SIGKILL does."""
    spool.mirror._ends.set()
    spool.mirror._thread.join()
    spool.lock._ends.set()
    spool.lock._thread.join()
    spool._here.release()


def away(*_: object, **__: object) -> None:
    raise StoreError("no answer")


def test_what_is_written_here_is_there_and_what_is_removed_is_gone(url, tmp_path):
    write(Path(), {})
    Store(url).write("notes.txt", b"mine")
    spool = Spool(url)
    write(spool.run_dir, {**FILES, ".config.yaml.1-2.tmp": "half", "checkpoints/worst.ckpt": "worst"})
    spool.mirror.send()
    assert at(url) == {**FILES, "notes.txt": "mine", "checkpoints/worst.ckpt": "worst"}
    (spool.run_dir / "checkpoints/worst.ckpt").unlink()
    write(spool.run_dir, {"checkpoints/last.ckpt": "later"})
    assert spool.close() is None
    assert at(url) == {**FILES, "notes.txt": "mine", "checkpoints/last.ckpt": "later"}
    assert left(tmp_path) == []


def test_curves_are_sent_before_checkpoints_and_checkpoints_in_order(url, monkeypatch):
    spool, order = Spool(url), []
    send = spool.store.send
    monkeypatch.setattr(spool.store, "send", lambda *args, **options: (order.append(args[2]), send(*args, **options)))
    write(spool.run_dir, dict(reversed(FILES.items())) | {"previous/1/config.yaml": "earlier"})
    spool.close()
    assert order[0] == "previous/1/config.yaml"
    assert set(order[1:3]) == {"config.yaml", "events.out.tfevents.1"}
    assert order[3:] == ["checkpoints/last.ckpt", "checkpoints/best.ckpt"]


def test_nothing_is_sent_while_an_earlier_run_is_being_moved(url):
    spool = Spool(url)
    write(spool.run_dir, {**FILES, "previous/1/.moving": ""})
    spool.mirror.send()
    assert at(url) == {}
    (spool.run_dir / "previous/1/.moving").unlink()
    spool.close()
    assert at(url) == FILES


def test_another_machine_fetches_what_the_run_needs(url, elsewhere):
    others = {
        "previous/1/checkpoints/last.ckpt": "earlier",
        "logs/version_0/metrics.csv": "x",
        "checkpoints/w.pth": "x",
    }
    for name, text in {**FILES, **others}.items():
        Store(url).write(name, text.encode())
    with elsewhere():
        spool = Spool(url)
    found = {path.relative_to(spool.run_dir).as_posix() for path in spool.run_dir.rglob("*")}
    folders = {"checkpoints", "previous", "previous/1", "previous/1/checkpoints", "logs", "logs/version_0"}
    assert found == {*FILES, *folders}
    assert spool.close() is None
    assert at(url) == {**FILES, **others}


def test_names_in_a_store_lead_nowhere_else(tmp_path):
    class Names:
        def fetch(self, name, file):
            raise AssertionError(name)

    names = ["../x.ckpt", "checkpoints/../../x.ckpt", f"/{tmp_path}/away/x.ckpt", f"{tmp_path}/x/config.yaml"]
    fetch_run(Names(), names, tmp_path / "run", Sent())
    assert list(tmp_path.iterdir()) == []


def killed_before_it_sent(url, last):
    """Return the spool of a run that has sent its files and was killed with another last checkpoint in it."""
    first = Spool(url)
    write(first.run_dir, FILES)
    first.mirror.send()
    first.mirror.send = away
    write(first.run_dir, {"checkpoints/last.ckpt": last})
    killed(first)
    return first


def test_a_killed_run_sends_what_it_had_not_when_it_starts_again_on_its_machine(url, tmp_path):
    killed_before_it_sent(url, "later")
    assert at(url) == FILES
    second = Spool(url)
    assert (second.run_dir / "checkpoints/last.ckpt").read_text() == "later"
    assert at(url)["checkpoints/last.ckpt"] == "later"
    assert second.close() is None
    assert left(tmp_path) == []


@pytest.mark.slow
def test_what_another_machine_has_written_since_counts_and_what_was_not_sent_is_kept(url, elsewhere, caplog, tmp_path):
    first = killed_before_it_sent(url, "not sent")
    with elsewhere():
        second = Spool(url)
        write(second.run_dir, {"checkpoints/last.ckpt": "elsewhere"})
        assert second.close() is None
    third = Spool(url)
    assert (third.run_dir / "checkpoints/last.ckpt").read_text() == "elsewhere"
    assert third.close() is None
    (kept,) = left(tmp_path / "machine")[-1:]
    assert {path.read_text() for path in left(tmp_path) if path.name == "last.ckpt"} == {"not sent"}
    assert kept.is_relative_to(first.folder)


@pytest.mark.slow
def test_a_run_whose_url_was_taken_over_sends_nothing_more(url, elsewhere):
    first = Spool(url)
    write(first.run_dir, FILES)
    first.mirror.send()
    first.lock._ends.set()  # as when the machine sleeps
    first.lock._thread.join()
    with elsewhere():
        second = Spool(url)
        write(second.run_dir, {"checkpoints/last.ckpt": "second"})
        second.mirror.send()
        write(first.run_dir, {"checkpoints/last.ckpt": "first"})
        said = first.close()
        assert "has taken over" in said
        assert str(first.folder) in said
        assert second.close() is None
    assert at(url)["checkpoints/last.ckpt"] == "second"


def test_two_on_one_machine_are_refused_at_once(url):
    first = Spool(url)
    with pytest.raises(ConfigError, match=f"another run on this machine is writing to '{url}'"):
        Spool(url)
    first.close()
    assert at(url) == {}


@pytest.mark.slow
def test_a_store_that_stays_away_leaves_the_spool_and_says_where_it_is(url):
    first = Spool(url)
    first.mirror.send = away
    write(first.run_dir, FILES)
    said = first.close()
    assert said == (
        f"4 files of '{url}' could not be sent (no answer): they are in '{first.folder}'; the next start on this "
        "machine sends them"
    )
    second = Spool(url)
    assert at(url) == FILES
    second.close()


def test_files_of_a_spool_are_called_by_the_url(url):
    spool = Spool(url)
    assert shown(f"'{spool.run_dir}/checkpoints'") == f"'{url}/checkpoints'"
    assert shown(str(spool.run_dir.with_name("run-identity"))) == f"{url}-identity"
    assert on_disk(spool.run_dir / "checkpoints") == str(spool.folder)
    assert on_disk(Path("runs/x")) == "runs/x"
    spool.close()
