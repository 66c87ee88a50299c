"""What a checkpoint says about itself, and reading it as data: no file here can run code.

Every checkpoint of a run carries a record under `RECORD`: the backbone, the token mixers with the
package and version each came from, and the class names. A parameter-free mixer leaves no other trace.
"""

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from . import registry
from .errors import CheckpointError, RegistryError
from .mixer_spec import MixerSpec, resolve, stages
from .registry import describe

RECORD = "poolformer"
_NAMES = ("last", "best")


def record(*, backbone: str, mixer: MixerSpec, class_names: list[str] | None) -> dict[str, Any]:
    """Describe what weights need to be used again, in plain values."""
    mixes = takes_mixer(backbone)
    return {
        "backbone": backbone,
        "mixers": {one.name: one.origin for one in resolve(mixer)} if mixes else {},
        "stages": stages(mixer) if mixes else [],
        "class_names": class_names,
    }


def takes_mixer(backbone: str) -> bool:
    """Return whether a backbone's token mixer can be chosen."""
    if backbone.startswith("timm/"):
        return False
    factory = registry.find(registry.BACKBONES, backbone).load()
    return "mixer" in inspect.signature(factory).parameters


def differences(checkpoint: Mapping[str, Any], *, backbone: str, mixer: MixerSpec) -> list[str]:
    """Say where a checkpoint's record differs from what is asked for and installed.

    Raises:
        CheckpointError: The record is not one of ours.
    """
    saved = _record_of(checkpoint)
    if not saved:
        return ["the checkpoint does not say which backbone and token mixer it was trained with"]
    here = record(backbone=backbone, mixer=mixer, class_names=None)
    found = []
    if saved["backbone"] != backbone:
        found.append(f"the checkpoint was trained with backbone {saved['backbone']!r}, not {backbone!r}")
    for name, origin in saved["mixers"].items():
        if name not in here["mixers"]:
            asked = ", ".join(map(repr, here["mixers"]))
            found.append(f"the checkpoint was trained with token mixer {name!r} ({origin}), not {asked}")
        elif here["mixers"][name] != origin:
            found.append(
                f"the checkpoint was trained with token mixer {name!r} of {origin}; here is {here['mixers'][name]}"
            )
    if not found and saved.get("stages", here["stages"]) != here["stages"]:
        found.append(f"the checkpoint was trained with token mixers {saved['stages']}, not {here['stages']}")
    return found


def _record_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record, checked: a checkpoint is data from anywhere. Empty where there is none."""
    saved = checkpoint.get(RECORD)
    if saved is None:
        return {}
    mixers = saved.get("mixers") if isinstance(saved, dict) else None
    strings = isinstance(mixers, dict) and all(isinstance(text, str) for pair in mixers.items() for text in pair)
    if not strings or not isinstance(saved.get("backbone"), str):
        raise CheckpointError(f"the checkpoint's record {str(saved)[:80]} is not one that a run of poolformer writes")
    return saved


def read(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU, as data only.

    Raises:
        CheckpointError: No such file, a torn or foreign one, or one that would have to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at '{path}'{_candidates(path)}")
    try:
        # Said explicitly: the default can be turned off by an environment variable.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of arbitrary bytes PyTorch makes errors of a dozen kinds
        raise CheckpointError(
            f"'{path}' is not a checkpoint that can be loaded as data: {_reason(error, path)}{_candidates(path)}"
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"'{path}' holds a {type(checkpoint).__name__}, not a checkpoint of a run")
    return checkpoint


def _reason(error: Exception, path: Path) -> str:
    """Say why PyTorch refuses a file, without its advice to load it as code."""
    if isinstance(error, OSError):
        return describe(error)[:200]
    with path.open("rb") as file:
        if not file.read(2).startswith((b"PK", b"\x80")):  # a zip archive, or a pickle as of old
            return "torch.save did not write it"
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    if refused:
        return f"loading it would call {refused[1][:100]}"
    unpickler = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    return (unpickler[1] if unpickler else describe(error)).partition(". ")[0][:200]


def read_run(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint that a run wrote.

    Raises:
        CheckpointError: As `read`; or there are weights alone.
    """
    checkpoint = read(path)
    if "pytorch-lightning_version" not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(f"'{path}' was not written by a run: it has no state of the trainer")
    return checkpoint


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
        raise CheckpointError(f"{asked}{_candidates(path)}")
    earlier = _newest_first(Path(run_dir), f"previous/*/checkpoints/{name}.ckpt")
    moved = f"; the run before it has '{earlier[0]}'" if earlier else ""
    raise CheckpointError(f"the run in '{run_dir}' has no '{name}' checkpoint{_candidates(path)}{moved}")


def hyper_parameters(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's constructor arguments that a checkpoint was made with.

    Raises:
        CheckpointError: They are not a mapping of names, or a token mixer is not installed; the
            message names its package. Nothing is imported to find out.
    """
    saved = checkpoint.get("hyper_parameters", {})
    if not isinstance(saved, dict) or not all(isinstance(name, str) for name in saved):
        raise CheckpointError("the checkpoint's hyper-parameters are not a mapping of names")
    for name, origin in _record_of(checkpoint).get("mixers", {}).items():
        try:
            registry.find(registry.MIXERS, name)
        except RegistryError as error:
            package = origin.split(" ")[0]
            raise CheckpointError(
                f"this checkpoint was trained with token mixer {name!r} of {origin}, which cannot be had here: "
                f"pip install {package} ({describe(error)})"
            ) from error
    return {name: value for name, value in saved.items() if not name.startswith("_")}


def import_references(spec: Any) -> list[str]:
    """Return the names in a specification of a mixer or backbone that would import a module of any name."""
    if isinstance(spec, str):
        return [spec] if ":" in spec else []
    if isinstance(spec, Mapping):
        return import_references(spec.get("name"))
    return [name for one in spec for name in import_references(one)] if isinstance(spec, list | tuple | set) else []


def _candidates(wanted: Path) -> str:
    folders = [wanted, wanted / "checkpoints"] if wanted.is_dir() else [wanted.parent, wanted.parent / "checkpoints"]
    found = [path for folder in folders for path in _newest_first(folder, "*.ckpt") if path != wanted]
    if found:
        return f"; there is {', '.join(map(str, found[:5]))}"
    return f"; '{folders[0]}' has no {'other ' if wanted.is_file() else ''}checkpoints"


def _newest_first(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
