"""Inference form of a MetaFormer: norm weights and layer scales become part of the layers beside them.

    block, second half:  x + ls * fc2(act(fc1(gamma * n(x) + beta)))
                      =  x + fc2'(act(fc1'(n(x)))),  fc1' = (W1 gamma, b1 + W1 beta),  fc2' = (ls W2, ls b2)

where n only centres and scales by the statistics. In the first half the layer scale goes into the norm's weights if
the mixer is linear and treats each channel alone:

    ls * mixer(gamma * n(x) + beta)  =  mixer(ls * gamma * n(x) + ls * beta)
"""

import copy

import torch
from torch import Tensor, nn

from ..errors import OptionsError
from .block import Block
from .head import Head
from .layers import LayerNormChannel, Scale
from .metaformer import MetaFormer


def fold(network: nn.Module) -> nn.Module:
    """Return a copy of a network for inference: the same outputs up to rounding, with fewer operations.

    Weights are computed in float64. What is no `MetaFormer`, and what cannot be folded, such as the layer scale behind
    attention, is copied as it is. The state dict of the copy is another one, and training it makes no sense.

    Args:
        network: Backbone, in evaluation mode. A mixer whose attribute ``linear_by_channel`` is true is linear, without
            bias, and treats each channel alone.

    Raises:
        OptionsError: It is in training mode, in which batch norms do not use what would be folded.
    """
    if network.training:
        raise OptionsError("only a network in evaluation mode can be folded: call eval() first")
    folded = copy.deepcopy(network).requires_grad_(False)
    if not isinstance(folded, MetaFormer):
        return folded
    for module in folded.modules():
        if isinstance(module, Block):
            module.execution = None  # fused operators want the norms' weights
            if getattr(module.token_mixer, "linear_by_channel", False):
                _fold_token_mixing(module)
            _fold_channel_mixing(module)
        elif isinstance(module, Head) and isinstance(module.fc, nn.Linear):
            module.norm = _fold_norm_into(module.norm, module.fc)
    return folded


def _fold_token_mixing(block: Block) -> None:
    scale, weight = block.layer_scale1, getattr(block.norm1, "weight", None)
    if isinstance(scale, Scale) and isinstance(weight, Tensor):
        weight.mul_(scale.scale)
        if isinstance(bias := block.norm1.bias, Tensor):
            bias.mul_(scale.scale)
        block.layer_scale1 = nn.Identity()


def _fold_channel_mixing(block: Block) -> None:
    mlp = block.mlp
    if isinstance(mlp, nn.Identity):
        return
    block.norm2 = _fold_norm_into(block.norm2, mlp.fc1)
    if isinstance(block.layer_scale2, Scale):
        fc2, scale = mlp.fc2, block.layer_scale2.scale
        fc2.weight.mul_(scale[:, None, None, None])
        if fc2.bias is not None:
            fc2.bias.mul_(scale)
        block.layer_scale2 = nn.Identity()


def _fold_norm_into(norm: nn.Module, layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """Move what a norm does by channel into the layer behind it; return what is left of the norm."""
    if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
        factor = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        shift = _bias(norm) - norm.running_mean.double() * factor
        left: nn.Module = nn.Identity()
    elif isinstance(norm, nn.GroupNorm | nn.LayerNorm | LayerNormChannel) and norm.weight is not None:
        factor = norm.weight.double()
        shift = _bias(norm)
        left = norm
        norm.register_parameter("weight", None)
        norm.register_parameter("bias", None)
    else:
        return norm
    weight = layer.weight.double()
    bias = weight.flatten(1) @ shift
    if layer.bias is not None:
        bias += layer.bias
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype), requires_grad=False)
    layer.weight.copy_(weight * factor.reshape(1, -1, *[1] * (weight.ndim - 2)))
    return left


def _bias(norm: nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm | LayerNormChannel) -> Tensor:
    return torch.zeros_like(norm.weight).double() if norm.bias is None else norm.bias.double()
