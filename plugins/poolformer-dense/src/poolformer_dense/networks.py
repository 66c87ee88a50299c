"""The paper's two dense networks on a `Pyramid`: Semantic FPN to segment, RetinaNet to detect."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from .pyramid import Pyramid

CHANNELS = 256
"""Of the feature pyramid network and RetinaNet's head, in both of the paper's tables."""


class SemanticFPN(nn.Module):
    """Images (B, 3, H, W) to logits (B, K, H, W) (Panoptic Feature Pyramid Networks, arXiv 1901.02446, fig. 3).

    Each level of the pyramid is brought to a quarter of the image by convolutions and doublings; their sum is
    classified. Widths as in mmsegmentation's FPNHead, with which the paper's table was made.

    Args:
        pyramid: Of all four stages.
        num_classes: Classes K.
        channels: Of the feature pyramid network; the head has half as many.
        dropout: Share of the head's channels that training drops.
    """

    def __init__(self, pyramid: Pyramid, num_classes: int, channels: int = CHANNELS, dropout: float = 0.1):
        super().__init__()
        self.pyramid = pyramid
        self.fpn = FeaturePyramidNetwork(pyramid.channels, channels)
        self.levels = nn.ModuleList(_to_a_quarter(level, channels) for level in range(len(pyramid.channels)))
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(channels // 2, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.fpn(OrderedDict(self.pyramid(images))).values()
        size = next(iter(maps)).shape[2:]
        summed = sum(_resized(level(x), size) for level, x in zip(self.levels, maps, strict=True))
        return _resized(_exact(self.classify(self.dropout(summed))), images.shape[2:])


def _to_a_quarter(level: int, channels: int) -> nn.Sequential:
    """Convolutions of a level, and a doubling after each where its map is smaller than a quarter of the image."""
    layers: list[nn.Module] = []
    for number in range(max(level, 1)):
        layers.append(Conv2dNormActivation(channels // 2 if number else channels, channels // 2, 3))
        if level:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
    return nn.Sequential(*layers)


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return x if x.shape[2:] == tuple(size) else F.interpolate(x, tuple(size), mode="bilinear")


class _DetectionPyramid(nn.Module):
    """What torchvision's RetinaNet takes as its backbone: five maps of as many channels."""

    def __init__(self, pyramid: Pyramid, channels: int):
        super().__init__()
        self.pyramid, self.out_channels = pyramid, channels
        more = LastLevelP6P7(pyramid.channels[-1], channels)  # from the last stage, as the authors' configuration does
        self.fpn = FeaturePyramidNetwork(pyramid.channels, channels, extra_blocks=more)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.fpn(OrderedDict(self.pyramid(images)))


class _ExactAnchors(AnchorGenerator):
    """Anchors of float32 at least: torchvision gives them the maps' type, which is bfloat16 under mixed precision."""

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.promote_types(dtype, torch.float32), device)


def _exact(x: Tensor) -> Tensor:
    """Return float32 at least: bfloat16 has steps of 4 pixels from 512 on, and scores and logits tie."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _exact_outputs(module: nn.Module, args: Any, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: _exact(x) for name, x in outputs.items()}


def retinanet(
    backbone: str,
    *,
    num_classes: int = 80,
    channels: int = CHANNELS,
    anchor_size: int = 32,
    options: dict[str, Any] | None = None,
    **settings: Any,
) -> RetinaNet:
    """Build torchvision's RetinaNet (arXiv 1708.02002) on a backbone; it takes and returns what torchvision's does.

    Losses, boxes and scores are computed in float32 under mixed precision, too.

    Args:
        backbone: Name of a backbone.
        num_classes: Classes, without one for the background; 80 in COCO.
        channels: Of the feature pyramid network and of the heads.
        anchor_size: Side in pixels of the smallest anchors, on the level of an eighth of the image.
        options: Of the backbone, such as ``mixer`` or ``pretrained``.
        settings: Of torchvision's class, such as ``min_size``.

    Raises:
        OptionsError: The backbone has no maps of four stages.
    """
    sides = [anchor_size * 2**level for level in range(5)]
    scales = tuple(tuple(side * 2 ** (third / 3) for third in range(3)) for side in sides)
    anchors = _ExactAnchors(scales, ((0.5, 1.0, 2.0),) * len(scales))
    pyramid = _DetectionPyramid(Pyramid(backbone, stages=(1, 2, 3), **(options or {})), channels)
    network = RetinaNet(pyramid, num_classes, anchor_generator=anchors, **settings)
    network.head.register_forward_hook(_exact_outputs)
    return network
