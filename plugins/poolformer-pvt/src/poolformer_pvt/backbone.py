"""PVT v1, the Pyramid Vision Transformer (arXiv 2102.12122), in its four sizes.

Parameters are named as in the authors' checkpoints, which therefore load strictly. Shapes: B batch,
C channels, H and W tokens along height and width, N tokens = H*W, K classes.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import SpatialReductionAttention, linear


class Stage(NamedTuple):
    """What a stage has in all sizes (table 1 of the paper)."""

    dim: int
    patch_size: int
    sr_ratio: int
    mlp_ratio: int


STAGES = (
    Stage(64, patch_size=4, sr_ratio=8, mlp_ratio=8),
    Stage(128, patch_size=2, sr_ratio=4, mlp_ratio=8),
    Stage(320, patch_size=2, sr_ratio=2, mlp_ratio=4),
    Stage(512, patch_size=2, sr_ratio=1, mlp_ratio=4),
)
HEAD_DIM = 64
STRIDE = math.prod(stage.patch_size for stage in STAGES)


class PyramidVisionTransformer(nn.Module):
    """Images (B, 3, S, S) to logits (B, K), of the class token that joins the last stage.

    It is built for one side S. Weights of another one still load: their position embeddings are
    resampled, as the authors' code does it.

    Args:
        depths: Blocks in each of the four stages.
        num_classes: Classes K; 0 leaves the linear layer out.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0 in the first.
        image_size: Side S of the images in pixels, at least 32.

    Attributes:
        num_classes: K.
        num_features: Channels of the last stage.
        image_size: S.

    Raises:
        ValueError: An argument is outside its range; or, of forward, the images have another size.

    Example:
        >>> pvt_tiny(num_classes=10, image_size=64)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        depths: Sequence[int],
        *,
        num_classes: int = 1000,
        drop_path_rate: float = 0.0,
        image_size: int = 224,
    ):
        super().__init__()
        if image_size < STRIDE:
            raise ValueError(f"PVT needs images of {STRIDE} pixels or more, got image_size={image_size}")
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f"drop_path_rate is a probability in [0, 1), got {drop_path_rate}")
        self.num_classes = num_classes
        self.num_features = STAGES[-1].dim
        self.image_size = image_size

        steps = max(sum(depths) - 1, 1)
        rates = iter([drop_path_rate * index / steps for index in range(sum(depths))])
        channels, side = 3, image_size
        for number, (stage, depth) in enumerate(zip(STAGES, depths, strict=True), 1):
            side //= stage.patch_size
            blocks = [Block(stage, next(rates)) for _ in range(depth)]
            tokens = side**2 + _class_tokens(number)
            self.add_module(f"patch_embed{number}", PatchEmbedding(channels, stage))
            self.register_parameter(f"pos_embed{number}", _embedding(tokens, stage.dim))
            self.add_module(f"block{number}", nn.ModuleList(blocks))
            channels = stage.dim
        self.cls_token = _embedding(1, self.num_features)
        self.norm = nn.LayerNorm(self.num_features, eps=1e-6)
        self.head = _classifier(self.num_features, num_classes)
        self.register_load_state_dict_pre_hook(_resample_position_embeddings)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) to the last stage's tokens (B, 1 + N, C), the class token first, before the norm."""
        if images.shape[2:] != (self.image_size, self.image_size):
            height, width = images.shape[2:]
            raise ValueError(
                f"this PVT was built for images of {self.image_size} x {self.image_size} pixels and got "
                f"{height} x {width}; build it with the image_size of the images"
            )
        x = images
        for number in range(1, len(STAGES) + 1):
            x = self._with_positions(number, getattr(self, f"patch_embed{number}")(x))
            for block in getattr(self, f"block{number}"):
                x = block(x)
        return x.flatten(2).transpose(1, 2)

    def _with_positions(self, number: int, x: Tensor) -> Tensor:
        """Add the position embedding to a stage's map (B, C, H, W), after the class token has joined it."""
        resolution, tokens = x.shape[2:], x.flatten(2).transpose(1, 2)
        if _class_tokens(number):
            tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
            resolution = (tokens.shape[1], 1)  # one column: attention without reduction sees no layout
        tokens = tokens + getattr(self, f"pos_embed{number}")
        return tokens.transpose(1, 2).unflatten(2, resolution)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Tokens (B, 1 + N, C) to logits (B, K), or to the class token's features (B, C) before them."""
        features = self.norm(features[:, 0])
        return features if pre_logits else self.head(features)

    def get_classifier(self) -> nn.Module:
        """Return the linear layer that makes the logits."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the linear layer by a fresh one for another number of classes; 0 removes it."""
        self.num_classes = num_classes
        self.head = _classifier(self.num_features, num_classes).to(self.cls_token)


class PatchEmbedding(nn.Module):
    """Convolution over patches that do not overlap, then a layer norm of each token."""

    def __init__(self, in_channels: int, stage: Stage):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, stage.dim, stage.patch_size, stride=stage.patch_size)
        self.norm = nn.LayerNorm(stage.dim)  # with PyTorch's 1e-5, unlike the norms of the blocks

    def forward(self, x: Tensor) -> Tensor:
        return _per_token(self.norm, self.proj(x))


class Block(nn.Module):
    """One transformer block on a map (B, C, H, W): attention, then MLP, each normed and on a residual branch."""

    def __init__(self, stage: Stage, drop_path_rate: float):
        super().__init__()
        dim, hidden = stage.dim, stage.mlp_ratio * stage.dim
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = SpatialReductionAttention(dim, head_dim=HEAD_DIM, sr_ratio=stage.sr_ratio)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(OrderedDict(fc1=linear(dim, hidden), act=nn.GELU(), fc2=linear(hidden, dim)))
        self.drop_path_rate = drop_path_rate

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._drop_path(self.attn(_per_token(self.norm1, x)))
        return x + self._drop_path(_per_token(self.mlp, _per_token(self.norm2, x)))

    def _drop_path(self, branch: Tensor) -> Tensor:
        """Stochastic depth (arXiv 1603.09382): zero the branch for whole samples, in training."""
        if not self.training or self.drop_path_rate == 0:
            return branch
        return branch * F.dropout(branch.new_ones(branch.shape[0], 1, 1, 1), self.drop_path_rate)


def _per_token(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer of the last axis to the channels of a map (B, C, H, W)."""
    return layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _class_tokens(number: int) -> int:
    return int(number == len(STAGES))


def _embedding(tokens: int, dim: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, tokens, dim), std=0.02))


def _classifier(dim: int, num_classes: int) -> nn.Module:
    return linear(dim, num_classes) if num_classes > 0 else nn.Identity()


def _resample_position_embeddings(
    model: PyramidVisionTransformer, state_dict: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Bring position embeddings of another image size to the model's own, before they are loaded."""
    for number in range(1, len(STAGES) + 1):
        name, own = f"pos_embed{number}", getattr(model, f"pos_embed{number}")
        given, first = state_dict.get(prefix + name), _class_tokens(number)
        if given is None or given.shape == own.shape or given.ndim != 3:
            continue
        side, own_side = (math.isqrt(tensor.shape[1] - first) for tensor in (given, own))
        if side**2 + first != given.shape[1]:
            continue  # not of a square image: loading says what does not fit
        grid = given[:, first:].transpose(1, 2).unflatten(2, (side, side))
        grid = F.interpolate(grid, size=(own_side, own_side), mode="bilinear")
        state_dict[prefix + name] = torch.cat([given[:, :first], grid.flatten(2).transpose(1, 2)], dim=1)


# Depths: table 1 of the paper. Drop path rates: the authors' classification/configs/pvt.
pvt_tiny = partial(PyramidVisionTransformer, depths=(2, 2, 2, 2), drop_path_rate=0.1)
pvt_small = partial(PyramidVisionTransformer, depths=(3, 4, 6, 3), drop_path_rate=0.1)
pvt_medium = partial(PyramidVisionTransformer, depths=(3, 4, 18, 3), drop_path_rate=0.3)
pvt_large = partial(PyramidVisionTransformer, depths=(3, 8, 27, 3), drop_path_rate=0.3)
