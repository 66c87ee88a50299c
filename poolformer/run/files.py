"""Which files of a directory a run has written: those make an earlier run, and all others are somebody's."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.locating import glance
from ..checkpoint.record import RECORD
from . import config as run_config

EVENTS_SUFFIX = ".poolformer"
"""Ends the names of TensorBoard's files that a run writes."""

_EVENTS = "events.out.tfevents.*"
_OF_OUR_SUMMARY = b"model/text_summary"
_TABLES = {
    "predictions*.csv": rb"image,class_1,probability_1",
    "result.json": rb'\{\s*"top1":',
    "metrics.csv": rb"epoch,step,lr[,\r\n]",
    "summary.json": rb'\{\s*"verb": "fit"',
    "validate-*.json": rb'\{\s*"verb": "validate"',
    "test-*.json": rb'\{\s*"verb": "test"',
}

_UNFINISHED = re.compile(r"\.(config\.yaml|hparams\.yaml|summary\.json|events\..*)\.\d+-[0-9a-f]+\.tmp")


@dataclass(frozen=True)
class Found:
    """What lies in a directory.

    Attributes:
        is_run: Whether a run has written there.
        files: What it has written, below the directory.
        in_the_way: Files of somebody else that a run would overwrite.
    """

    is_run: bool
    files: tuple[Path, ...]
    in_the_way: tuple[Path, ...]


def look(folder: Path) -> Found:
    """Find out what lies in a directory; nothing is changed."""
    config = folder / run_config.NAME
    configured = run_config.is_of_a_run(config)
    named = [path for name in ("last", "best") if (path := folder / "checkpoints" / f"{name}.ckpt").exists()]
    read = {path: glance(path) for path in named if path.is_file()}
    saved = [content for content in read.values() if content and _is_ours(content)]
    logged = list(_logs(folder))
    is_run = bool(saved) or (configured and bool(logged or _is_new(folder / "checkpoints") or _has_earlier(folder)))
    # One that cannot be read may be the run's, or anybody's where there is no run.
    strange = [path for path in named if not (is_run and _may_be_ours(read.get(path, {})))]
    in_the_way = [config] if config.exists() and not (is_run and configured) else []
    if not is_run:
        return Found(False, (), (*in_the_way, *strange))
    recorded = {path for content in saved for path in _recorded(folder, content)}
    checkpoints = [path for path in named if path not in strange]
    files = [*([config] if configured else []), *logged, *_tables(folder), *sorted({*checkpoints, *recorded})]
    return Found(True, tuple(files), (*in_the_way, *strange))


def is_run(folder: Path) -> bool:
    """Return whether a run has written to a directory."""
    return look(folder).is_run


def is_taken(path: Path) -> bool:
    """Return whether a file that a run would write over is somebody else's."""
    # What cannot be looked at is left to the write, which says so.
    return os.path.lexists(path) and not (os.path.isfile(path) and re.match(_TABLES[path.name], _head(path)))


def are_hyper_parameters(file: Path) -> bool:
    """Return whether a file is the hparams.yaml of a run."""
    text = _head(file)
    return bool(re.search(rb"^backbone:", text, re.MULTILINE) and re.search(rb"^mixer:", text, re.MULTILINE))


def remove_unfinished(folder: Path) -> None:
    """Remove what killed writes have left in a run's directory, which the caller has locked."""
    for path in folder.glob(".*.tmp"):
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _may_be_ours(checkpoint: Mapping[str, Any] | None) -> bool:
    return checkpoint is None or _is_ours(checkpoint)


def _is_ours(checkpoint: Mapping[str, Any]) -> bool:
    options = checkpoint.get("hyper_parameters")
    return RECORD in checkpoint or (isinstance(options, dict) and "backbone" in options and "mixer" in options)


def _is_new(checkpoints: Path) -> bool:
    """Return whether this is the folder of a run that has just begun: empty, but for what a kill may have left."""
    return checkpoints.is_dir() and all(path.name.endswith(".tmp") for path in checkpoints.iterdir())


def _has_earlier(folder: Path) -> bool:
    return any(run_config.is_of_a_run(path) for path in folder.glob(f"previous/*/{run_config.NAME}"))


def _logs(folder: Path) -> Iterator[Path]:
    hyper_parameters = folder / "hparams.yaml"
    if hyper_parameters.is_file() and are_hyper_parameters(hyper_parameters):
        yield hyper_parameters
    for path in sorted(folder.glob(_EVENTS)):
        if path.is_file() and (path.name.endswith(EVENTS_SUFFIX) or _OF_OUR_SUMMARY in _head(path)):
            yield path


def _tables(folder: Path) -> Iterator[Path]:
    for pattern, start in _TABLES.items():
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and re.match(start, _head(path)):
                yield path


def _recorded(folder: Path, checkpoint: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the files that the callbacks of a run say they have written, also where its directory was moved."""
    states = checkpoint.get("callbacks")
    states = [state for state in states.values() if isinstance(state, dict)] if isinstance(states, dict) else []
    folders = [Path(text) for state in states if isinstance(text := state.get("dirpath"), str) and text]
    homes = {path.parent for path in folders if path.name == "checkpoints"}
    for state in states:
        best = state.get("best_k_models")
        named = [state.get(name) for name in ("best_model_path", "last_model_path", "kth_best_model_path")]
        named += list(best) if isinstance(best, dict) else []
        for text in named:
            if isinstance(text, str) and text.endswith(".ckpt"):
                yield from _here(folder, Path(text), homes)


def _here(folder: Path, path: Path, homes: set[Path]) -> Iterator[Path]:
    for home in homes:
        inside = path.relative_to(home) if path.is_relative_to(home) else Path(path.parent.name, path.name)
        if ".." not in inside.parts and inside.parts[0] != "previous" and (folder / inside).is_file():
            yield folder / inside


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(2**16)
    except OSError:
        return b""
