"""What a checkpoint says about itself: the network that it is of, and the options that it was made with.

Every checkpoint of a run carries a record under `RECORD`: the backbone and the token mixers with the
package and version each came from, and the class names. A parameter-free mixer leaves no other trace.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .. import registry
from ..errors import CheckpointError, RegistryError, describe
from ..network.frame_options import own_options, without_unasked
from ..network.mixer_spec import MixerSpec, resolve, stages
from ..option_ranges import RENAMED
from .plain_values import is_bounded

RECORD = "poolformer"
METRICS = "poolformer_metrics"
"""Where a checkpoint keeps what was logged last."""
RUN = "poolformer_run"
"""Where a checkpoint keeps facts of its run."""
IMPORTING = ("mixer", "backbone", "optimizer")
"""Options of the model that name what is imported, or have options that may."""

_PLAIN = (bool, int, float, str, type(None), list, tuple, dict)
# What would be imported: torch.nn.GELU, also inside a text that is YAML.
_DOTTED = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]")
# Package and version, as `Entry.origin` writes them: they go into a command that is meant to be pasted.
_ORIGIN = re.compile(r"[A-Za-z0-9][\w.-]*( \w[\w.+!-]*)?")


@dataclass(frozen=True)
class Saved:
    """What a checkpoint says beside its weights and options.

    Attributes:
        record: Its record; None where it has none.
        metrics: What had been logged last when it was saved.
        crop_pct: Share of the resized image that its run evaluated; None where its data has no such option.
        orient: Whether its data turned images as EXIF says.
    """

    record: dict[str, Any] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    crop_pct: float | None = None
    orient: bool = False

    @property
    def class_names(self) -> list[str] | None:
        return (self.record or {}).get("class_names")


def saved_in(checkpoint: Mapping[str, Any]) -> Saved:
    """Return what a checkpoint says beside its weights and options."""
    options, run = checkpoint.get("datamodule_hyper_parameters") or {}, checkpoint.get(RUN) or {}
    crop_pct = options.get("crop_pct")
    return Saved(
        record=checkpoint.get(RECORD),
        metrics=checkpoint.get(METRICS, {}),
        crop_pct=crop_pct if isinstance(crop_pct, float) and 0 < crop_pct <= 1 else None,
        # What lies turned in a .beton is so without an option.
        orient=options.get("orient") is True or run.get("images_turned") is True,
    )


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
    mixers = {name: registry.origin_today(origin) for name, origin in saved["mixers"].items()}
    return saved | {"backbone_origin": registry.origin_today(saved.get("backbone_origin") or ""), "mixers": mixers}


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
                f"this checkpoint was trained with {kind} {name!r}{f' of {origin}' if origin else ''}, which is "
                f"not installed here{install} ({describe(error)})"
            ) from error
    # Which weights to read, or to download, is not a checkpoint's to choose: it has its own.
    named = {
        RENAMED.get(name, name): value
        for name, value in saved.items()
        if not name.startswith("_") and name not in ("pretrained", "pretrained_skip")
    }
    return without_unasked(named) if trained_with and "frame" not in trained_with else named


def _check_classes(saved: Mapping[str, Any], weights: Any) -> None:
    """Refuse a head that the weights do not have: a network of a billion classes would be built before they differ."""
    classes = saved.get("num_classes")
    if isinstance(classes, int) and isinstance(weights, dict):
        sizes = [tensor.numel() for tensor in weights.values() if isinstance(tensor, torch.Tensor)]
        if sizes and classes > max(sizes):
            raise CheckpointError(f"the checkpoint says {classes} classes, but none of its tensors has so many values")


def check_imports(
    options: Mapping[str, Any], *, path: str | Path, vouched: Collection[str], remedy: Callable[[list[str]], str]
) -> None:
    """Refuse a checkpoint that would choose what is imported: it is data from anywhere.

    Args:
        options: Hyper-parameters of its model.
        path: Its file, for the message.
        vouched: What the user has named, as ``module:name``.
        remedy: Says how to vouch for modules of these names.

    Raises:
        CheckpointError: It names a module that the user does not.
    """
    named = import_references([options.get(option) or "" for option in IMPORTING])
    foreign = [name for name in dict.fromkeys(named) if name not in vouched]
    if foreign:
        modules = "a module" if len(foreign) == 1 else "modules"
        raise CheckpointError(
            f"'{path}' was trained with {', '.join(foreign)}, {modules} that you have to vouch for: {remedy(foreign)}"
        )


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


def _is_plain(options: Any) -> bool:
    return all(isinstance(value, _PLAIN) for value in _values(options))


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
