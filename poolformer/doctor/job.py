"""What a run is told to use: its configurations, the names in them, the data, and the run's own place."""

import glob
import os
import secrets
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..cli import early
from ..configs import find_config, read_config, run_name
from ..counts import counted
from ..errors import PoolformerError, RegistryError, causes, describe
from ..files.paths import is_url, local, without_scheme
from ..files.store import Store, StoreError, filesystem
from ..registry import BACKBONES, MIXERS, find
from .check import Check, gib
from .imports import Imported
from .machine import disk

SPLITS = ("train", "val", "test", "predict")
LIMIT_S = 30
_ROOT = "trainer.default_root_dir"


class Job:
    """What a run would be told.

    Args:
        configs: Names or files of configurations, as for ``--config``; later ones win.
        flags: What stands over them, such as ``{"data.train": "train.beton"}``.

    Attributes:
        checks: What is wrong with the configurations themselves.
    """

    def __init__(self, configs: Sequence[str], flags: Mapping[str, Any]):
        self.checks: list[Check] = []
        self._options: dict[str, Any] = {}
        self._files: list[Path] = []
        for given in configs:
            try:
                self._files.append(find_config(given))
                content = read_config(self._files[-1])
            except PoolformerError as error:
                self.checks.append(Check("config", "wrong", str(error)))
            except ImportError:
                self.checks.append(Check("config", "wrong", f"'{given}' cannot be read: PyYAML is not installed"))
            else:
                self._take(content)
                self.checks.append(Check("config", "ok", f"'{self._files[-1]}'"))
        if configs and all(check.state == "ok" for check in self.checks):
            self._check_as_fit_does([str(file) for file in self._files], flags.get("data"))
        self._options.update({name: value for name, value in flags.items() if value is not None})

    def _check_as_fit_does(self, configs: Sequence[str], data: Any) -> None:
        words = [word for config in configs for word in ("--config", config)]
        try:
            early.refuse("fit", [*words, *(["--data", str(data)] if data else [])])
        except PoolformerError as error:
            self.checks = [Check("config", "wrong", str(error))]

    def _take(self, content: Mapping[str, Any]) -> None:
        data = content.get("data")
        if isinstance(data, dict):
            init_args = data.get("init_args") if "class_path" in data else data
            self._options.update({f"data.{name}": value for name, value in (init_args or {}).items()})
            self._options.update({"data": data["class_path"]} if "class_path" in data else {})
        elif data is not None:
            self._options["data"] = data
        for section in ("model", "trainer"):
            values = content.get(section)
            self._options.update({f"{section}.{name}": value for name, value in _mapping(values).items()})

    @property
    def workers(self) -> int | None:
        """How many workers load data; None for one a core."""
        asked = self._options.get("data.num_workers")
        return asked if isinstance(asked, int) else None

    @property
    def data_module(self) -> str | None:
        """A data module of somebody's own, as an import reference; None for names that are registered."""
        named = str(self._options.get("data") or "")
        if ":" in named or "." not in named or named.startswith("poolformer."):
            return named if ":" in named else None
        module, _, name = named.rpartition(".")
        return f"{module}:{name}"

    def names(self) -> list[Check]:
        """Look up the token mixers and the backbone that are named."""
        mixer = self._options.get("model.mixer")
        mixers = [each.get("name") if isinstance(each, dict) else each for each in _in_a_list(mixer)]
        backbone = self._options.get("model.backbone")
        wanted = [(MIXERS, name) for name in dict.fromkeys(mixers) if isinstance(name, str)]
        if isinstance(backbone, str) and not backbone.startswith("timm/"):
            wanted.append((BACKBONES, backbone))
        return [check for group, name in wanted if (check := _look_up(group, name)) is not None]

    def own_class(self, imported: Mapping[str, Imported]) -> list[Check]:
        """Look at whether a data module of somebody's own can be imported."""
        named = self.data_module
        error = imported[named]["error"] if named is not None and named in imported else None
        return [Check("data", "wrong", f"{named} cannot be imported: {error}")] if error else []

    def data(self) -> list[Check]:
        """Look at the files and folders of the data."""
        given = {split: self._options.get(f"data.{split}") for split in SPLITS}
        checks = [_path(f"data.{split}", path) for split, paths in given.items() for path in _in_a_list(paths) if path]
        named = str(self._options.get("data") or "").rpartition(".")[2]
        if named in ("FFCVData", "FolderData") and not given["train"]:
            checks.append(Check("data", "note", f"no images to train on: {named} takes --data.train and --data.val"))
        return checks

    def place(self) -> Check:
        """Look at where the run would be kept: a folder, or a URL, where a byte is written and removed again."""
        given = self._options.get(_ROOT) or str(Path("runs", run_name(self._files)))
        text = str(given)
        if is_url(text):
            return _url("run", text, lambda: _write_a_byte(text))
        try:
            folder = Path(local(without_scheme(text), f"--{_ROOT}"))
        except PoolformerError as error:
            return Check("run", "wrong", str(error))
        return disk("run", folder, f"give --{_ROOT} a folder on another disk")


def _look_up(group: str, name: str) -> Check | None:
    try:
        find(group, name)
    except RegistryError as error:
        return Check("config", "wrong", str(error))
    return None


def _path(name: str, given: object) -> Check:
    text = str(given)
    if is_url(text):
        return _url(name, text, lambda: _exists(text))
    try:
        path = Path(local(without_scheme(text), f"--{name}"))
    except PoolformerError as error:
        return Check(name, "wrong", str(error))
    return _answered(name, f"'{path}'", lambda: _looked_at(name, path))


def _looked_at(name: str, path: Path) -> Check:
    wrong = partial(Check, name, "wrong", remedy=f"give --{name} a path that can be read")
    try:
        if path.is_dir():
            with os.scandir(path) as entries:  # which knows what is a folder without asking for each
                folders = sum(each.is_dir() for each in entries)
            text = f"'{path}', a folder with {counted(folders, 'folder')} in it"
            if not folders and name != "data.predict":
                return Check(name, "note", text, "images are looked for in a folder of each class")
            return Check(name, "ok", text)
        if path.suffix == ".beton" and (files := sorted(glob.glob(str(path)))) and not path.exists():
            return Check(name, "ok", f"'{path}', {counted(len(files), 'file')}")
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe may take for ever
            return wrong(f"'{path}' is neither a folder nor a regular file")
        with path.open("rb") as file:
            file.read(1)
        return Check(name, "ok", f"'{path}', {gib(path.stat().st_size)}")
    except OSError as error:
        return wrong(f"'{path}': {error.strerror}")


def _url(name: str, url: str, ask: Callable[[], str]) -> Check:
    """Ask a store."""

    def asked() -> Check:
        try:
            return Check(name, "ok", f"{url} {ask()}")
        except ImportError as error:
            return Check(name, "wrong", f"{url}: {describe(error)}", "pip install fsspec")
        except (PoolformerError, StoreError, OSError) as error:
            return Check(name, "wrong", f"{url}: {error}", "docs/reliability.md says what a URL needs")
        except Exception as error:  # of botocore, aiohttp and others, which have no class in common
            return Check(name, "wrong", f"{url}: {describe(error)}")

    return _answered(name, url, asked)


def _answered(name: str, where: str, ask: Callable[[], Check]) -> Check:
    """Ask a store or a disk, which may never answer: not for longer than `LIMIT_S`."""
    answers: list[Check] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    return answers[0] if answers else Check(name, "wrong", f"{where} does not answer within {LIMIT_S} s")


def _exists(url: str) -> str:
    fs, path = filesystem(url)
    try:
        fs.info(path)  # exists() says no whatever goes wrong
    except FileNotFoundError as error:
        *_, first = causes(error)
        is_missing = isinstance(first, FileNotFoundError) or getattr(first, "status", None) == 404  # of HTTP
        raise OSError("there is no such file" if is_missing else describe(first)) from error
    return "is there"


def _write_a_byte(url: str) -> str:
    store, name = Store(url), f".poolformer-doctor-{secrets.token_hex(4)}"
    store.write(name, b"?")
    store.remove(name)
    return "can be written"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _in_a_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
