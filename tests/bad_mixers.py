"""Token mixers that each break one rule of the contract, as a person would break it by mistake."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.library import custom_op


class Mixer(nn.Module):
    """A learned factor for each channel: what the bad mixers have in common, and no fault of it."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


class OtherFirstParameter(Mixer):
    def __init__(self, channels: int):
        super().__init__(channels)


class OptionWithoutDefault(Mixer):
    def __init__(self, dim: int, window: int):
        super().__init__(dim)


class OptionCalledName(Mixer):
    def __init__(self, dim: int, name: str = "sum"):
        super().__init__(dim)


def a_function_not_a_module(dim: int):
    return F.relu


class OneWidthOnly(Mixer):
    def __init__(self, dim: int):
        if dim != 32:
            raise ValueError("made for 32 channels")
        super().__init__(dim)


class Strided(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(super().forward(x), 2)


class HalfPrecisionResult(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).half()


class SwapsHeightAndWidth(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).transpose(2, 3)


class SqueezesABatchOfOne(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(0)


class ChangesItsInput(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return super().forward(x)


class CentresOverTheBatch(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0))


class DropsInEvaluation(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.rand(x.shape[1], 1, 1, dtype=x.dtype, device=x.device)


class UnusedParameter(Mixer):
    def __init__(self, dim: int):
        super().__init__(dim)
        self.bias = nn.Parameter(torch.zeros(dim))


class DetachedInput(Mixer):
    """The bfloat16 rule needs a gradient at the input too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


class InfiniteGradient(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (x - x).sqrt()


class RandomOrderOutsideTheStateDict(Mixer):
    def __init__(self, dim: int):
        super().__init__(dim)
        self.order = torch.randperm(dim).tolist()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, self.order]


class HoldsAGraph(Mixer):
    def __init__(self, dim: int):
        super().__init__(dim)
        self.at_start = self.weight * 2


class HoldsALambda(Mixer):
    def __init__(self, dim: int):
        super().__init__(dim)
        self.scale = lambda x: x / 2

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(super().forward(x))


class MixesTypes(Mixer):
    def __init__(self, dim: int):
        super().__init__(dim)
        self.conv = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(super().forward(x), self.conv(x), 0.5)


class FixedFloat32(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        identity = torch.eye(x.shape[-1], device=x.device)
        return super().forward(x) @ identity


class ViewsContiguousMemory(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).view(x.shape[0], -1).softmax(1).view(x.shape)


class TensorLeftBehind(Mixer):
    def __init__(self, dim: int):
        super().__init__(dim)
        self.ramp = torch.linspace(0, 1, dim)[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.ramp


class LoopsOverTheBatch(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([sample / (sample.square().mean() + 1) for sample in super().forward(x)])


@custom_op("bad_mixers::double", mutates_args=())
def double(x: Tensor) -> Tensor:
    return 2 * x


double.register_fake(torch.empty_like)
double.register_autograd(lambda ctx, grad: 2 * grad)


class OperatorWithoutFormula(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return double(super().forward(x))
