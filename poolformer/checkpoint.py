"""What a checkpoint says about itself, and reading it as data: no file here can run code.

Every checkpoint of a run carries a record under `RECORD`: the backbone, the token mixers with the
package and version each came from, and the class names. A parameter-free mixer leaves no other trace.
"""

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from .errors import CheckpointError, RegistryError
from .mixer_spec import MixerSpec, resolve
from .registry import describe

RECORD = "poolformer"
_NAMES = ("last", "best")


def record(*, backbone: str, mixer: MixerSpec, class_names: list[str] | None) -> dict[str, Any]:
    """Describe what weights need to be used again, in plain values."""
    return {"backbone": backbone, "mixers": _origins(backbone, mixer), "class_names": class_names}


def differences(checkpoint: dict[str, Any], *, backbone: str, mixer: MixerSpec) -> list[str]:
    """Say where a checkpoint's record differs from what is asked for and installed."""
    saved = checkpoint.get(RECORD)
    if saved is None:
        return ["the checkpoint does not say which backbone and token mixer it was trained with"]
    found = []
    if saved["backbone"] != backbone:
        found.append(f"the checkpoint was trained with backbone {saved['backbone']!r}, not {backbone!r}")
    here = _origins(backbone, mixer)
    for name, origin in saved["mixers"].items():
        if name not in here:
            asked = ", ".join(map(repr, here))
            found.append(f"the checkpoint was trained with token mixer {name!r} ({origin}), not {asked}")
        elif here[name] != origin:
            found.append(f"the checkpoint was trained with token mixer {name!r} of {origin}; here is {here[name]}")
    return found


def _origins(backbone: str, mixer: MixerSpec) -> dict[str, str]:
    if backbone.startswith("timm/"):
        return {}
    return {one.name: one.origin for one in resolve(mixer)}


def read(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU, as data only.

    Raises:
        CheckpointError: No such file, a torn or foreign one, or one that would have to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at '{path}'{_candidates(path.parent)}")
    try:
        # Said explicitly: the default can be turned off by an environment variable.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"'{path}' is not a checkpoint that can be loaded as data: {describe(error)[:200]}"
            f"{_candidates(path.parent)}"
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"'{path}' holds a {type(checkpoint).__name__}, not a checkpoint of a run")
    return checkpoint


def locate(name: str, run_dir: str | Path) -> Path:
    """Return the file that ``last``, ``best`` or a path stands for.

    Raises:
        CheckpointError: The run has no such checkpoint; never an empty answer that starts from scratch.
    """
    folder = Path(run_dir) / "checkpoints"
    path = folder / f"{name}.ckpt" if name in _NAMES else Path(name)
    if not path.is_file():
        asked = f"the run in '{run_dir}' has no '{name}' checkpoint" if name in _NAMES else f"no checkpoint at '{path}'"
        raise CheckpointError(f"{asked}{_candidates(path.parent if name not in _NAMES else folder)}")
    return path


def hyper_parameters(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the model's constructor arguments that a checkpoint was made with.

    Raises:
        CheckpointError: A token mixer it was trained with is not installed; names the package.
    """
    saved = {k: v for k, v in checkpoint.get("hyper_parameters", {}).items() if not k.startswith("_")}
    for name, origin in checkpoint.get(RECORD, {}).get("mixers", {}).items():
        try:
            resolve(name)
        except RegistryError as error:
            package = origin.split(" ")[0]
            remedy = f": pip install {package}" if package else ""
            raise CheckpointError(
                f"this checkpoint was trained with token mixer {name!r} of {origin or 'an unpackaged module'}, "
                f"which cannot be had here{remedy} ({describe(error)})"
            ) from error
    return saved


def _candidates(folder: Path) -> str:
    found = _newest_first(folder.glob("*.ckpt"))
    return f"; there is {', '.join(map(str, found))}" if found else f"; '{folder}' has no checkpoints"


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[:5]
