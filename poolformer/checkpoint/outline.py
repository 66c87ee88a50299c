"""A checkpoint's weights by their shapes, which cost no memory."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Outline:
    """The shapes of a checkpoint's weights, and how large they are in its file.

    Args:
        state_dict: Of a run: a backbone's names begin with ``backbone.``.
    """

    def __init__(self, state_dict: Mapping[str, Any]):
        tensors = {name: value for name, value in state_dict.items() if isinstance(value, Tensor)}
        self.shapes = {name.removeprefix("backbone."): value.to("meta") for name, value in tensors.items()}
        self.nbytes = nbytes(tensors.values())


def nbytes(tensors: Any) -> int:
    """Return how much tensors hold, what they share once, and what is only repeated not at all."""
    sizes = {}
    for tensor in tensors:
        if isinstance(tensor, Tensor):
            try:
                storage = tensor.untyped_storage()
                sizes[storage._cdata] = storage.nbytes()
            except (RuntimeError, NotImplementedError):  # sparse
                sizes[id(tensor)] = tensor.numel()
    return sum(sizes.values())
