"""Mixers in the frequency domain: tokens (B, C, H, W) to the same shape.

Transforms know neither bfloat16 nor, for most sizes, float16: such tokens pass them as float32.
"""

import torch
from torch import Tensor, nn


class Fourier(nn.Module):
    """The real part of a Fourier transform over tokens and channels, without parameters (FNet, arXiv 2105.03824).

    FNet's tokens lie in a row, here in a map. The transform is orthonormal: behind a norm it then keeps the
    scale of its input, where FNet normalises afterwards.

    Args:
        dim: Channels C; not used.
        channels: Whether channels are transformed too, as in FNet; without, each channel is mixed alone.
    """

    def __init__(self, dim: int, channels: bool = True):
        super().__init__()
        self.axes = (1, 2, 3) if channels else (2, 3)
        self.linear_by_channel = not channels

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fftn(_transformable(x), dim=self.axes, norm="ortho").real.to(x.dtype)


class GlobalFilter(nn.Module):
    """A learned filter of each channel, as large as the map, applied to its spectrum (GFNet, arXiv 2107.00645).

    Multiplying spectra is a circular convolution of the maps: a token sees all others, by their distance.

    Args:
        dim: Channels C.
        resolution: Tokens along H and W, which are fixed with this mixer.
    """

    linear_by_channel = True

    def __init__(self, dim: int, *, resolution: tuple[int, int]):
        super().__init__()
        self.resolution = resolution
        height, width = resolution
        # Real and imaginary part last: a parameter of complex numbers would not follow .double() and autocast.
        self.complex_weight = nn.Parameter(0.02 * torch.randn(dim, height, width // 2 + 1, 2))

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != tuple(self.resolution):
            raise ValueError(f"global_filter was built for {self.resolution} tokens and got {tuple(x.shape[2:])}")
        spectrum = torch.fft.rfft2(_transformable(x), norm="ortho")
        weight = torch.view_as_complex(_transformable(self.complex_weight).contiguous())
        return torch.fft.irfft2(spectrum * weight, s=self.resolution, norm="ortho").to(x.dtype)


def _transformable(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
