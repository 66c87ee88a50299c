"""Options of the frame: which a backbone has, what it takes where nothing is asked, and what it is then built with.

None asks for nothing: the backbone keeps its own value. Everything else is passed on, or refused.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from .. import registry
from ..errors import OptionsError
from ..factory_options import parameters
from .mixer_spec import as_plain_values, check_option_names, option_parameters, stages

FRAME = (
    *("mixer", "norm", "act", "residual", "channel_mlp"),
    *("layer_scale_init", "drop_path_rate", "position_embedding"),
)
# What stood in hyper-parameters before None did, and was not passed on.
_FORMERLY_UNASKED = {"mixer": "pooling", "norm": "group", "act": "gelu", "residual": True, "channel_mlp": True}
_OF_TIMM = "timm/"


def own_options(backbone: str) -> dict[str, Any]:
    """Return the options of the frame that a backbone has, each with the value that is its own; none of timm's.

    Those it has fixed are among them: IdentityFormer's token mixer is the identity. None stands for a value that its
    signature does not say.

    Raises:
        RegistryError: No such backbone, or its package is broken.
    """
    if backbone.startswith(_OF_TIMM):
        return {}
    factory = registry.find(registry.BACKBONES, backbone).load()
    taken = parameters(factory)
    defaults = {name: taken[name].default for name in FRAME if name in taken}
    own = {name: None if default is inspect.Parameter.empty else default for name, default in defaults.items()}
    return {**own, **getattr(factory, "fixed", {})}


def takes_mixer(backbone: str) -> bool:
    """Return whether a backbone's token mixer can be chosen."""
    if backbone.startswith(_OF_TIMM):
        return False
    return "mixer" in parameters(registry.find(registry.BACKBONES, backbone).load())


def built_options(backbone: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a backbone is built with: what is asked, and its own values for the rest.

    Args:
        backbone: Its name.
        asked: Options by name; those that are None, and others than the frame's, do not count.

    Raises:
        OptionsError: The backbone has no such option, or has it fixed to another value.
    """
    own = own_options(backbone)
    _check_names(backbone, [name for name in FRAME if asked.get(name) is not None], own)
    built = {name: _as_mapping(value) if name == "mixer" else value for name, value in own.items()}
    for name in FRAME:
        if (value := asked.get(name)) is None:
            continue
        _check_fixed(backbone, name, value, own)
        built[name] = as_plain_values(value) if name == "mixer" else value
    return built


def with_built(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a model with those of the frame as they are built.

    Raises:
        RegistryError: No such backbone or mixer.
        OptionsError: As `built_options`.
    """
    return {**model, **built_options(model["backbone"], model)}


def asked_for(backbone: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a backbone's factory is called with: those that are asked for and not fixed.

    Raises:
        OptionsError: As `built_options`.
    """
    asked = {name: value for name, value in options.items() if name in FRAME and value is not None}
    built_options(backbone, asked)
    if backbone.startswith(_OF_TIMM):
        return asked
    entry = registry.find(registry.BACKBONES, backbone)
    taken = option_parameters(entry.load())
    return {name: value for name, value in asked.items() if name in taken}


def without_unasked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a checkpoint of before None was the default, without those that asked for nothing.

    The network was built with the backbone's own values then, whatever these said.
    """
    return {
        name: value
        for name, value in options.items()
        if name not in _FORMERLY_UNASKED or _bare(value) != _FORMERLY_UNASKED[name]
    }


def _check_names(backbone: str, names: list[str], own: Mapping[str, Any]) -> None:
    if backbone.startswith(_OF_TIMM):
        if unknown := sorted(set(names) - {"drop_path_rate"}):
            raise OptionsError(f"backbone {backbone!r} is timm's own network and does not take {', '.join(unknown)}")
        return
    entry = registry.find(registry.BACKBONES, backbone)
    check_option_names(entry, entry.load(), {name: None for name in names if name not in own})


def _check_fixed(backbone: str, name: str, value: Any, own: Mapping[str, Any]) -> None:
    if backbone.startswith(_OF_TIMM):
        return
    entry = registry.find(registry.BACKBONES, backbone)
    if name in option_parameters(entry.load()):
        return
    same = stages(value) == stages(own[name]) if name == "mixer" else value == own[name]
    if not same:
        raise OptionsError(f"{entry} has {name} {own[name]!r} and takes no other, not {value!r}: leave it out, or null")


def _as_mapping(mixer: Any) -> Any:
    """Write a bare name as the configuration files do, which options can be added to."""
    if isinstance(mixer, str):
        return {"name": mixer}
    return [_as_mapping(one) for one in mixer] if isinstance(mixer, list | tuple) else mixer


def _bare(value: Any) -> Any:
    return value["name"] if isinstance(value, Mapping) and set(value) == {"name"} else value
