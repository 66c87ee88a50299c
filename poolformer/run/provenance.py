"""Which data a checkpoint was trained on: a class path, read as text and never imported because a file says so."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import data
from ..checkpoint.record import RUN
from ..errors import CheckpointError
from ..files.shell import quoted

FACT = "data_module"
"""Name of the class path among the facts that a checkpoint keeps of its run."""

_OURS = "poolformer.data."
_CLASS_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def class_path_of(module: Any) -> str | None:
    """Return the path that a data module's class is named by on the command line; None where there is no module."""
    if module is None:
        return None
    kind = type(module)
    home = _OURS if kind.__module__.startswith(_OURS) else f"{kind.__module__}."
    return f"{home}{kind.__qualname__}"


def class_paths() -> list[str]:
    """Return the class paths of our data modules."""
    return [f"{_OURS}{name}" for name in data.__all__]


def trained_on(saved: Mapping[str, Any]) -> str | None:
    """Return the class path of the data module that a checkpoint was trained on, None where it does not say."""
    options, run = saved.get("datamodule_hyper_parameters"), saved.get(RUN)
    found = options.get("_class_path") if isinstance(options, dict) else None
    found = found or (run.get(FACT) if isinstance(run, dict) else None)
    if not found:  # of a run in Python, before that was recorded: our modules leave a state under their name
        states = [each for each in class_paths() if isinstance(saved.get(each.rpartition(".")[2]), dict)]
        found = states[0] if len(states) == 1 else None
    return found if isinstance(found, str) and _CLASS_PATH.fullmatch(found) else None


def unknown(path: Path, class_path: str | None) -> CheckpointError:
    """Return the question which data a checkpoint is meant for, whose own is not known here or not ours.

    Args:
        path: The checkpoint.
        class_path: What it was trained on, as far as it says so.
    """
    if class_path is None:
        names = ", ".join(data.__all__)
        what, option = "does not say which data module it was trained on", f"add --data {names} or one of yours"
    else:
        what = f"was trained on {class_path[:100]}, a data module that you have to vouch for"
        option = f"add --data {class_path[:100]}"
    config = path.parent.parent / "config.yaml"
    other = f", or --config {quoted(config)}" if config.is_file() else ", or the --config of its run"
    return CheckpointError(f"'{path}' {what}: {option}{other}")
