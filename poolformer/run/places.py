"""Options that are URLs, as the directories and files of this machine that stand for them while a command runs."""

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from ..errors import ConfigError, RunError
from ..files.paths import is_url
from ..files.store import Store, StoreError
from . import remote_lock
from .config import NAME as CONFIG
from .mirror import EndWhenTakenOver, Mirror, Sent, stamp_of
from .spool import Spool, fetch_run, launch, probe, stand_in

_INHERITED = "POOLFORMER_PLACES"  # of the process of rank 0, by those that it launches
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_RESULT = re.compile(r"(validate|test)-\d+\.json|predictions[\w.-]*\.(csv|jsonl)")
_NAMED = {"last": "last", "best": "best", "auto": "last"}
_OTHERS_WAIT_S = 600


class Places:
    """What stands for the URLs of one command; when that is over, what came of it is at the URLs.

    Raises:
        RunError: When it is over: something could not be sent. The message says where it is.
    """

    def __init__(self) -> None:
        self._dirs: dict[str, Path] = {}
        self._spools: list[Spool] = []
        self._visits: dict[str, _Visit] = {}

    def __enter__(self) -> "Places":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        os.environ.pop(_INHERITED, None) if self._spools or self._visits else None
        opened: list[Spool | _Visit] = [*self._spools, *self._visits.values()]
        unsent = [why for each in opened if (why := each.close())]
        self._spools, self._visits = [], {}
        if unsent and error is None:
            raise RunError("; ".join(unsent))
        for why in unsent:
            print(f"poolformer: error: {why}", file=sys.stderr)

    def __getstate__(self) -> dict[str, Any]:
        return {"_dirs": self._dirs, "_spools": [], "_visits": {}}  # a process that is spawned closes nothing

    def url_of(self, folder: Path) -> str | None:
        """Return the URL that a directory stands for."""
        visits = {url: visit.run_dir for url, visit in self._visits.items()}
        return next((url for url, each in {**visits, **self._dirs}.items() if each == folder), None)

    def config(self, url: str) -> Path:
        """Fetch a configuration."""
        folder, _, name = url.rpartition("/")
        with _reached(url):
            found = self._visit(folder).fetch(name)
        if found is None:
            raise ConfigError(f"--config {url}: there is no such file")
        return found

    def checkpoint(self, url: str, *, writes: bool = False) -> Path:
        """Fetch a checkpoint, with the configuration of its run; where there is none, those that lie beside it.

        Args:
            url: Of the checkpoint.
            writes: Whether results are to be written to its run.
        """
        for run, run_dir in self._dirs.items():
            if url.startswith(f"{run}/") and run not in self._visits:  # it is all here
                return run_dir / url.removeprefix(f"{run}/")
        folder, _, name = url.rpartition("/")
        if folder.endswith("/checkpoints"):
            folder, name = folder.removesuffix("/checkpoints"), f"checkpoints/{name}"
        with _reached(url):
            found = self._visit(folder).fetch_checkpoint(name)
        if writes:
            with _reached(folder, writes=True):
                probe(self._visits[folder].store, self._visits[folder].folder)
        return found

    def file(self, given: str) -> str | Path:
        """Return a checkpoint that is given by its path, or fetch it."""
        return self.checkpoint(given) if is_url(given) else given

    def run_dir(self, url: str, *, keeps: bool, writes: bool, named: str | None) -> Path:
        """Return the directory of a run at a URL.

        Args:
            url: Of the run.
            keeps: Whether it is trained there.
            writes: Whether results are written there.
            named: The checkpoint that is meant: ``last``, ``best``, ``auto``, or anything else.
        """
        url = url.rstrip("/")
        if url not in self._dirs:
            if not _PLAIN.fullmatch(url):
                raise ConfigError(
                    f"--trainer.default_root_dir {url}: write a URL without blanks and signs of the shell"
                )
            self._dirs[url] = self._opened(url, keeps=keeps, writes=writes, named=named)
            if _is_first():
                os.environ[_INHERITED] = json.dumps({each: str(path) for each, path in self._dirs.items()})
        return self._dirs[url]

    def _opened(self, url: str, *, keeps: bool, writes: bool, named: str | None) -> Path:
        inherited = json.loads(os.environ.get(_INHERITED, "{}"))
        if url in inherited:
            return stand_in(Path(inherited[url]).parents[1], url)
        if keeps and _is_first():
            self._spools.append(Spool(url))
            return self._spools[-1].run_dir
        with _reached(url, writes=writes):
            visit = self._visit(url)
            if writes:
                probe(visit.store, visit.folder)
            if keeps:
                visit.fetch_all()
            elif named in _NAMED:
                visit.fetch_checkpoint(f"checkpoints/{_NAMED[named]}.ckpt")
        return visit.run_dir

    def _visit(self, url: str) -> "_Visit":
        if url not in self._visits:
            self._visits[url] = _Visit(url)
        return self._visits[url]

    def keep_results(self) -> None:
        """Have the names of what earlier evaluations have written at the URLs be taken here: it is not replaced."""
        for visit in self._visits.values():
            visit.keep_results()

    def of_trainer(self, text: str) -> str:
        """Return a text of the trainer's options, with a URL below a run's in it as the path that stands for it."""
        for url, folder in self._dirs.items():
            if text.startswith(f"{url}/"):
                return f"{folder}{text.removeprefix(url)}"
        return text

    def callbacks(self) -> list[Callback]:
        """Return what ends a training that has lost its URL to another."""
        return [EndWhenTakenOver(spool.mirror) for spool in self._spools]


class _Visit:
    """A temporary directory that stands for a URL from which is read, and to which results are written at the end."""

    def __init__(self, url: str):
        self.store = Store(url)
        self.folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="poolformer-")))
        self.run_dir = stand_in(self.folder, url)
        self._sent = Sent()

    def fetch(self, name: str) -> Path | None:
        """Fetch a file; None where there is none."""
        place = self.run_dir / name
        if not place.exists():
            if not self.store.has(name):
                return None
            self.store.fetch(name, place)
            self._sent.add(name, stamp_of(place.stat()))
        return place

    def fetch_checkpoint(self, name: str) -> Path:
        """Fetch a checkpoint, and the configuration of its run; where there is none, all that lie beside it."""
        self.fetch(CONFIG)
        if self.fetch(name) is None:
            for other in self.store.names(name.rpartition("/")[0]):
                if other.endswith(".ckpt"):
                    self.fetch(other)
        return self.run_dir / name

    def keep_results(self) -> None:
        """Take the names of earlier results, without fetching them."""
        with suppress(StoreError):  # one that tells no names
            for name in self.store.names():
                place = self.run_dir / name
                if _RESULT.fullmatch(name) and not place.exists():
                    place.touch()
                    self._sent.add(name, stamp_of(place.stat()))

    def fetch_all(self) -> None:
        """Fetch what a run has written, once the process of rank 0 has it all there."""
        deadline = time.monotonic() + _OTHERS_WAIT_S
        while (remote_lock.read(self.store) or {}).get("launch") != launch():
            if time.monotonic() > deadline:
                raise StoreError("the process of rank 0 does not begin")
            time.sleep(1)
        fetch_run(self.store, self.store.names(), self.run_dir, self._sent)

    def close(self) -> str | None:
        """Send what is new; return what could not be sent, and why."""
        mirror = Mirror(self.store, self.run_dir, self._sent)
        obstacle = mirror.close() if mirror.unsent() else None
        if obstacle is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            return None
        return f"'{self.store.url}' cannot be written ({obstacle}): what was to go there is in '{self.folder}'"


def _is_first() -> bool:
    return not getattr(rank_zero_only, "rank", 0)


@contextmanager
def _reached(url: str, *, writes: bool = False) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        if writes:
            raise ConfigError(f"'{url}' cannot be written ({error}): choose a --trainer.default_root_dir") from error
        raise ConfigError(f"'{url}' cannot be read ({error})") from error
