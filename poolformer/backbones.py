"""The backbones by name: the sizes of both papers, timm's models as baselines, and what plugins bring."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypedDict

from torch import nn

from . import registry
from .checkpoint.pretrained import load_pretrained
from .errors import BrokenPluginError, OptionsError, UnknownNameError, describe, is_end, suggestion
from .factory_options import parameters
from .network.frame_options import FRAME, asked_for, built_options, takes_mixer
from .network.layers import Activation
from .network.metaformer import MetaFormer, Norm, Patch
from .network.mixer_spec import MixerSpec


class _Size(TypedDict):
    depths: tuple[int, int, int, int]
    dims: tuple[int, int, int, int]
    drop_path_rate: float


class _FollowUp(TypedDict):
    follow_up: bool
    act: Activation
    layer_scale_init: None


class _Convolutional(_FollowUp):
    norm: Norm
    mixer: MixerSpec
    head_mlp: bool


# arXiv 2111.11418, table 1, and the starting values of the authors' code. These are the targets of
# our own entry points: each takes the rest of MetaFormer's options.
_SMALL, _MEDIUM = (64, 128, 320, 512), (96, 192, 384, 768)
_S12: _Size = {"depths": (2, 2, 6, 2), "dims": _SMALL, "drop_path_rate": 0.1}
_S24: _Size = {"depths": (4, 4, 12, 4), "dims": _SMALL, "drop_path_rate": 0.1}
_S36: _Size = {"depths": (6, 6, 18, 6), "dims": _SMALL, "drop_path_rate": 0.2}
_M36: _Size = {"depths": (6, 6, 18, 6), "dims": _MEDIUM, "drop_path_rate": 0.3}
_M48: _Size = {"depths": (8, 8, 24, 8), "dims": _MEDIUM, "drop_path_rate": 0.4}

poolformer_s12 = partial(MetaFormer, **_S12, layer_scale_init=1e-5)
poolformer_s24 = partial(MetaFormer, **_S24, layer_scale_init=1e-5)
poolformer_s36 = partial(MetaFormer, **_S36, layer_scale_init=1e-6)
poolformer_m36 = partial(MetaFormer, **_M36, layer_scale_init=1e-6)
poolformer_m48 = partial(MetaFormer, **_M48, layer_scale_init=1e-6)


def _named_mixer(mixer: MixerSpec, size: _Size, /) -> Callable[..., MetaFormer]:
    """A network of the follow-up paper that its mixer gives the name, so that this is no option."""

    def build(
        *,
        num_classes: int = 1000,
        drop_path_rate: float = size["drop_path_rate"],
        image_size: int = 224,
        in_chans: int = 3,
    ) -> MetaFormer:
        sized: _Size = {**size, "drop_path_rate": drop_path_rate}
        return MetaFormer(
            **_FOLLOW_UP, **sized, mixer=mixer, num_classes=num_classes, image_size=image_size, in_chans=in_chans
        )

    defaults = inspect.signature(MetaFormer).parameters
    frame = {name: defaults[name].default for name in FRAME if name != "drop_path_rate"}
    # A function takes attributes, of which its type knows none.
    build.fixed = {  # type: ignore[attr-defined]
        **frame,
        "act": _FOLLOW_UP["act"],
        "layer_scale_init": None,
        "mixer": mixer,
    }
    return build


# arXiv 2210.13452, table 2, and the authors' scripts.
_FOLLOW_UP: _FollowUp = {"follow_up": True, "act": "star_relu", "layer_scale_init": None}
poolformerv2_s12 = partial(MetaFormer, **_S12, **_FOLLOW_UP)
poolformerv2_s24 = partial(MetaFormer, **_S24, **_FOLLOW_UP)
poolformerv2_s36 = partial(MetaFormer, **_S36, **_FOLLOW_UP)
poolformerv2_m36 = partial(MetaFormer, **_M36, **_FOLLOW_UP)
poolformerv2_m48 = partial(MetaFormer, **_M48, **_FOLLOW_UP)

identityformer_s12 = _named_mixer("identity", _S12)
identityformer_s24 = _named_mixer("identity", _S24)
identityformer_s36 = _named_mixer("identity", _S36)
identityformer_m36 = _named_mixer("identity", _M36)
identityformer_m48 = _named_mixer("identity", _M48)

_RANDOM = ("identity", "identity", "random_matrix", "random_matrix")
randformer_s12 = _named_mixer(_RANDOM, _S12)
randformer_s24 = _named_mixer(_RANDOM, _S24)
randformer_s36 = _named_mixer(_RANDOM, _S36)
randformer_m36 = _named_mixer(_RANDOM, _M36)
randformer_m48 = _named_mixer(_RANDOM, _M48 | {"drop_path_rate": 0.3})

# ConvFormer and CAFormer: attention has the last two stages there, separable convolutions have the others.
_C18: _Size = {"depths": (3, 3, 9, 3), "dims": _SMALL, "drop_path_rate": 0.2}
_C36: _Size = {"depths": (3, 12, 18, 3), "dims": _SMALL, "drop_path_rate": 0.3}
_CM36: _Size = {"depths": (3, 12, 18, 3), "dims": (96, 192, 384, 576), "drop_path_rate": 0.4}
_CB36: _Size = {"depths": (3, 12, 18, 3), "dims": (128, 256, 512, 768), "drop_path_rate": 0.6}
_CONV: _Convolutional = {**_FOLLOW_UP, "norm": "layer", "mixer": "separable_conv", "head_mlp": True}
_ATTENTION = {"name": "attention", "proj_bias": False}
_CONV_ATTENTION: _Convolutional = {**_CONV, "mixer": ["separable_conv", "separable_conv", _ATTENTION, _ATTENTION]}

convformer_s18 = partial(MetaFormer, **_C18, **_CONV)
convformer_s36 = partial(MetaFormer, **_C36, **_CONV)
convformer_m36 = partial(MetaFormer, **_CM36, **_CONV)
convformer_b36 = partial(MetaFormer, **_CB36, **_CONV)

caformer_s18 = partial(MetaFormer, **_C18 | {"drop_path_rate": 0.15}, **_CONV_ATTENTION)
caformer_s36 = partial(MetaFormer, **_C36, **_CONV_ATTENTION, head_dropout=0.4)
caformer_m36 = partial(MetaFormer, **_CM36, **_CONV_ATTENTION, head_dropout=0.4)
caformer_b36 = partial(MetaFormer, **_CB36, **_CONV_ATTENTION, head_dropout=0.5)

# Not the paper's: a backbone for images of 8 to 32 pixels that trains in seconds. Its layer scales
# start at 1: the paper's 1e-5 costs five points of accuracy in a run this short.
poolformer_tiny = partial(
    MetaFormer,
    depths=(1, 1, 2, 1),
    dims=(16, 32, 64, 128),
    layer_scale_init=1.0,
    stem=Patch(kernel_size=3, stride=1, padding=1),
)

# Not the paper's either: S12 at half the width for images of 32 pixels, on which the paper's stem would
# leave one token to the last stage (sail-sg/poolformer#24 reports no luck with that); here it has 2 x 2.
poolformer_xs12 = partial(
    MetaFormer,
    depths=(2, 2, 6, 2),
    dims=(32, 64, 160, 256),
    layer_scale_init=1e-5,  # as S12; with 1, 240 steps of pooling reached a training loss of 1.79, with this 1.61
    drop_path_rate=0.1,
    stem=Patch(kernel_size=4, stride=2, padding=1),
)


def resmlp_b24(
    *, num_classes: int = 1000, drop_path_rate: float = 0.0, image_size: int = 224, in_chans: int = 3
) -> nn.Module:
    """ResMLP-B24 with patches of 16 pixels (arXiv 2105.03404), which the paper compares with.

    timm's ``resmlp_big_24_224`` is another network, with patches of 8 pixels and four times the MACs.
    """
    from timm.models.mlp_mixer import Affine, MlpMixer, ResBlock  # 4 s

    return MlpMixer(
        num_classes=num_classes,
        img_size=image_size,
        in_chans=in_chans,
        patch_size=16,
        num_blocks=24,
        embed_dim=768,
        mlp_ratio=4,
        block_layer=partial(ResBlock, init_values=1e-6),  # type: ignore[arg-type]  # timm only calls it
        norm_layer=Affine,
        drop_path_rate=drop_path_rate,
    )


def create_backbone(
    name: str,
    *,
    num_classes: int = 1000,
    mixer: MixerSpec | None = None,
    norm: Norm | None = None,
    act: Activation | None = None,
    residual: bool | None = None,
    channel_mlp: bool | None = None,
    layer_scale_init: float | None = None,
    drop_path_rate: float | None = None,
    position_embedding: int | None = None,
    image_size: int = 224,
    in_chans: int = 3,
    pretrained: str | None = None,
    pretrained_skip: str | Sequence[str] | None = None,
) -> nn.Module:
    """Build a backbone: a module from images (B, I, H, W) to logits (B, K).

    Args:
        name: A name that ``poolformer models`` lists, or ``timm/<model>`` for any model of timm.
        num_classes: Classes K.
        mixer: Token mixer: a name that ``poolformer mixers`` lists, ``{"name": ..., option: value}``,
            or a list of four of these, one for each stage.
        norm: ``group`` is the paper's modified layer norm.
        act: Activation inside the channel MLP.
        residual: Whether the blocks have their residual connections.
        channel_mlp: Whether the blocks have their channel MLP.
        layer_scale_init: Start of the layer scales; 0 for none.
        drop_path_rate: Stochastic depth of the last block.
        position_embedding: Stage, 1 to 4, that starts by adding a learned position embedding; None for
            no embedding.
        image_size: Side of the images in pixels, for what depends on the number of tokens.
        in_chans: Channels I of the images. Weights for another number are brought to it by timm's rule.
        pretrained: Weights to start from: a file, ``timm/<model>`` for weights that timm downloads, or
            ``hf-hub:user/repo``; see `poolformer.checkpoint.pretrained`. Warns where they need a look, such as a head
            for other classes.
        pretrained_skip: Tensors of them that are left out and start fresh: ``mixers``, or patterns of names.

    None is the backbone's own for every option from ``mixer`` to ``position_embedding``; everything else is passed on,
    or refused where the backbone does not have the option or has it fixed to another value.

    Raises:
        RegistryError: No such backbone or mixer, or its package is broken.
        OptionsError: The backbone does not take an option.
        CheckpointError: The weights are not available, or do not fit.

    Example:
        >>> create_backbone("poolformer_s12", num_classes=10, mixer="identity").num_features
        512
    """
    given = {
        "mixer": mixer,
        "norm": norm,
        "act": act,
        "residual": residual,
        "channel_mlp": channel_mlp,
        "layer_scale_init": layer_scale_init,
        "drop_path_rate": drop_path_rate,
        "position_embedding": position_embedding,
    }
    build = _timm_model if name.startswith("timm/") else _registered
    options = asked_for(name, given) | ({} if in_chans == 3 else {"in_chans": in_chans})
    backbone = build(name, num_classes, image_size, options)
    if in_chans != 3:
        # Whoever makes an example of its images looks there. Of a module's attributes its type knows too little.
        backbone.in_chans = in_chans  # type: ignore[assignment]
    if pretrained_skip is not None and pretrained is None:
        raise OptionsError(
            f"--model.pretrained_skip {pretrained_skip} says what to leave out of --model.pretrained FILE"
        )
    if pretrained is not None:
        chosen = built_options(name, given)["mixer"] if takes_mixer(name) else None
        notes = load_pretrained(
            backbone, pretrained, name=name, mixer=chosen, image_size=image_size, skip=pretrained_skip
        )
        for note in notes:
            warnings.warn(note, stacklevel=2)
    return backbone


def _registered(name: str, num_classes: int, image_size: int, options: dict[str, Any]) -> nn.Module:
    entry = registry.find(registry.BACKBONES, name)
    factory = entry.load()
    taken = parameters(factory)
    if "in_chans" in options and "in_chans" not in taken:
        raise OptionsError(f"{entry} has no option in_chans: its images are not of {options['in_chans']} channels")
    if "image_size" in taken:
        options["image_size"] = image_size
    return _build(entry, factory, num_classes=num_classes, **options)


def _build(entry: registry.Entry, factory: Callable[..., nn.Module], **options: Any) -> nn.Module:
    if entry.builtin:
        return factory(**options)
    try:
        backbone = factory(**options)
    except OptionsError as error:
        raise OptionsError(f"{entry}: {error}") from error
    except (Exception, SystemExit) as error:  # it may do anything, even exit
        if is_end(error):
            raise
        raise BrokenPluginError(f"{entry} cannot be built with {options}: {describe(error)}") from error
    if not isinstance(backbone, nn.Module):
        raise BrokenPluginError(f"{entry} must return a torch.nn.Module, but returned {type(backbone).__name__}")
    return backbone


def _timm_model(name: str, num_classes: int, image_size: int, options: dict[str, Any]) -> nn.Module:
    import timm  # 4 s

    name = name.removeprefix("timm/")
    if not timm.is_model(name):
        near = suggestion(name, timm.list_models())
        raise UnknownNameError(f"timm {timm.__version__} has no model {name!r}.{near}")
    try:
        if getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False):
            options["img_size"] = image_size
        return timm.create_model(name, num_classes=num_classes, **options)
    except (TypeError, RuntimeError) as error:  # timm's models differ in what they take; a tag it does not know
        raise OptionsError(f"backbone 'timm/{name}' cannot be built with {options}: {describe(error)}") from error
