"""Golden numbers of the follow-up paper (arXiv 2210.13452): formulas for weights under the authors' names.

Usage: ``fill_followup(state_dict)`` under the names of sail-sg/metaformer (64c534a); images as in fill.py.
`followup.json` holds what the authors' code makes of them in eval mode and float64.
"""

import math
from collections.abc import Mapping

import torch
from golden.fill import cosines
from torch import Tensor


def fill_followup(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give every parameter its golden value; values depend on a name's place among all sorted names."""
    return {name: _value(name, state_dict[name].shape, index) for index, name in enumerate(sorted(state_dict))}


def _value(name: str, shape: torch.Size, index: int) -> Tensor:
    u = cosines(math.prod(shape), index).reshape(shape)
    parts = name.split(".")
    if name.endswith("random_matrix"):
        return (1 + 0.5 * u) / shape[-1]
    if name.endswith(".scale"):  # residual scales, layer scales, StarReLU's
        return 0.8 + 0.2 * u
    if name.endswith(".bias"):
        return 0.1 * u
    if "norm" in parts[-2]:
        return 1 + 0.2 * u
    return math.sqrt(2.0 / (u.numel() // shape[0])) * u  # convolutions and linear layers
