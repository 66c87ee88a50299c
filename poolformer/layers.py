"""The parts of a MetaFormer that are not its token mixer.

Shapes: B batch, C channels, H and W tokens along height and width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class LayerNormChannel(nn.Module):
    """Layer norm over the channels of each token, of (B, C, H, W).

    The "layer norm" of the paper's ablation and of its hybrids with attention; biased variance.
    """

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        normed = centred / torch.sqrt(centred.square().mean(1, keepdim=True) + self.eps)
        return self.weight[:, None, None] * normed + self.bias[:, None, None]


def modified_layer_norm(dim: int) -> nn.GroupNorm:
    """Norm over channels and tokens of each sample: the paper's MLN, group norm with one group."""
    return nn.GroupNorm(1, dim)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "group": modified_layer_norm,
    "layer": LayerNormChannel,
    "batch": nn.BatchNorm2d,
    "none": lambda dim: nn.Identity(),
}

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}


class Scale(nn.Module):
    """Learned factor for each channel of (B, C, H, W): layer scale (arXiv 2103.17239)."""

    def __init__(self, dim: int, init: float):
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), float(init)))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale[:, None, None] * x


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): zero a residual branch for whole samples, in training.

    Args:
        rate: Probability of dropping, in [0, 1); what is kept is scaled by 1 / (1 - rate).
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1 - self.rate)
        return x * (keep / (1 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


class ChannelMLP(nn.Module):
    """Two 1x1 convolutions with an activation between them, on (B, C, H, W) (paper, eq. 3).

    Args:
        dim: Channels C in and out.
        ratio: Hidden channels are ``ratio * dim``.
        act: Activation factory.
    """

    def __init__(self, dim: int, ratio: float, act: Callable[[], nn.Module]):
        super().__init__()
        hidden = int(ratio * dim)
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.act = act()
        self.fc2 = nn.Conv2d(hidden, dim, 1)
        init_linear(self.fc1)
        init_linear(self.fc2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class PatchEmbedding(nn.Module):
    """Strided convolution: the stem, and the downsampling between stages.

    Keeps PyTorch's initialisation, as the authors' code does (timm draws it from a truncated normal).
    """

    def __init__(self, in_channels: int, dim: int, *, kernel_size: int, stride: int, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, dim, kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def init_linear(layer: nn.Conv2d | nn.Linear) -> None:
    """Draw a linear layer as the authors' code does: std 0.02, cut at +-2 absolute, bias 0."""
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
