"""The backbones by name: PoolFormer's sizes, timm's models as baselines, and what plugins bring."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from . import registry
from .errors import BrokenPluginError, OptionsError, UnknownNameError
from .metaformer import Activation, MetaFormer, Norm, Patch
from .mixer_spec import MixerSpec, check_option_names
from .registry import describe

# arXiv 2111.11418, table 1, and the starting values of the authors' code. These are the targets of
# our own entry points: each takes the rest of MetaFormer's options.
_SMALL, _MEDIUM = (64, 128, 320, 512), (96, 192, 384, 768)
poolformer_s12 = partial(MetaFormer, depths=(2, 2, 6, 2), dims=_SMALL, layer_scale_init=1e-5, drop_path_rate=0.1)
poolformer_s24 = partial(MetaFormer, depths=(4, 4, 12, 4), dims=_SMALL, layer_scale_init=1e-5, drop_path_rate=0.1)
poolformer_s36 = partial(MetaFormer, depths=(6, 6, 18, 6), dims=_SMALL, layer_scale_init=1e-6, drop_path_rate=0.2)
poolformer_m36 = partial(MetaFormer, depths=(6, 6, 18, 6), dims=_MEDIUM, layer_scale_init=1e-6, drop_path_rate=0.3)
poolformer_m48 = partial(MetaFormer, depths=(8, 8, 24, 8), dims=_MEDIUM, layer_scale_init=1e-6, drop_path_rate=0.4)

# Not the paper's: a backbone for images of 8 to 32 pixels that trains in seconds. Its layer scales
# start at 1: the paper's 1e-5 costs five points of accuracy in a run this short.
poolformer_tiny = partial(
    MetaFormer,
    depths=(1, 1, 2, 1),
    dims=(16, 32, 64, 128),
    layer_scale_init=1.0,
    stem=Patch(kernel_size=3, stride=1, padding=1),
)

# ImageNet-1k validation top-1 in percent, arXiv 2111.11418, table 2.
PAPER_TOP1 = {
    "poolformer_s12": 77.2,
    "poolformer_s24": 80.3,
    "poolformer_s36": 81.4,
    "poolformer_m36": 82.1,
    "poolformer_m48": 82.5,
}


def create_backbone(
    name: str,
    *,
    num_classes: int = 1000,
    mixer: MixerSpec = "pooling",
    norm: Norm = "group",
    act: Activation = "gelu",
    residual: bool = True,
    channel_mlp: bool = True,
    layer_scale_init: float | None = None,
    drop_path_rate: float | None = None,
    image_size: int = 224,
) -> nn.Module:
    """Build a backbone: a module from images (B, 3, H, W) to logits (B, K).

    Args:
        name: A name that ``poolformer models`` lists, or ``timm/<model>`` for any model of timm.
        num_classes: Classes K.
        mixer: Token mixer: a name that ``poolformer mixers`` lists, ``{"name": ..., option: value}``,
            or a list of four of these, one for each stage.
        norm: ``group`` is the paper's modified layer norm.
        act: Activation inside the channel MLP.
        residual: Whether the blocks have their residual connections.
        channel_mlp: Whether the blocks have their channel MLP.
        layer_scale_init: Start of the layer scales; None for the size's own, 0 for none.
        drop_path_rate: Stochastic depth of the last block; None for the size's own.
        image_size: Side of the images in pixels, for mixers that depend on the number of tokens.

    Raises:
        RegistryError: No such backbone or mixer, or its package is broken.
        OptionsError: The backbone does not take an option that differs from its default.

    Example:
        >>> create_backbone("poolformer_s12", num_classes=10, mixer="identity").num_features
        512
    """
    given = {
        "mixer": _without_empty_mapping(mixer),
        "norm": norm,
        "act": act,
        "residual": residual,
        "channel_mlp": channel_mlp,
        "layer_scale_init": layer_scale_init,
        "drop_path_rate": drop_path_rate,
    }
    # Left at their defaults these say nothing: a ResNet has no token mixer to choose.
    defaults = inspect.signature(create_backbone).parameters
    options = {option: value for option, value in given.items() if value != defaults[option].default}
    if name.startswith("timm/"):
        return _timm_model(name.removeprefix("timm/"), num_classes, image_size, options)

    entry = registry.find(registry.BACKBONES, name)
    factory = entry.load()
    check_option_names(entry, factory, options)
    if "image_size" in inspect.signature(factory).parameters:
        options["image_size"] = image_size
    return _build(entry, factory, num_classes=num_classes, **options)


def has_fixed_image_size(name: str) -> bool:
    """Whether a backbone works at the image size alone that it is built for.

    Timm says it of its models. Of others, those count that take ``image_size`` for themselves; one that
    takes ``mixer`` too hands it on, and the mixers say whether they need it.

    Raises:
        RegistryError: No such backbone, or its package is broken.
    """
    if name.startswith("timm/"):
        import timm  # 4 s

        config = timm.get_pretrained_cfg(name.removeprefix("timm/"), allow_unregistered=True)
        return config is not None and config.fixed_input_size
    parameters = inspect.signature(registry.find(registry.BACKBONES, name).load()).parameters
    return "image_size" in parameters and "mixer" not in parameters


def _without_empty_mapping(mixer: MixerSpec) -> MixerSpec:
    """``{name: pooling}``, the form of the configuration files, says no more than ``pooling``."""
    return mixer["name"] if isinstance(mixer, Mapping) and set(mixer) == {"name"} else mixer


def _build(entry: registry.Entry, factory: Callable[..., nn.Module], **options: Any) -> nn.Module:
    if entry.builtin:
        return factory(**options)
    try:
        backbone = factory(**options)
    except Exception as error:
        raise BrokenPluginError(f"{entry} cannot be built with {options}: {describe(error)}") from error
    if not isinstance(backbone, nn.Module):
        raise BrokenPluginError(f"{entry} must return a torch.nn.Module, but returned {type(backbone).__name__}")
    return backbone


def _timm_model(name: str, num_classes: int, image_size: int, options: dict[str, Any]) -> nn.Module:
    import timm  # 4 s

    unknown = sorted(options.keys() - {"drop_path_rate"})
    if unknown:
        raise OptionsError(f"backbone 'timm/{name}' is timm's own network and does not take {', '.join(unknown)}")
    if not timm.is_model(name):
        near = registry.suggestion(name, timm.list_models())
        raise UnknownNameError(f"timm {timm.__version__} has no model {name!r}.{near}")
    if timm.get_pretrained_cfg(name).fixed_input_size:
        options["img_size"] = image_size
    try:
        return timm.create_model(name, num_classes=num_classes, **options)
    except TypeError as error:  # timm's models differ in what they take
        raise OptionsError(f"backbone 'timm/{name}' cannot be built with {options}: {describe(error)}") from error
