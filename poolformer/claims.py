"""Whether a checkpoint's options ask for a network of the size of its weights: found out on shapes, before it is built.

A checkpoint is data from anywhere, and one number in it may ask for a network that fills the memory.
"""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from .backbones import create_backbone
from .checkpoint.hub import TIMM
from .checkpoint.outline import Outline, nbytes
from .checkpoint.pretrained import compare, explain
from .errors import CheckpointError, MisfitError, describe

_MIB = 2**20
# Beside its weights a network may hold tables that it makes anew. Weights of 8 bits may go into one of 32.
_GROWTH, _FREE, _FREE_TABLES = 4, 16 * _MIB, 1024 * _MIB
_FREE_MODULES, _MODULES_A_WEIGHT = 10_000, 20


def check_claims(outline: Outline, options: Mapping[str, Any]) -> None:
    """Build a network of shapes alone, and stop where it is far larger than the weights that it is for.

    A network that cannot be built so, as it looks at values, is left to be built.

    Args:
        outline: Of the weights.
        options: Of `ImageClassifier`; what is not for its backbone is left out.

    Raises:
        MisfitError: It is larger; the message names the first tensors that do not fit.
        CheckpointError: It consists of very many modules, or would make large tables beside its weights.
    """
    modules = _FREE_MODULES + _MODULES_A_WEIGHT * len(outline.shapes)
    with _at_most(modules) as count, torch.device("meta"):
        try:
            backbone = _on_shapes(options)
        except Exception:  # of a plugin's, or of what is wrong with the options: building it for good says which
            backbone = nn.Identity()
    if count.modules > modules:
        raise CheckpointError(
            f"the checkpoint's options ask for more than {modules} modules, its weights are {len(outline.shapes)}"
        )
    limit, network = _GROWTH * outline.nbytes + _FREE, backbone.state_dict()
    if nbytes(network.values()) > limit:
        raise misfit(outline.shapes, network, options)
    if (tables := nbytes(backbone.buffers())) > limit + _FREE_TABLES:
        raise CheckpointError(f"the checkpoint's options ask for tables of {tables // _MIB} MiB beside its weights")


def head_classes(source: str, options: Mapping[str, Any]) -> int | None:
    """Return how many classes the head of published weights is for; None where they do not say.

    Args:
        source: The weights, as for ``pretrained``.
        options: Of `ImageClassifier`; what is not for its backbone is left out.
    """
    if source.startswith(TIMM):  # which says it without a download
        import timm  # 4 s

        found = getattr(timm.get_pretrained_cfg(source.removeprefix(TIMM)), "num_classes", None)
        return found or None
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that are not copied, and what building it for good says again
        try:
            found = getattr(_on_shapes({**options, "num_classes": 1}, pretrained=source), "head_classes", None)
        except Exception:  # likewise
            return None
    return found if isinstance(found, int) and found > 0 else None


def _on_shapes(options: Mapping[str, Any], **more: Any) -> nn.Module:
    """Build the backbone of a classifier's options."""
    known = inspect.signature(create_backbone).parameters.keys() - {"name", "pretrained", "pretrained_skip"}
    named = {name: value for name, value in options.items() if name in known}
    return create_backbone(options.get("backbone", "poolformer_s12"), **named, **more)


def misfit(weights: Mapping[str, Tensor], network: Mapping[str, Tensor], options: Mapping[str, Any]) -> MisfitError:
    """Return the error that says how weights do not fit what options ask for.

    Args:
        weights: By the names of the backbone.
        network: Of the backbone, likewise; its values are not looked at.
        options: Of the model.
    """
    differences = compare(weights, network)
    sizes = (sum(each.nbytes for each in tensors.values()) // _MIB for tensors in (weights, network))
    explained = explain(differences, weights, network) or "they are {} MiB, and the network {}".format(*sizes)
    return MisfitError(
        f"the weights do not fit backbone {options.get('backbone')} with mixer {str(options.get('mixer'))[:200]} and "
        f"{options.get('num_classes')} classes: {explained}",
        **differences,
    )


def misfit_of(
    state_dict: Mapping[str, Tensor], own: Mapping[str, Tensor], options: Mapping[str, Any], error: Exception
) -> MisfitError:
    """Return the error that says why a classifier could not load a state dict.

    Args:
        state_dict: What was to be loaded.
        own: State dict of the classifier.
        options: Of the model.
        error: What PyTorch raised.
    """
    theirs, ours = (
        {name.removeprefix("backbone."): value for name, value in weights.items()} for weights in (state_dict, own)
    )
    if sum(map(len, compare(theirs, ours).values())) == 0:  # such as tensors without values
        return MisfitError(f"the weights cannot be copied: {describe(error)[:300]}")
    return misfit(theirs, ours, options)


class _Count:
    modules = 0


class _TooManyError(Exception): ...


@contextmanager
def _at_most(modules: int) -> Iterator[_Count]:
    """Count the modules that are built in this block, and stop it where they are more."""
    count = _Count()

    def add(module: nn.Module, name: str, added: nn.Module | None) -> None:
        count.modules += 1
        if count.modules > modules:
            raise _TooManyError

    hook = register_module_module_registration_hook(add)
    try:
        yield count
    finally:
        hook.remove()
