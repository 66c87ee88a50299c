"""Protocols: how a mixer is judged, and beside which rows. A file of a few lines each, in ``configs/protocols``.

A file says its kind, its reference rows, its seeds and its settings; the comment at its top says in its first line what
it is, and in lines that begin with ``Record:`` how well it orders what the paper has published.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..configs import protocol_names, protocols_dir, read_config
from ..errors import ConfigError, suggestion
from ..files.paths import with_home

KINDS = ("probes", "fits")
NO_RECORD = "no record yet"
_KEYS = {
    "probes": ("kind", "rows", "seeds", "tasks", "settings"),
    "fits": ("kind", "rows", "seeds", "config", "flags", "tries"),
}
_NEXT_LINE = re.compile(r"^#\s{2,}(\S.*)$")


@dataclass(frozen=True)
class Protocol:
    """How mixers are judged.

    Attributes:
        name: Of its file, without ``.yaml``.
        kind: ``probes``, small procedural tasks, or ``fits``, runs of ``poolformer fit``.
        file: It was read from.
        title: The first line of its header.
        rows: Reference rows: what each is called, and the mixer as ``--model.mixer`` takes it; of fits also the name
            of an overlay in ``configs/ablation``.
        seeds: With which every row is trained.
        config: Base configurations of fits.
        flags: For every fit.
        tries: Of fits: ``OPTION=VALUE,VALUE``, chosen from for each row.
        tasks: Of probes: the sides of each task, where it is not all of them.
        settings: Of probes, as `ProbeSettings` names them.
        record: What its header says it has been measured to tell; empty without a record.
    """

    name: str
    kind: str
    file: Path
    title: str = ""
    rows: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    config: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    tries: tuple[str, ...] = ()
    tasks: Mapping[str, tuple[int, ...]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    record: tuple[str, ...] = ()


def find_protocol(given: str) -> Protocol:
    """Return the protocol of a packaged name, or of a file; a file in the way wins over a name.

    Raises:
        ConfigError: There is none, or the file does not say one.
    """
    given = with_home(given)
    if Path(given).is_file():
        return read_protocol(Path(given))
    name = given.removeprefix("configs/").removeprefix("protocols/").removesuffix(".yaml")
    known = protocol_names()
    if name not in known:
        raise ConfigError(
            f"there is no file '{given}' and no protocol of that name.{suggestion(name, known)} "
            f"Protocols: {', '.join(known)}."
        )
    return read_protocol(protocols_dir() / f"{name}.yaml")


def read_protocol(file: Path) -> Protocol:
    """Read a protocol's file.

    Raises:
        ConfigError: It has another kind or key, or a value that its key does not take.
    """
    said = read_config(file)
    if (kind := said.get("kind")) not in KINDS:
        raise ConfigError(f"'{file}' is no protocol: 'kind' is {kind!r}, not {' or '.join(KINDS)}")
    for key in said:
        if key not in _KEYS[kind]:
            near = suggestion(str(key), list(_KEYS[kind]))
            raise ConfigError(f"'{file}' has no key '{key}' for {kind}.{near} It takes: {', '.join(_KEYS[kind])}.")
    if kind == "fits" and not said.get("config"):
        raise ConfigError(f"'{file}': fits need their base in 'config', such as [cifar10]")
    title, record = _header(file)
    return Protocol(
        name=file.stem,
        kind=kind,
        file=file,
        title=title,
        rows=_rows(said.get("rows"), file),
        seeds=_seeds(said.get("seeds", [0]), file),
        config=tuple(_words(said.get("config"), "config", file)),
        flags=_flags(said.get("flags"), file),
        tries=_tries(said.get("tries"), file),
        tasks=_tasks(said.get("tasks"), file),
        settings=_mapping(said.get("settings"), "settings", file),
        record=record,
    )


def _header(file: Path) -> tuple[str, tuple[str, ...]]:
    """Return the first line of the comment at the top, and its record; a record's further lines are indented."""
    lines: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line)
    records: list[str] = []
    inside = False
    for line in lines:
        text = line.removeprefix("#").strip()
        if text.lower().startswith("record:"):
            records.append(text[len("record:") :].strip())
            inside = True
        elif inside and (further := _NEXT_LINE.match(line)):
            records[-1] += f" {further[1]}"
        else:
            inside = False
    title = lines[0].removeprefix("#").strip() if lines else ""
    return ("" if title.lower().startswith("record:") else title), tuple(filter(None, records))


def _rows(given: Any, file: Path) -> dict[str, Any]:
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        given = {one: one for one in given}
    rows = _mapping(given, "rows", file)
    for name, mixer in rows.items():
        if not isinstance(mixer, str) and not (isinstance(mixer, dict) and isinstance(mixer.get("name"), str)):
            raise ConfigError(f"'{file}': row '{name}' is {mixer!r}, not a name or a mapping with a mixer's name")
    return rows


def _seeds(given: Any, file: Path) -> tuple[int, ...]:
    is_list = isinstance(given, list) and bool(given)
    if not is_list or not all(type(seed) is int and 0 <= seed < 2**32 for seed in given):
        raise ConfigError(f"'{file}': 'seeds' is {given!r}, not a list of integers from 0 to {2**32 - 1}")
    return tuple(dict.fromkeys(given))


def _flags(given: Any, file: Path) -> tuple[str, ...]:
    """Return the words of flags, which a file writes as options by name: ``trainer.max_epochs: 8``."""
    return tuple(
        word for option, value in _mapping(given, "flags", file).items() for word in (f"--{option}", _written(value))
    )


def _tries(given: Any, file: Path) -> tuple[str, ...]:
    options = _mapping(given, "tries", file)
    if wrong := next((name for name, values in options.items() if not isinstance(values, list) or not values), None):
        raise ConfigError(f"'{file}': 'tries' gives '{wrong}' {options[wrong]!r}, not a list of values")
    return tuple(f"{name}={','.join(map(_written, values))}" for name, values in options.items())


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)  # YAML knows dates


def _tasks(given: Any, file: Path) -> dict[str, tuple[int, ...]] | None:
    if given is None:
        return None
    tasks = _mapping(given, "tasks", file)
    for name, sides in tasks.items():
        if not isinstance(sides, list) or not sides or not all(type(side) is int and side > 0 for side in sides):
            raise ConfigError(f"'{file}': task '{name}' has the sides {sides!r}, not a list of integers above 0")
    if not tasks:
        raise ConfigError(f"'{file}': 'tasks' is empty: leave it out for all of them")
    return {name: tuple(dict.fromkeys(sides)) for name, sides in tasks.items()}


def _mapping(given: Any, key: str, file: Path) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise ConfigError(f"'{file}': '{key}' is {given!r:.80}, not a mapping with names")
    return given


def _words(given: Any, key: str, file: Path) -> Sequence[str]:
    words = [given] if isinstance(given, str) else given or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"'{file}': '{key}' is {given!r:.80}, not a list of names")
    return words
