"""Finding the checkpoint that is meant, and what else there is where it cannot be used."""

from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, suggestion
from .archive import check_archive
from .pickle_keys import check_keys

_NAMES = ("last", "best")


def locate(name: str, run_dir: str | Path) -> Path:
    """Return the file that ``last``, ``best`` or a path stands for.

    Raises:
        CheckpointError: The run has no such checkpoint; never an empty answer that starts from scratch.
    """
    path = Path(run_dir, "checkpoints", f"{name}.ckpt") if name in _NAMES else Path(name)
    if path.is_file():
        return path
    if name not in _NAMES:
        asked = f"'{path}' is a folder" if path.is_dir() else f"no checkpoint at '{path}'"
        meant = suggestion(name, list(_NAMES))
        raise CheckpointError(f"{asked}{f'.{meant}' if meant else candidates(path)}")
    earlier = next(filter(_loads, _newest_first(Path(run_dir), f"previous/*/checkpoints/{name}.ckpt")), None)
    moved = f"; the run before it has '{earlier}'" if earlier else ""
    raise CheckpointError(f"the run in '{run_dir}' has no '{name}' checkpoint{candidates(path)}{moved}")


def candidates(wanted: Path) -> str:
    """Say which checkpoints beside one that cannot be used can be loaded."""
    if wanted.suffix in (".pth", ".pt", ".tar", ".bin", ".safetensors"):  # a run's checkpoints are no substitute
        return ""
    folders = [wanted, wanted / "checkpoints"] if wanted.is_dir() else [wanted.parent, wanted.parent / "checkpoints"]
    others = [path for folder in folders for path in _newest_first(folder, "*.ckpt") if path != wanted]
    found = list(islice(filter(_loads, others), 5))
    if found:
        return f"; there is {', '.join(map(str, found))}"
    if others:
        return f"; the others in '{others[0].parent}' cannot be loaded either"
    return f"; '{folders[0]}' has no {'other ' if wanted.is_file() else ''}checkpoints"


def glance(path: Path) -> dict[str, Any] | None:
    """Return what a checkpoint holds without reading its weights; None where it cannot be loaded as data."""
    try:
        check_archive(path)
        check_keys(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever is wrong with it, it is nothing to offer
        return None
    return content if isinstance(content, dict) else {}


def _loads(path: Path) -> bool:
    return glance(path) is not None


def _newest_first(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
