"""MetaFormer, the frame of the paper: stem, four stages of blocks, head (arXiv 2111.11418, fig. 1a).

    block:  x = x + mixer(norm(x));  x = x + mlp(norm(x))

The token mixer is an argument. Shapes: B batch, C channels, H and W height and width (pixels for
images, tokens after the stem), K classes. Parameter names are timm's, so its weights fit; the head
is the authors': norm on the map, then the mean, then the linear layer.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import OptionsError
from .block import Block, BlockOptions
from .execution import execution_of
from .head import Head
from .layers import ACTIVATIONS, Activation, PatchEmbedding, check_resolution, choose, make_norm
from .mixer_spec import NUM_STAGES, Mixer, MixerSpec, resolve

Norm = Literal["group", "layer", "batch", "none"]


class Patch(NamedTuple):
    """Geometry of a patch embedding, in pixels or tokens."""

    kernel_size: int
    stride: int
    padding: int

    def output_side(self, side: int) -> int:
        """Tokens along one side after this embedding."""
        return (side + 2 * self.padding - self.kernel_size) // self.stride + 1


STEM = Patch(kernel_size=7, stride=4, padding=2)
DOWNSAMPLE = Patch(kernel_size=3, stride=2, padding=1)
_EPS, _FOLLOW_UP_EPS = 1e-5, 1e-6


class Stage(nn.Module):
    """Downsampling, then blocks at one resolution.

    Args:
        downsample: From the map of the stage before to this one's.
        blocks: The blocks.
        position_embedding: Shape (C, H, W) of what is learned and added before the blocks; None for nothing.
    """

    def __init__(
        self, downsample: nn.Module, blocks: Sequence[Block], position_embedding: tuple[int, int, int] | None = None
    ):
        super().__init__()
        self.downsample = downsample
        self.pos_embed = nn.Parameter(torch.zeros(1, *position_embedding)) if position_embedding else None
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        if self.pos_embed is not None:
            check_resolution("the position embedding", x, self.pos_embed.shape[2:])
            x = x + self.pos_embed
        x = self.blocks(x)
        return x


class MetaFormer(nn.Module):
    """Images (B, I, H, W) to logits (B, K), with any token mixer.

    Args:
        depths: Blocks in each of the four stages.
        dims: Channels C of each stage.
        num_classes: Classes K; 0 leaves the linear layer out.
        mixer: Token mixer: a name, ``{"name": ..., option: value}``, a factory, or four of these.
        norm: ``group`` is the paper's modified layer norm.
        act: Activation inside the channel MLP.
        mlp_ratio: Hidden channels of the channel MLP, as a multiple of C.
        residual: Whether the blocks have their residual connections.
        channel_mlp: Whether the blocks have their channel MLP.
        layer_scale_init: Start of the layer scales; 0 or None for a network without.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0 in the first.
        image_size: Side of the images in pixels, for what depends on the number of tokens.
        position_embedding: Stage, 1 to 4, that starts by adding a learned position embedding (the
            paper's hybrids with attention); None for no embedding.
        stem: Geometry of the first patch embedding.
        follow_up: Build the frame of the follow-up paper (arXiv 2210.13452): layer norms beside the patch
            embeddings, no biases in norms and channel MLPs, eps 1e-6, learned scales on the residuals of
            the last two stages, and the head's mean before its norm.
        head_mlp: Make the logits by two layers, as ConvFormer and CAFormer do.
        head_dropout: Probability of a value between these two to be zero in training.
        in_chans: Channels I of the images.

    Attributes:
        num_classes: K.
        in_chans: I.
        num_features: Channels of the last stage.
        feature_info: For each stage its ``num_chs``, ``reduction`` and ``module``, as in timm.

    Raises:
        RegistryError: The mixer is not available, or does not keep its contract.
        OptionsError: An option is outside its range.

    Example:
        >>> MetaFormer([1, 1, 2, 1], [8, 16, 24, 32], num_classes=10)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        depths: Sequence[int],
        dims: Sequence[int],
        *,
        num_classes: int = 1000,
        mixer: MixerSpec = "pooling",
        norm: Norm = "group",
        act: Activation = "gelu",
        mlp_ratio: float = 4.0,
        residual: bool = True,
        channel_mlp: bool = True,
        layer_scale_init: float | None = 1e-5,
        drop_path_rate: float = 0.0,
        image_size: int = 224,
        position_embedding: int | None = None,
        stem: Patch = STEM,
        follow_up: bool = False,
        head_mlp: bool = False,
        head_dropout: float = 0.0,
        in_chans: int = 3,
    ):
        super().__init__()
        if len(depths) != NUM_STAGES or len(dims) != NUM_STAGES:
            raise OptionsError(f"a MetaFormer has {NUM_STAGES} stages; got depths {depths} and dims {dims}")
        for option, rate in {"drop_path_rate": drop_path_rate, "head_dropout": head_dropout}.items():
            if not 0 <= rate < 1:
                raise OptionsError(f"{option} is a probability in [0, 1), got {rate}")
        if num_classes < 0 or (layer_scale_init or 0) < 0:
            raise OptionsError(
                f"neither num_classes={num_classes} nor layer_scale_init={layer_scale_init} may be below 0"
            )
        if in_chans < 1:
            raise OptionsError(f"in_chans is the number of channels, from 1 up; got {in_chans}")
        if isinstance(position_embedding, bool) or position_embedding not in (None, *range(1, NUM_STAGES + 1)):
            raise OptionsError(
                f"position_embedding is the stage, 1 to {NUM_STAGES}, that gets it; got {position_embedding}"
            )
        eps = _FOLLOW_UP_EPS if follow_up else _EPS
        options = BlockOptions(
            norm=partial(make_norm, kind=norm, eps=eps, bias=not follow_up),
            act=choose("act", act, ACTIVATIONS),
            mlp_ratio=mlp_ratio,
            mlp_bias=not follow_up,
            layer_scale_init=layer_scale_init,
            residual_scale_init=None,
            residual=residual,
            channel_mlp=channel_mlp,
        )
        self.num_classes, self.in_chans = num_classes, in_chans
        self.num_features = dims[-1]
        self.feature_info = _feature_info(dims, stem)

        rates = _drop_path_rates(depths, drop_path_rate)
        self.stem = PatchEmbedding(in_chans, dims[0], **stem._asdict(), norm="after" if follow_up else None, eps=eps)
        stages, side = [], stem.output_side(image_size)
        for index, (mixer_here, dim) in enumerate(zip(resolve(mixer), dims, strict=True)):
            downsample: nn.Module = nn.Identity()
            if index > 0:
                norm_here: Literal["before"] | None = "before" if follow_up else None
                downsample = PatchEmbedding(dims[index - 1], dim, **DOWNSAMPLE._asdict(), norm=norm_here, eps=eps)
                side = DOWNSAMPLE.output_side(side)
            if follow_up and index >= NUM_STAGES - 2:
                options = options._replace(residual_scale_init=1.0)
            blocks = _blocks(dim, side, mixer_here, options, rates[index])
            stages.append(Stage(downsample, blocks, (dim, side, side) if position_embedding == index + 1 else None))
        self.stages = nn.Sequential(*stages)
        head_norm = partial(nn.LayerNorm, eps=eps) if follow_up else options.norm
        self.head = Head(dims[-1], num_classes, head_norm, mean_first=follow_up, mlp=head_mlp, dropout=head_dropout)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, I, H, W) to the last stage's map (B, C, h, w), before the head's norm."""
        features: Tensor = self.stages(self.stem(images))
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """A map (B, C, h, w) to logits (B, K), or to the pooled features (B, C) before them."""
        logits: Tensor = self.head(features, pre_logits)
        return logits

    def forward_intermediates(
        self,
        images: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: Literal["NCHW"] = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Feature pyramid: the maps after chosen stages, each (B, C_i, h_i, w_i), as timm's models give.

        Args:
            images: (B, I, H, W).
            indices: Stages to return, negative ones from the end; a number n means the last n;
                None means all.
            norm: Put the last stage's map through the head's norm.
            stop_early: Skip the stages after the last one asked for.
            output_fmt: Layout of the maps; there is one.
            intermediates_only: Return the maps alone, not ``(features, maps)``.
        """
        wanted = _stage_indices(indices)
        if output_fmt != "NCHW":
            raise OptionsError(f"a MetaFormer's maps are NCHW, got output_fmt={output_fmt!r}")
        x, maps = self.stem(images), []
        for index, stage in enumerate(self.stages[: max(wanted) + 1] if stop_early else self.stages):
            x = stage(x)
            if index in wanted:
                maps.append(self.head.norm_map(x) if norm and index == NUM_STAGES - 1 else x)
        return maps if intermediates_only else (x, maps)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep the blocks' inputs alone for the backward pass, as in timm; batch norms then count each batch twice.

        Blocks of the last stage are left out: they hold a twentieth of the memory, and would be an eighth of what is
        computed again. Hooks on a block's second layer scale and on fc2 are not called in training.
        """
        for module in self.stages[:-1].modules():
            if isinstance(module, Block):
                module.execution = execution_of(module)._replace(recompute=enable)

    def get_classifier(self) -> nn.Module:
        """Return the linear layer that makes the logits."""
        return self.head.last_layer()

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the linear layer by a fresh one for another number of classes; 0 removes it."""
        like = next(self.parameters())
        self.num_classes = num_classes
        self.head.reset(num_classes)
        self.head.to(like)


def _blocks(dim: int, side: int, mixer: Mixer, options: BlockOptions, rates: Sequence[float]) -> list[Block]:
    return [Block(dim, mixer.build(dim, resolution=(side, side)), options, rate) for rate in rates]


def _drop_path_rates(depths: Sequence[int], last: float) -> list[list[float]]:
    """Rates of the blocks, stage by stage: linear in the index of the block in the whole network."""
    steps = max(sum(depths) - 1, 1)
    rates = iter([last * index / steps for index in range(sum(depths))])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _feature_info(dims: Sequence[int], stem: Patch) -> list[dict[str, int | str]]:
    return [
        {"num_chs": dim, "reduction": stem.stride * DOWNSAMPLE.stride**index, "module": f"stages.{index}"}
        for index, dim in enumerate(dims)
    ]


def _stage_indices(indices: int | Sequence[int] | None) -> list[int]:
    if indices is None:
        return list(range(NUM_STAGES))
    chosen = range(-indices, 0) if isinstance(indices, int) else indices
    wrong = [index for index in chosen if not -NUM_STAGES <= index < NUM_STAGES]
    if wrong or not chosen:
        raise OptionsError(f"a MetaFormer has stages 0 to {NUM_STAGES - 1}; got indices {indices!r}")
    return [index % NUM_STAGES for index in chosen]
