"""How a backbone is to be computed: tried on the machine that it is to run on, before training starts."""

import copy

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from ..errors import ConfigError, describe
from ..network.fused import fuse, fusing_pays


def fuse_blocks(backbone: nn.Module, *, device: torch.device, precision: str) -> None:
    """Have the blocks of a backbone run in fused operators where that pays; say how many do.

    Args:
        backbone: Changed in place.
        device: That it is to run on.
        precision: Of Lightning's trainer, such as ``bf16-mixed``.
    """
    if not fusing_pays(device.type, torch.bfloat16 if precision.startswith("bf16") else torch.float32):
        rank_zero_warn(
            "--model.fused needs Triton on a GPU, and on a CPU C++ that can be compiled and has products in the "
            f"precision: on this {device.type}, in {precision}, the blocks stay as they are"
        )
        return
    tokens, channels = fuse(backbone)
    if tokens or channels:
        rank_zero_info(f"fused operators mix the tokens of {tokens} blocks and the channels of {channels}")
    else:
        rank_zero_warn("--model.fused changes nothing: there is no fused operator for the blocks of this backbone")


def compile_in_place(backbone: nn.Module, *, device: torch.device) -> None:
    """Have a backbone run through torch.compile; its state dict keeps its names.

    Raises:
        ConfigError: Nothing can be compiled here.
    """
    try:  # on two numbers: without a compiler the first step would fail with a page of traceback
        torch.compile(torch.sin)(torch.zeros(2, device=device))
    except Exception as error:
        raise ConfigError(f"--model.compile: PyTorch cannot compile here: {describe(error)[:300]}") from error
    backbone.compile()


def check_growth(backbone: nn.Module, growth: dict[str, int] | None, *, name: str, image_size: int) -> None:
    """Try the sizes of progressive resizing on shapes alone, as a network does not declare which sizes it takes.

    Args:
        backbone: The network.
        growth: Sides of the ``first`` and the ``last`` images in pixels; None where they do not grow.
        name: The backbone's name.
        image_size: Side of the images in pixels that it is built for.

    Raises:
        ConfigError: The backbone takes one size only.
    """
    if not growth:
        return
    on_meta = copy.deepcopy(backbone).to("meta").eval()
    if _fails(on_meta, image_size):  # a network that looks at values: shapes alone say nothing of it
        return
    for side in (growth["first"], growth["last"]):
        if error := _fails(on_meta, side):
            raise ConfigError(
                f"backbone {name!r} is built for images of {image_size} pixels and "
                f"does not take {side}, so training images cannot grow: leave out --data.growth ({describe(error)})"
            ) from error


def _fails(on_meta: nn.Module, side: int) -> Exception | None:
    try:
        with torch.no_grad():
            on_meta(torch.empty(1, 3, side, side, device="meta"))
    except Exception as error:
        return error
    return None
