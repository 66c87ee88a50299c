"""Parameters and multiply-accumulates (MACs) of a network, counted as the paper's tables count them."""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop_count

from ..kernels import channel_mix, pool_mix  # noqa: F401 (they register their operators)
from .evaluating import evaluating
from .example import example_input
from .layers import LayerNormChannel

# What fvcore, the counter behind the published numbers, charges for a value of an affine norm, not
# halved. FlopCounterMode counts 2 a MAC, hence the factor. A batch norm in evaluation only scales.
# Pooling, activations, additions and layer scale are free in both.
_FLOPS_A_VALUE = {
    torch.ops.aten.native_group_norm: 2 * 5,
    torch.ops.aten.native_layer_norm: 2 * 5,
    torch.ops.aten.native_batch_norm: 2 * 2,
    torch.ops.aten._native_batch_norm_legit_no_training: 2 * 2,
    torch.ops.aten.cudnn_batch_norm: 2 * 2,
    torch.ops.poolformer.pool_mix: 2 * 5,
}


def _norm_flops(flops_a_value: int) -> Callable[..., int]:
    def flops(input_shape: Sequence[int], *args: object, **kwargs: object) -> int:
        return flops_a_value * prod(input_shape)

    return flops


def _attention_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *args: object, **kwargs: object
) -> int:
    """PyTorch's formula, which torch 2.9 lacks for the CPU's operator."""
    flops: int = sdpa_flop_count(query, key, value)
    return flops


def _channel_mix_flops(x: Sequence[int], *args: object, **kwargs: object) -> int:
    """The matrix products, which the operator's own formula counts, and the norm."""
    own: int = flop_registry[torch.ops.poolformer.channel_mix](x, *args)
    if tuple(x[2:]) == (1, 1):  # `LayerNormChannel`, whose tokens are samples to the operator; it does not count
        return own
    return own + _norm_flops(_FLOPS_A_VALUE[torch.ops.aten.native_group_norm])(x)


class Complexity(NamedTuple):
    """Size and cost of a network.

    Attributes:
        parameters: Trainable parameters.
        macs: Multiply-accumulates of one forward pass of one image.
        frozen: Parameters that are not trained.
    """

    parameters: int
    macs: int
    frozen: int


def count(model: nn.Module, *, image_size: int) -> Complexity:
    """Count the parameters of a model and the MACs of one image (1, I, image_size, image_size), or of its own example.

    Convolutions, linear layers, attention and norms count; pooling, activations, additions and the layer norm that the
    authors wrote by hand, `LayerNormChannel`, do not, as in the papers. A fused operator counts as what it is made of.
    Runs the model once, in evaluation mode, where its parameters are; on the ``meta`` device nothing is computed.
    """
    image = example_input(model, image_size=image_size)
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            **{op: _norm_flops(flops) for op, flops in _FLOPS_A_VALUE.items()},
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
            torch.ops.poolformer.channel_mix: _channel_mix_flops,
        },
    )
    with evaluating(model), counter:
        model(image)
    trainable, frozen = (
        sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad is trained)
        for trained in (True, False)
    )
    return Complexity(trainable, (counter.get_total_flops() - _of_hand_written_norms(model, counter)) // 2, frozen)


def _of_hand_written_norms(model: nn.Module, counter: FlopCounterMode) -> int:
    """Return what the counter has of the layer norms `LayerNormChannel`, by the path of each in the model."""
    by_path, root = counter.get_flop_counts(), type(model).__name__
    norms = [name for name, module in model.named_modules() if isinstance(module, LayerNormChannel)]
    return sum(sum(by_path.get(f"{root}.{name}" if name else root, {}).values()) for name in norms)
