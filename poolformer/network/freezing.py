"""Parts of a network that are not trained: their weights stay, and so do the statistics of their norms."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from ..errors import ConfigError

BACKBONE = "backbone"
"""The word for all but the layer that makes the logits."""


def freeze(network: nn.Module, patterns: str | Sequence[str] | None) -> list[nn.Module]:
    """Have parameters take no gradient; return the modules that are frozen whole, which `hold` keeps in evaluation.

    Args:
        network: Changed in place.
        patterns: ``backbone`` for all but the layer that makes the logits, or patterns of names such as
            ``stages.0.*``; None for nothing.

    Raises:
        ConfigError: A pattern matches nothing, or all is frozen.
    """
    if patterns is None:
        return []
    names = [name for name, _ in network.named_parameters()]
    frozen: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        chosen = _body(network, names) if pattern == BACKBONE else [n for n in names if fnmatchcase(n, pattern)]
        if not chosen:
            raise ConfigError(
                f"--model.freeze {pattern} matches no parameter; it takes {BACKBONE}, or patterns of names such as "
                f"{', '.join(names[:3])}"
            )
        frozen.update(chosen)
    if len(frozen) == len(names):
        raise ConfigError("--model.freeze leaves nothing to train")
    for name, parameter in network.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    whole = [prefix for prefix, _ in network.named_modules() if prefix and _is_whole(prefix, names, frozen)]
    inside = {module: None for prefix in whole for module in network.get_submodule(prefix).modules()}
    return list(inside)


def hold(frozen: Sequence[nn.Module]) -> None:
    """Keep frozen modules in evaluation mode; before each step, as whoever evaluates between them sets all to training.

    Args:
        frozen: As `freeze` returns them.
    """
    for module in frozen:
        module.training = False


def _body(network: nn.Module, names: Sequence[str]) -> list[str]:
    get_classifier = getattr(network, "get_classifier", None)
    layer = None if get_classifier is None else get_classifier()
    head = next((name for name, module in network.named_modules() if name and module is layer), None)
    if head is None:
        raise ConfigError(f"--model.freeze {BACKBONE}: this backbone does not say which layer makes its logits")
    return [name for name in names if not name.startswith(f"{head}.")]


def _is_whole(prefix: str, names: Sequence[str], frozen: set[str]) -> bool:
    within = [name for name in names if name.startswith(f"{prefix}.")]
    return bool(within) and frozen.issuperset(within)
