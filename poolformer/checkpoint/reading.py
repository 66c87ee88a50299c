"""What a checkpoint says about itself, and reading it as data: no file here can run code.

Every checkpoint of a run carries a record under `RECORD`: the backbone and the token mixers with the
package and version each came from, and the class names. A parameter-free mixer leaves no other trace.
"""

import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from .. import registry
from ..errors import CheckpointError, RegistryError
from ..network.frame_options import own_options, without_unasked
from ..network.mixer_spec import MixerSpec, resolve, stages
from ..registry import describe
from .archive import check_archive
from .pickle_keys import check_keys
from .plain_values import is_bounded

RECORD = "poolformer"
RENAMED: dict[str, str] = {}
"""Options of the model that are called otherwise now, former name to present one: checkpoints keep the former."""

_NAMES = ("last", "best")
# What Lightning takes out of a checkpoint without looking.
_PARTS = {
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "pytorch-lightning_version": str,
    "epoch": int,
    "global_step": int,
    "poolformer_run": dict,
    "poolformer_metrics": dict,
}
_PLAIN = (bool, int, float, str, type(None), list, tuple, dict)
# What would be imported: torch.nn.GELU, also inside a text that is YAML.
_DOTTED = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]")
# Where a `ModelCheckpoint` keeps the files that it deletes when it has better ones.
_FILES = ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path", "best_k_models")
# Paths that Lightning does not find to lie outside of a folder: x/../.., s3://x, local:/x.
_LEADS_AWAY = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[\w+.-]{2,}:|::")
# Package and version, as `Entry.origin` writes them: they go into a command that is meant to be pasted.
_ORIGIN = re.compile(r"[A-Za-z0-9][\w.-]*( \w[\w.+!-]*)?")


def record(
    *,
    backbone: str,
    mixer: MixerSpec | None,
    class_names: Iterable[str] | None,
    frame: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe what weights need to be used again, in plain values.

    Args:
        backbone: Its name.
        mixer: Token mixer that it was built with; None for a backbone without.
        class_names: Names of the classes in the order of the labels.
        frame: Options of the frame that it was built with.
    """
    chosen = mixer if mixer is not None and "mixer" in own_options(backbone) else None
    return {
        "backbone": backbone,
        "backbone_origin": _origin(backbone),
        "mixers": {one.name: one.origin for one in resolve(chosen)} if chosen is not None else {},
        "stages": stages(chosen) if chosen is not None else [],
        "class_names": None if class_names is None else list(map(str, class_names)),
    } | ({} if frame is None else {"frame": dict(frame)})


def _origin(backbone: str) -> str:
    if backbone.startswith("timm/"):
        return f"timm {version('timm')}"
    return registry.find(registry.BACKBONES, backbone).origin


def differences(checkpoint: Mapping[str, Any], *, backbone: str, mixer: MixerSpec | None) -> list[str]:
    """Say where a checkpoint's record differs from what is asked for and installed.

    Raises:
        CheckpointError: The record is not one of ours.
    """
    saved = _record_of(checkpoint)
    if not saved:
        return ["the checkpoint does not say which backbone and token mixer it was trained with"]
    here = record(backbone=backbone, mixer=mixer, class_names=None)
    found = []
    versions = saved.get("backbone_origin"), here["backbone_origin"]
    if saved["backbone"] != backbone:
        found.append(f"the checkpoint was trained with backbone {saved['backbone']!r}, not {backbone!r}")
    elif versions[0] and versions[0] != versions[1]:
        found.append(f"the checkpoint was trained with backbone {backbone!r} of {versions[0]}; here is {versions[1]}")
    for name, origin in saved["mixers"].items():
        if name not in here["mixers"]:
            asked = ", ".join(map(repr, here["mixers"]))
            found.append(f"the checkpoint was trained with token mixer {name!r} ({origin}), not {asked}")
        elif here["mixers"][name] != origin and (origin, here["mixers"][name]) != versions:  # said already
            found.append(
                f"the checkpoint was trained with token mixer {name!r} of {origin}; here is {here['mixers'][name]}"
            )
    if not found and saved.get("stages") and _in_lists(saved["stages"]) != _in_lists(here["stages"]):
        found.append(f"the checkpoint was trained with token mixers {saved['stages']}, not {here['stages']}")
    return found


def _record_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record, checked: a checkpoint is data from anywhere. Empty where there is none."""
    saved = checkpoint.get(RECORD)
    if saved is None:
        return {}
    if not isinstance(saved, dict) or not is_bounded(saved) or not _is_record(saved):
        raise CheckpointError("the checkpoint's record is not one that a run of poolformer writes")
    return saved


def _is_record(saved: dict[str, Any]) -> bool:
    mixers, classes = saved.get("mixers"), saved.get("class_names")
    if not _is_plain(saved) or not isinstance(mixers, dict) or not (classes is None or isinstance(classes, list)):
        return False
    texts = [saved.get("backbone"), *mixers, *(classes or [])]
    origins = [saved.get("backbone_origin", ""), *mixers.values()]
    return all(isinstance(text, str) for text in texts + origins) and all(
        not origin or _ORIGIN.fullmatch(origin) for origin in origins
    )


def _in_lists(value: Any) -> Any:
    """Return a value without tuples, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _in_lists(each) for key, each in value.items()}
    return [_in_lists(each) for each in value] if isinstance(value, list | tuple) else value


def _is_plain(options: Any) -> bool:
    return all(isinstance(value, _PLAIN) for value in _values(options))


def read(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU, as data only.

    Raises:
        CheckpointError: No such file, a torn or foreign one, or one that would have to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at '{path}'{candidates(path)}")
    try:
        check_archive(path)
        check_keys(path)
        # Said explicitly: the default can be turned off by an environment variable.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of arbitrary bytes PyTorch makes errors of a dozen kinds
        raise CheckpointError(
            f"'{path}' is not a checkpoint that can be loaded as data: {_reason(error, path)}{candidates(path)}"
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"'{path}' holds a {type(checkpoint).__name__}, not a checkpoint of a run")
    for name, part in checkpoint.items():
        if not (is_bounded(name) and is_bounded(part)):
            raise CheckpointError(
                f"'{path}' is not a checkpoint that can be used: its {str(name)[:40]!r} holds itself, is nested too "
                "deeply, or stands for too many values"
            )
    return checkpoint


def _reason(error: Exception, path: Path) -> str:
    """Say why PyTorch refuses a file, without its advice to load it as code."""
    if isinstance(error, CheckpointError):
        return str(error)
    if isinstance(error, OSError):
        return describe(error)[:200]
    with path.open("rb") as file:
        # A zip archive, a pickle as of old, or a tar as of the first days.
        if not file.read(2).startswith((b"PK", b"\x80")) and not tarfile.is_tarfile(path):
            return "torch.save did not write it"
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    if refused:
        return f"loading it would call {refused[1][:100]}; where you trust it, save its state dict alone to a new file"
    unpickler = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    return (unpickler[1] if unpickler else describe(error)).partition(". ")[0][:200]


def read_run(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint that a run wrote.

    Raises:
        CheckpointError: As `read`; or there are weights alone.
    """
    checkpoint = read(path)
    try:
        check_run(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"'{path}' was not written by a run: {error}") from error
    return checkpoint


def check_run(checkpoint: Mapping[str, Any]) -> None:
    """Check that what Lightning takes out of a checkpoint without looking is what a run puts there.

    Raises:
        CheckpointError: It is not; the message begins with what.
    """
    if "pytorch-lightning_version" not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError("it has no state of the trainer")
    for name, kind in _PARTS.items():
        if not isinstance(checkpoint.get(name, kind()), kind):
            raise CheckpointError(f"its {name} is a {type(checkpoint[name]).__name__}")
    for name, value in checkpoint["state_dict"].items():
        if not isinstance(name, str) or not (isinstance(value, torch.Tensor) or name.endswith("_extra_state")):
            raise CheckpointError("its state_dict holds more than tensors by name")
    for name, state in checkpoint.get("callbacks", {}).items():
        for path in _files_of(state):
            # Lightning deletes what a checkpoint calls its predecessors, folders and other file systems included.
            if not isinstance(path, str) or _LEADS_AWAY.search(path):
                raise CheckpointError(
                    f"a callback of it names {str(path)[:80]!r}, which a run that goes on could delete "
                    f"({str(name).partition('{')[0][:40]})"
                )


def _files_of(state: Any) -> Iterator[Any]:
    """Yield what Lightning would take for names of files, whichever class the state is said to be of."""
    for option in _FILES if isinstance(state, Mapping) else ():
        value = state.get(option)
        yield from value if isinstance(value, Mapping) else [value] if value is not None else []


def _values(value: Any) -> Iterator[Any]:
    """Yield all that nested mappings and lists hold, keys included; what is met twice, once."""
    todo, met = [value], set()
    while todo:
        one = todo.pop()
        yield one
        if isinstance(one, Mapping | list | tuple | set) and id(one) not in met:
            met.add(id(one))
            todo += [*one.keys(), *one.values()] if isinstance(one, Mapping) else one


def _texts(value: Any) -> Iterator[str]:
    return (one for one in _values(value) if isinstance(one, str))


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
        meant = registry.suggestion(name, list(_NAMES))
        raise CheckpointError(f"{asked}{f'.{meant}' if meant else candidates(path)}")
    earlier = next(filter(_loads, _newest_first(Path(run_dir), f"previous/*/checkpoints/{name}.ckpt")), None)
    moved = f"; the run before it has '{earlier}'" if earlier else ""
    raise CheckpointError(f"the run in '{run_dir}' has no '{name}' checkpoint{candidates(path)}{moved}")


def options(checkpoint: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Return constructor arguments that a checkpoint holds, of the model or the data module; empty where it has none.

    Raises:
        CheckpointError: They are not plain values by name.
    """
    saved = checkpoint.get(section, {})
    if not is_bounded(saved):
        raise CheckpointError(f"the checkpoint's {section} hold themselves, or stand for too many values")
    if not isinstance(saved, dict) or not all(isinstance(name, str) for name in saved) or not _is_plain(saved):
        raise CheckpointError(f"the checkpoint's {section} are not plain values by name")
    return dict(saved)


def hyper_parameters(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's constructor arguments that a checkpoint was made with.

    Raises:
        CheckpointError: They are not a mapping of names, ask for more classes than the weights have, or
            the backbone or a token mixer is not installed; the message names its package. Nothing is
            imported to find out.
    """
    saved = options(checkpoint, "hyper_parameters")
    _check_classes(saved, checkpoint.get("state_dict"))
    trained_with = _record_of(checkpoint)
    needed = [(registry.MIXERS, name, origin) for name, origin in trained_with.get("mixers", {}).items()]
    if trained_with and not trained_with["backbone"].startswith("timm/"):
        needed.append((registry.BACKBONES, trained_with["backbone"], trained_with.get("backbone_origin", "")))
    for group, name, origin in needed:
        try:
            registry.find(group, name)
        except RegistryError as error:
            kind = "token mixer" if group == registry.MIXERS else "backbone"
            install = f": pip install {origin.replace(' ', '==')}" if origin else ""
            raise CheckpointError(
                f"this checkpoint was trained with {kind} {name!r}{f' of {origin}' if origin else ''}, which cannot "
                f"be had here{install} ({describe(error)})"
            ) from error
    # Which weights to read, or to download, is not a checkpoint's to choose: it has its own.
    named = {
        RENAMED.get(name, name): value
        for name, value in saved.items()
        if not name.startswith("_") and name != "pretrained"
    }
    return without_unasked(named) if trained_with and "frame" not in trained_with else named


def _check_classes(saved: Mapping[str, Any], weights: Any) -> None:
    """Refuse a head that the weights do not have: a network of a billion classes would be built before they differ."""
    classes = saved.get("num_classes")
    if isinstance(classes, int) and isinstance(weights, dict):
        sizes = [tensor.numel() for tensor in weights.values() if isinstance(tensor, torch.Tensor)]
        if sizes and classes > max(sizes):
            raise CheckpointError(f"the checkpoint says {classes} classes, but none of its tensors has so many values")


def import_references(spec: Any) -> list[str]:
    """Return the names in a specification of a mixer or backbone that would import a module of any name.

    In its options too: where a factory takes a class or a function, ``torch.nn.GELU`` is imported.
    """
    if isinstance(spec, str):
        return [spec] if ":" in spec else []
    if isinstance(spec, Mapping):
        values = [value for option, value in spec.items() if option != "name"]
        return import_references(spec.get("name")) + [text for text in _texts(values) if _DOTTED.search(text)]
    return [name for one in spec for name in import_references(one)] if isinstance(spec, list | tuple | set) else []


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
        return f"; what else lies in '{others[0].parent}' cannot be loaded either"
    return f"; '{folders[0]}' has no {'other ' if wanted.is_file() else ''}checkpoints"


def _loads(path: Path) -> bool:
    return glance(path) is not None


def glance(path: Path) -> dict[str, Any] | None:
    """Return what a checkpoint holds without reading its weights; None where it cannot be loaded as data."""
    try:
        check_archive(path)
        check_keys(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever is wrong with it, it is nothing to offer
        return None
    return content if isinstance(content, dict) else {}


def _newest_first(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
