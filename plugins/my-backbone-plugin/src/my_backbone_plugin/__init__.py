"""A backbone for poolformer, which finds it by the entry point in ``pyproject.toml``."""

from torch import Tensor, nn


class MyBackbone(nn.Module):
    """Patches, residual depthwise and pointwise convolutions on one map, and a linear layer on its mean.

    Args:
        num_classes: Classes K.
        drop_path_rate: Share of the samples that skip a block in training.
        width: Channels.
        depth: Blocks.
        patch_size: Side of a patch in pixels.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        drop_path_rate: float = 0.0,
        width: int = 64,
        depth: int = 4,
        patch_size: int = 2,
    ):
        super().__init__()
        self.drop_path_rate = drop_path_rate
        self.patches = nn.Conv2d(3, width, patch_size, stride=patch_size)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(nn.GroupNorm(1, width), nn.Conv2d(width, width, 5, padding=2, groups=width)),
                *(nn.Conv2d(width, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1)),
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) to (B, K)
        x = self.patches(images)
        for block in self.blocks:
            x = x + self._sometimes(block(x))
        return self.head(self.norm(x.mean((2, 3))))

    def _sometimes(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_path_rate == 0:
            return x
        share = 1 - self.drop_path_rate
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(share).div_(share)
