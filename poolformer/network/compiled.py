"""Compiling a network for CPUs with AOTInductor, so that the file takes any float images of its shape and no other."""

import torch
from torch import Tensor, nn


class AnyLayout(nn.Module):
    """A network that looks at its images as they really are, also where AOTInductor has compiled it.

    What AOTInductor compiles reads the memory of its input as if it had the type, the sizes and the strides of the
    example, and checks none of them: images that lie channels last give other logits, uint8 reads beyond its end.
    Operators that it does not compile get the tensor itself. ``index_reduce`` is one of these: it copies images of any
    layout to where the example's would be, and refuses those of another type or size.
    """

    def __init__(self, network: nn.Module, channels: int):
        super().__init__()
        self.network, self.channels = network, channels

    def forward(self, images: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        each = torch.arange(batch, device=images.device)
        # A product with nothing but itself.
        whole = images.new_zeros(batch, self.channels, height, width)
        logits: Tensor = self.network(torch.index_reduce(whole, 0, each, images, "prod", include_self=False))
        return logits


def layouts(images: Tensor) -> list[Tensor]:
    """Return images in memory as a loader, a crop and a turned image have them; they stay what they are."""
    room = images.new_zeros(*images.shape[:3], images.shape[3] + 3)
    crop = room[..., 2 : 2 + images.shape[3]].copy_(images)
    return [images, images.contiguous(memory_format=torch.channels_last), crop, images.mT.contiguous().mT]
