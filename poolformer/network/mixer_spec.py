"""How a token mixer is written down, and how a block gets its mixer from that.

One spelling for the command line, YAML, checkpoints and Python: a name, a mapping ``{name: pooling,
pool_size: 5}``, or a list of four of these, one for each stage. From Python a factory itself may
stand in a name's place.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

import torch
from torch import nn

from .. import registry
from ..errors import BrokenPluginError, OptionsError, describe, is_end
from ..factory_options import check_names, convert, parameters
from ..registry import Entry
from .evaluating import evaluating

MixerFactory = Callable[..., nn.Module]
MixerSpec = str | MixerFactory | Mapping[str, Any] | Sequence[str | MixerFactory | Mapping[str, Any]]

NUM_STAGES = 4
_LARGEST_TRIAL = 2**28  # numbers: a mixer is not tried out on images that fill the memory
# What the frame itself hands to a factory; never an option of the user's.
_FROM_FRAME = ("dim", "resolution")


@dataclass(frozen=True)
class Mixer:
    """A token mixer that was looked up, with its options checked; call `build` for a block's own.

    Attributes:
        factory: ``factory(dim, **options) -> nn.Module``, see ``plugins/README.md``.
        options: Options by name, converted to the types that the factory's signature asks for.
        label: Mixer and package in words, for messages.
        origin: Package and version that the mixer comes from, empty for a bare factory.
        name: Name under which it was asked for.
    """

    factory: MixerFactory
    options: dict[str, Any]
    label: str
    origin: str
    name: str

    @cached_property
    def takes_resolution(self) -> bool:
        """Whether the mixer depends on the number of tokens, and so on the image size."""
        return "resolution" in parameters(self.factory)

    def build(self, dim: int, *, resolution: tuple[int, int]) -> nn.Module:
        """Build one mixer and try it once, so that a broken one is found here and not in training.

        Args:
            dim: Channels C of the stage.
            resolution: Tokens along H and W at this stage for the configured image size.

        Raises:
            BrokenPluginError: The factory raises, or gives something that is not a module from
                (B, C, H, W) to the same shape.
        """
        extra = {"resolution": resolution} if self.takes_resolution else {}
        try:
            mixer = self.factory(dim, **self.options, **extra)
        except (Exception, SystemExit) as error:  # it may do anything, even exit
            if is_end(error):
                raise
            # With options given, a ValueError is most likely about their values.
            mistake = OptionsError if self.options and isinstance(error, ValueError) else BrokenPluginError
            raise mistake(f"{self.label} cannot be built with dim={dim}: {describe(error)}") from error
        if not isinstance(mixer, nn.Module):
            raise BrokenPluginError(f"{self.label} must return a torch.nn.Module, but returned {type(mixer).__name__}")
        self._try_out(mixer, dim, resolution if self.takes_resolution else (3, 2))
        return mixer

    def _try_out(self, mixer: nn.Module, dim: int, resolution: tuple[int, int]) -> None:
        # H and W differ where they may, so that a mixer that swaps them is caught too.
        device = next((tensor.device for tensor in mixer.parameters()), torch.get_default_device())
        if device.type == "meta" or dim * math.prod(resolution) > _LARGEST_TRIAL:
            return
        tokens = torch.zeros(1, dim, *resolution, device=device)
        try:
            with evaluating(mixer):
                mixed = mixer(tokens)
        except (Exception, SystemExit) as error:  # likewise
            if is_end(error):
                raise
            raise BrokenPluginError(
                f"{self.label} cannot mix tokens of shape {tuple(tokens.shape)}: {describe(error)}"
            ) from error
        shape = tuple(mixed.shape) if isinstance(mixed, torch.Tensor) else type(mixed).__name__
        if shape != tuple(tokens.shape):
            raise BrokenPluginError(
                f"{self.label} must keep the shape (B, C, H, W), but made {shape} of {tuple(tokens.shape)}"
            )
        if mixed.dtype != tokens.dtype:
            raise BrokenPluginError(f"{self.label} must keep the dtype, but made {mixed.dtype} of {tokens.dtype}")


def resolve(spec: MixerSpec) -> list[Mixer]:
    """Look up the token mixers of the four stages and check their options.

    Example:
        >>> [mixer.name for mixer in resolve(["pooling", "pooling", "pooling", "attention"])]
        ['pooling', 'pooling', 'pooling', 'attention']

    Raises:
        OptionsError: The spelling is off, or an option does not fit the factory's signature.
        RegistryError: No such mixer, or its package is broken.
    """
    if isinstance(spec, str | Mapping) or callable(spec):
        return [_resolve_one(spec)] * NUM_STAGES
    if not isinstance(spec, Sequence):
        raise OptionsError(
            f"a token mixer is a name, a mapping with a name, or a list of {NUM_STAGES} of these; got {spec!r}"
        )
    if len(spec) != NUM_STAGES:
        raise OptionsError(f"a list gives one token mixer for each of {NUM_STAGES} stages; got {len(spec)}")
    return [_resolve_one(one) for one in spec]


def stages(spec: MixerSpec) -> list[dict[str, Any]]:
    """Write a specification out, a mapping with the name and all given options for each stage, in plain values."""
    return [{"name": mixer.name, **_plain_options(mixer.options)} for mixer in resolve(spec)]


def as_plain_values(spec: MixerSpec) -> Any:
    """Replace factories in a specification by import references, so that a checkpoint can hold it."""
    if isinstance(spec, str):
        return spec
    if callable(spec):
        reference = f"{getattr(spec, '__module__', '')}:{getattr(spec, '__qualname__', '')}"
        if "<" in reference or not reference.partition(":")[2]:
            raise OptionsError(f"{spec!r} has no name that a checkpoint could find it by; pass a class or a function")
        return reference
    if isinstance(spec, Mapping):
        return _plain_options(spec)
    return [as_plain_values(one) for one in spec]


def _plain_options(options: Any) -> Any:
    """Return options as they would be written in YAML: functions and classes by name, an Enum by its name too."""
    if isinstance(options, Mapping):
        return {key: _plain_options(value) for key, value in options.items()}
    if isinstance(options, list | tuple):
        return [_plain_options(value) for value in options]
    if isinstance(options, Enum):
        return options.name
    if callable(options) and hasattr(options, "__qualname__"):
        return f"{options.__module__}.{options.__qualname__}"
    return options


def _resolve_one(spec: str | MixerFactory | Mapping[str, Any]) -> Mixer:
    if callable(spec):
        name = getattr(spec, "__name__", type(spec).__name__)
        return Mixer(spec, {}, label=f"token mixer {name!r}", origin="", name=name)
    name, options = (spec, {}) if isinstance(spec, str) else _name_and_options(spec)
    entry = registry.find(registry.MIXERS, name)
    factory = entry.load()
    if options:
        check_option_names(entry, factory, options)
        options = convert(str(entry), factory, options, hidden=_FROM_FRAME)
    return Mixer(
        factory,
        options,
        label=str(entry),
        origin=entry.origin,
        name=name,
    )


def _name_and_options(spec: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        got = dict(spec) if isinstance(spec, Mapping) else spec
        raise OptionsError(
            f"a token mixer's mapping needs its name, got {got!r}; "
            "write --model.mixer.name NAME beside the options, or {name: NAME, ...} in YAML"
        )
    return spec["name"], {key: value for key, value in spec.items() if key != "name"}


def check_option_names(entry: Entry, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check that a factory takes these options.

    Raises:
        OptionsError: An unknown option; the message lists what the factory takes.
    """
    # A dotted override of the name alone keeps the options of the mixer it replaces.
    drop = " To drop the options of another mixer, write --model.mixer NAME."
    null = " What a configuration has set for another backbone is left out by null, as in --model.drop_path_rate null."
    hint = drop if entry.group == registry.MIXERS else null
    check_names(str(entry), factory, options, hidden=_FROM_FRAME, hint=hint)


def option_parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a factory that are options of the user's."""
    return parameters(factory, hidden=_FROM_FRAME)
