"""The directory on this machine in which a run at a URL is trained, and what it has to do with that URL."""

import hashlib
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from ..counts import counted
from ..errors import ConfigError, describe
from ..files import caches
from ..files.lock import RunLock
from ..files.shown import stands_for
from ..files.store import Store, StoreError
from .config import NAME as CONFIG
from .mirror import Mirror, Sent, stamp_of
from .remote_lock import RemoteLock

_LAUNCH = [
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT"),
    *("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"),
]
_AT_THE_TOP = (
    *(CONFIG, "hparams.yaml", "events.out.tfevents.", "predictions", "result.json"),
    *("metrics.csv", "summary.json"),
)


class Spool:
    """A run's directory for the length of a training: locked here and at the URL, and mirrored there.

    It is found again by the URL. Where this machine was the last to write, as after a kill, it holds what counts, and
    the rest is sent. Otherwise the URL does, and what the run needs of it is fetched.

    Args:
        url: The run's URL.

    Attributes:
        folder: Of the spool, for messages.
        run_dir: The directory that stands for the URL.

    Raises:
        ConfigError: It cannot be written, or another run is writing there.
    """

    def __init__(self, url: str):
        self.store = Store(url)
        self.folder = _home() / f"{_last(url)[:80]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
        self.run_dir = stand_in(self.folder, url)
        self._here, self._sent_file = RunLock(self.folder), self.folder / "sent.json"
        self._lock_here(url)
        try:
            self._begin()
        except BaseException as error:
            if not self._sent_file.exists():
                self._remove()
            self._here.release()
            if isinstance(error, StoreError):
                raise ConfigError(f"the run cannot be written to '{url}' ({error})") from error
            raise

    def _lock_here(self, url: str) -> None:
        try:
            self._here.take()
        except ConfigError as error:
            if isinstance(error.__cause__, OSError):
                raise
            raise ConfigError(
                f"another run on this machine is writing to '{url}': wait for it, stop it, or choose another "
                "--trainer.default_root_dir"
            ) from None

    def _begin(self) -> None:
        self.lock = RemoteLock(self.store, self._owner())
        probe(self.store, self.folder)
        was_last = self.lock.wait()
        if not (was_last and self._sent_file.exists()):
            self._set_aside()
        self.lock.take()
        try:
            self.mirror = Mirror(self.store, self.run_dir, Sent(self._sent_file), self.lock)
            names = self.store.names()
            self.store.remove_unfinished(names)
            if self._sent_file.exists():
                self.mirror.send()
            else:
                fetch_run(self.store, names, self.run_dir, self.mirror.sent)
                self.mirror.sent.save()
            self.lock.say(launch=launch())
        except BaseException:
            self.lock.release(undo=True)
            raise
        self._at_first = dict(self.mirror.sent.stamps)
        self.mirror.start()

    def _owner(self) -> str:
        file = self.folder / "owner"
        if not file.exists():
            file.write_text(secrets.token_hex(16))
        return file.read_text()

    def _set_aside(self) -> None:
        """Make the spool empty: the URL counts. What it lacks, though, is kept."""
        is_whole = self._sent_file.exists()
        unsent = Mirror(self.store, self.run_dir, Sent(self._sent_file)).unsent() if is_whole else []
        self._sent_file.unlink(missing_ok=True)
        if unsent:
            kept = self.folder / f"unsent-{secrets.token_hex(3)}"
            os.rename(self.run_dir, kept)
            rank_zero_info(
                f"'{self.store.url}' was written from elsewhere since; what was not sent from here is in '{kept}'"
            )
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def close(self) -> str | None:
        """Send the rest, and let go; return what could not be sent, and why."""
        try:
            obstacle = self.mirror.close()
        except KeyboardInterrupt:
            obstacle = "interrupted"
        unsent = self.mirror.unsent()
        is_new = self.mirror.sent.stamps != self._at_first
        self.lock.release(undo=not is_new and not unsent)
        if not unsent and not self.mirror.lost:
            self._remove()
        self._here.release()
        if not unsent:
            return None
        again = "" if self.mirror.lost else "; the next start on this machine sends them"
        what = f"{counted(len(unsent), 'file')} of '{self.store.url}' could not be sent ({obstacle})"
        return f"{what}: they are in '{self.folder}'{again}"

    def _remove(self) -> None:
        """Remove the spool, but for what was kept when another machine had gone on."""
        self._sent_file.unlink(missing_ok=True)
        shutil.rmtree(self.run_dir.parent, ignore_errors=True)
        for name in ("owner", "probe"):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()


def stand_in(folder: Path, url: str) -> Path:
    """Return a directory below a folder that is called by a URL from now on."""
    parent, _, last = url.rpartition("/")
    stands_for(folder / "at", parent)
    return folder / "at" / last


def fetch_run(store: Store, names: list[str], run_dir: Path, sent: Sent) -> None:
    """Fetch what a run has written, but for what it wrote before, of which the folders alone count.

    Raises:
        StoreError: The store does not answer.
    """
    for name in names:
        if any(not part or part.startswith(".") for part in name.split("/")):  # not finished, or leads away
            continue
        place = run_dir / name
        place.parent.mkdir(parents=True, exist_ok=True)
        folder, _, last = name.rpartition("/")
        if last.startswith(_AT_THE_TOP) if not folder else (folder == "checkpoints" and last.endswith(".ckpt")):
            store.fetch(name, place)
            sent.stamps[name] = stamp_of(place.stat())
    if CONFIG in names:  # stores have no empty folders, by which a run is known that has just begun
        (run_dir / "checkpoints").mkdir(exist_ok=True)


def probe(store: Store, folder: Path) -> None:
    """Write a little, as a checkpoint is written.

    Raises:
        StoreError: It cannot be written.
    """
    name, file = ".poolformer-probe", folder / "probe"
    try:
        file.write_bytes(b"?")
        with file.open("rb") as source:
            store.send(source, 1, name)
        store.remove(name)
    except OSError as error:
        raise ConfigError(
            f"'{folder}', where a run at a URL is kept first, cannot be written ({describe(error)})"
        ) from error


def launch() -> str:
    """Return what all processes of one launch have in common, and no other launch has."""
    return ":".join(os.environ.get(name, "") for name in _LAUNCH)


def _home() -> Path:
    home = caches.home_cache()
    folder = home / "poolformer" / "runs" if home is not None else None
    if folder is None or not caches.has_room(folder, make=True):
        folder = caches.private_cache() / "runs"
    return Path(os.path.realpath(folder))


def _last(url: str) -> str:
    return url.rpartition("/")[2]
