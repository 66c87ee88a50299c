"""The config.yaml of a run: known by its first line, and meaning the directory that it lies in, wherever that is."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..configs import read_config
from ..errors import ConfigError
from ..files.paths import each_text, is_url

NAME = "config.yaml"
OF_THE_MACHINE = {
    *("accelerator", "devices", "num_nodes", "strategy", "plugins", "default_root_dir", "max_time", "profiler"),
    *("logger", "log_every_n_steps", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"),
    *("num_sanity_val_steps", "detect_anomaly", "barebones", "fast_dev_run"),
}
"""Options of the trainer that say where and on what a run runs, and what it shows: the run is the same with others."""
_HEADER = "# poolformer: the run in this directory"
_BASE = "# Relative paths start from "
_DATA_PATHS = ("train", "val", "test", "predict")
_LIKE_A_PATH = ("path", "dir", "root", "folder", "file")
# What a configuration of a run says that was saved before there was a header.
_SECTIONS = ("seed_everything", "model", "data", "trainer")


def as_text(dumped: str, options: Mapping[str, Any]) -> str:
    """Return what is to be written: what was dumped, with a header.

    Args:
        dumped: The options as YAML.
        options: The same as a mapping, which is searched for relative paths; those have the current directory said.
    """
    relative = any(not os.path.isabs(value) for *_, value in _paths(options, Path()))
    base = f"{_BASE}{os.getcwd()}\n" if relative else ""
    return f"{_HEADER}\n{base}{dumped}"


def is_of_a_run(file: Path) -> bool:
    """Return whether a file is the configuration that a run has written about itself."""
    if not file.is_file():
        return False
    if any(line.startswith(_HEADER) for line in _comments(file)):
        return True
    try:
        content = read_config(file)
    except ConfigError:
        return False
    trainer = content.get("trainer")
    return (
        all(section in content for section in _SECTIONS)
        and isinstance(trainer, dict)
        and bool(trainer.get("default_root_dir"))
        and "fast_dev_run" in trainer  # options that nobody writes: all of them are there
    )


def in_its_place(content: dict[str, Any], file: Path, *, run_dir: str | None = None) -> dict[str, Any]:
    """Return the content of a run's configuration, with its directory and its paths as they are from here.

    Args:
        content: What stands in the file.
        file: The file in the run's directory.
        run_dir: Another directory that was asked for; what callbacks and loggers wrote to goes along.
    """
    folder, trainer = file.parent, content.get("trainer")
    trainer = trainer if isinstance(trainer, dict) else {}
    before = trainer.get("default_root_dir")
    base = _base(file, before)
    content = _rooted(content, file, base, before)
    if not before:
        return content
    stood = [os.path.normpath(place) for place in {before, os.path.join(base or "", before)}]
    target = run_dir or (before if _same(before, folder) else str(folder))

    def moved(text: str) -> str:
        place = os.path.normpath(text) if text else text
        for old in stood:
            if old != "." and (place == old or place.startswith(f"{old}{os.sep}")):
                return (
                    f"{target}{place[len(old) :]}"
                    if is_url(target)
                    else os.path.normpath(f"{target}{place[len(old) :]}")
                )
        return text

    writers = {name: trainer[name] for name in ("callbacks", "logger", "profiler") if trainer.get(name)}
    if target != before:
        writers = each_text(_copied(writers), moved)
    return {**content, "trainer": {**trainer, **writers, "default_root_dir": target}}


def beside(content: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """Return options that a checkpoint of a run holds, with its relative paths as they are from here.

    Args:
        content: The options, in the sections of a configuration.
        run_dir: The run's directory, whose config.yaml says where its paths start from.
    """
    file = run_dir / NAME
    if not is_of_a_run(file):
        return content
    try:
        before = (read_config(file).get("trainer") or {}).get("default_root_dir")
    except ConfigError:
        before = None
    return _rooted(content, file, _base(file, before), before)


def _rooted(content: dict[str, Any], file: Path, base: Path | None, before: str | None) -> dict[str, Any]:
    if base is None or _same(os.getcwd(), base):
        return content
    content, before = _copied(content), None if before and is_url(before) else before
    for section, name, value in _paths(content, base):
        place = os.path.join(base, value)
        # A project may have moved as a whole: the data then lies where it lay, seen from the run.
        from_run = os.path.relpath(place, os.path.join(base, before)) if before else value
        moved = os.path.normpath(file.parent / from_run)
        section[name] = moved if not os.path.exists(place) and os.path.exists(moved) else place
    return content


def _base(file: Path, before: str | None) -> Path | None:
    """Return the directory that relative paths of a run's configuration start from, if that can be known."""
    said = next((line.removeprefix(_BASE) for line in _comments(file) if line.startswith(_BASE)), None)
    if said is not None:
        return Path(said)
    folder = file.parent.absolute()
    if not before or os.path.isabs(before):
        return None
    parts = Path(os.path.normpath(before)).parts
    if parts and folder.parts[-len(parts) :] == parts:
        return Path(*folder.parts[: -len(parts)])
    return None


def _paths(content: Mapping[str, Any], base: Path) -> list[tuple[Any, str | int, str]]:
    """Find the relative paths of data and weights, as (section or list, option or number in it, path).

    Which options of somebody's own data module are paths is told by their names, and by what is there.
    """
    data, model = content.get("data"), content.get("model")
    found = []
    if isinstance(data, Mapping) and isinstance(data.get("init_args"), Mapping):
        options = data["init_args"]
        for name, value in options.items():
            known = name in _DATA_PATHS and str(data.get("class_path")).startswith("poolformer.")
            meant = known or name in _DATA_PATHS or any(word in name for word in _LIKE_A_PATH)
            if isinstance(value, str) and value and meant and (known or os.path.exists(base / value)):
                found.append((options, name, value))
            if isinstance(value, list) and known:
                found += [(value, n, one) for n, one in enumerate(value) if isinstance(one, str) and one]
    for name in ("pretrained", "teacher"):
        given = model.get(name) if isinstance(model, Mapping) else None
        if isinstance(given, str) and os.path.exists(base / given):
            found.append((model, name, given))
    return [one for one in found if not os.path.isabs(one[2]) and not is_url(one[2])]


def _comments(file: Path) -> list[str]:
    """Return the lines that a file opens with, as far as they are comments."""
    lines = []
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            while (line := opened.readline(4096)).startswith("#"):
                lines.append(line.rstrip("\n"))
    except OSError:
        pass
    return lines


def _same(one: str, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(one) for name, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value
