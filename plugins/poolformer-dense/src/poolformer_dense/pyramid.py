"""Feature pyramids of a backbone: its stages' maps, each through a norm of its own, as the authors' code takes them."""

from typing import Any

from torch import Tensor, nn

from poolformer.backbones import create_backbone
from poolformer.errors import OptionsError


class Pyramid(nn.Module):
    """Images (B, 3, H, W) to maps (B, C_i, H / r_i, W / r_i), by the names "0" to "3" of the last four stages.

    The norms are not in the weights of a classifier, so they start fresh (sail-sg/poolformer#56); stages that are not
    asked for have none, as distributed training stops at a parameter without a gradient (sail-sg/poolformer#16).

    Args:
        backbone: Name of a backbone, as of `poolformer.create_backbone`, that has four stages.
        stages: Which of them, from 0 to 3.
        options: Of the backbone, such as ``mixer`` or ``pretrained``.

    Attributes:
        channels: C_i of each stage that is given out.

    Raises:
        OptionsError: The backbone has no maps of four stages.
    """

    def __init__(self, backbone: str, *, stages: tuple[int, ...] = (0, 1, 2, 3), **options: Any):
        super().__init__()
        self.backbone = create_backbone(backbone, num_classes=0, **options)
        places = _places(self.backbone)
        if not callable(getattr(self.backbone, "forward_intermediates", None)) or len(places) < 4:
            raise OptionsError(
                f"backbone {backbone!r} gives no maps of four stages, each half as wide as the one before"
            )
        self.stages, self._indices = stages, [places[stage][0] for stage in stages]
        self.channels = [places[stage][1] for stage in stages]
        if hasattr(self.backbone, "head"):  # with the norm of the classifier, which nothing would use
            self.backbone.head = nn.Identity()
        self.norms = nn.ModuleList(nn.GroupNorm(1, channels) for channels in self.channels)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.backbone.forward_intermediates(images, self._indices, intermediates_only=True)
        return {str(stage): norm(x) for stage, norm, x in zip(self.stages, self.norms, maps, strict=True)}


def _places(backbone: nn.Module) -> list[tuple[int, int]]:
    """Index and channels of the last four stages; of several maps of a size, the last."""
    info = list(getattr(backbone, "feature_info", []))
    found = {each["reduction"]: (index, each["num_chs"]) for index, each in enumerate(info)}
    last = max(found, default=0)
    return [found[last >> halvings] for halvings in (3, 2, 1, 0) if last >> halvings in found]
