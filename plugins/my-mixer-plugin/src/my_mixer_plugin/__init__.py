"""A token mixer for poolformer, which finds it by the entry point in ``pyproject.toml``."""

from torch import Tensor, nn


class MyMixer(nn.Module):
    """Depthwise convolution along the rows, then along the columns.

    Together they reach a window of ``kernel_size`` x ``kernel_size`` tokens with ``2 * kernel_size``
    weights for each channel.

    Args:
        dim: Channels C.
        kernel_size: Length of both filters in tokens; odd.
    """

    def __init__(self, dim: int, kernel_size: int = 7):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}")
        reach = kernel_size // 2
        self.along_rows = nn.Conv2d(dim, dim, (1, kernel_size), padding=(0, reach), groups=dim)
        self.along_columns = nn.Conv2d(dim, dim, (kernel_size, 1), padding=(reach, 0), groups=dim)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W), in and out
        return self.along_columns(self.along_rows(x))
