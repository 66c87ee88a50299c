"""The parts of a MetaFormer that are not its token mixer.

Shapes: B batch, C channels, H and W tokens along height and width.
"""

from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import OptionsError, ResolutionError

T = TypeVar("T")
Activation = Literal["gelu", "relu", "silu", "star_relu"]


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
        # One operator, and no copy where channels lie last in memory, as in training.
        normed = F.layer_norm(x.movedim(1, -1), x.shape[1:2], self.weight, self.bias, self.eps)
        return normed.movedim(-1, 1)


def modified_layer_norm(dim: int, eps: float) -> nn.GroupNorm:
    """Norm over channels and tokens of each sample: the paper's MLN, group norm with one group."""
    return nn.GroupNorm(1, dim, eps)


_NORMS: dict[str, Callable[[int, float], nn.Module]] = {
    "group": modified_layer_norm,
    "layer": LayerNormChannel,
    "batch": nn.BatchNorm2d,
    "none": lambda dim, eps: nn.Identity(),
}


def make_norm(dim: int, *, kind: str = "group", eps: float = 1e-5, bias: bool = True) -> nn.Module:
    """Build a norm of (B, C, H, W).

    Args:
        dim: Channels C.
        kind: ``group``, ``layer``, ``batch`` or ``none``.
        eps: Added to the variance.
        bias: Whether each channel has a bias beside its weight.

    Raises:
        OptionsError: There is no such kind.
    """
    norm = choose("norm", kind, _NORMS)(dim, eps)
    if not bias:
        norm.register_parameter("bias", None)
    return norm


class StarReLU(nn.Module):
    """``scale * relu(x)**2 + bias`` with two learned numbers (arXiv 2210.13452, eq. 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.relu().square() + self.bias


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "star_relu": StarReLU,
}


def choose(option: str, name: str, table: Mapping[str, T]) -> T:
    """Look a name up.

    Raises:
        OptionsError: It is not in the table.
    """
    if name not in table:
        raise OptionsError(f"{option} is one of {', '.join(table)}; got {name!r}")
    return table[name]


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

    Attributes:
        drawn: Factors (B,) drawn elsewhere for the samples of the next batch; None to draw them here, as for a batch of
            another size.
    """

    drawn: Tensor | None = None

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        factors = self.factors(x)
        return x if factors is None else x * factors[:, None, None, None]

    def factors(self, x: Tensor) -> Tensor | None:
        """Draw the factor (B,) of each sample's branch: 0, or 1 / (1 - rate); None where all are 1."""
        if not self.training or self.rate == 0:
            return None
        if self.drawn is not None and len(self.drawn) == len(x):
            return self.drawn.to(x.dtype)
        return x.new_empty(x.shape[0]).bernoulli_(1 - self.rate) / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


class ChannelMLP(nn.Module):
    """Two 1x1 convolutions with an activation between them, on (B, C, H, W) (paper, eq. 3).

    Args:
        dim: Channels C in and out.
        ratio: Hidden channels are ``ratio * dim``.
        act: Activation factory.
        bias: Whether the convolutions have biases.
    """

    def __init__(self, dim: int, ratio: float, act: Callable[[], nn.Module], *, bias: bool = True):
        super().__init__()
        hidden = int(ratio * dim)
        self.fc1 = nn.Conv2d(dim, hidden, 1, bias=bias)
        self.act = act()
        self.fc2 = nn.Conv2d(hidden, dim, 1, bias=bias)
        init_linear(self.fc1)
        init_linear(self.fc2)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Mix the channels of each token.

        Args:
            x: (B, C, H, W).
            scale: Factor (C,) of each output channel, applied to fc2's weights rather than to what it returns.

        Returns:
            (B, C, H, W).
        """
        hidden: Tensor = self.act(self.fc1(x))
        if scale is None:
            mixed: Tensor = self.fc2(hidden)
            return mixed
        bias = None if self.fc2.bias is None else scale * self.fc2.bias
        return F.conv2d(hidden, scale[:, None, None, None] * self.fc2.weight, bias)


class PatchEmbedding(nn.Module):
    """Strided convolution: the stem, and the downsampling between stages.

    Args:
        in_channels: Channels in.
        dim: Channels C out.
        kernel_size: Side of the filter, in pixels or tokens.
        stride: Distance of the patches.
        padding: Of each side.
        norm: Layer norm without bias: ``after`` the convolution, ``before`` it, or None as in the first paper.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        *,
        kernel_size: int,
        stride: int,
        padding: int,
        norm: Literal["before", "after"] | None = None,
        eps: float = 1e-5,
    ):
        super().__init__()
        self.norm_first = norm == "before"
        self.conv = nn.Conv2d(in_channels, dim, kernel_size, stride, padding)
        self.norm: nn.Module = nn.Identity()
        # Without a norm PyTorch's initialisation stays, as in the authors' code (timm draws it from a
        # truncated normal); the follow-up paper's code draws all convolutions alike.
        if norm:
            self.norm = make_norm(in_channels if self.norm_first else dim, kind="layer", eps=eps, bias=False)
            init_linear(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.norm(x)) if self.norm_first else self.norm(self.conv(x))
        return x


def init_linear(layer: nn.Conv2d | nn.Linear) -> None:
    """Draw a linear layer as the authors' code does: std 0.02, cut at +-2 absolute, bias 0."""
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def check_resolution(name: str, x: Tensor, resolution: tuple[int, ...]) -> None:
    """Raise `ResolutionError` where ``name`` is built for another number of tokens than (B, C, H, W) has."""
    if x.shape[2:] != resolution:
        built, found = ("x".join(map(str, side)) for side in (resolution, tuple(x.shape[2:])))
        raise ResolutionError(
            f"{name} is built for {built} tokens and got {found}: images must have the size that the network was "
            "built for (image_size in Python, --data.image_size at the terminal)"
        )
