"""Which tensors of published weights are left out, so that a network with other mixers can start from the rest."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from ..errors import CheckpointError

MIXERS = "mixers"
"""The word for the tensors of all token mixers."""
_OF_MIXERS = ("*.token_mixer", "*.token_mixer.*")
_SHOWN = 3


def patterns_of(skip: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return what is asked to be skipped as patterns: one alone, several, or several in one text with commas."""
    if skip is None:
        return ()
    words = skip.split(",") if isinstance(skip, str) else [word for each in skip for word in each.split(",")]
    return tuple(word.strip() for word in words if word.strip())


def matches(name: str, pattern: str) -> bool:
    """Return whether a tensor's name matches ``mixers`` or a pattern such as ``head.*`` or ``stages.3.*``."""
    return any(fnmatchcase(name, one) for one in (_OF_MIXERS if pattern == MIXERS else (pattern,)))


def skip_tensors(
    weights: dict[str, Tensor], network: Mapping[str, Any], patterns: Collection[str], *, source: str, has_mixers: bool
) -> set[str]:
    """Leave out tensors that are to be skipped; return the names of the network that start fresh.

    Args:
        weights: By the network's names; what is skipped is taken out.
        network: State dict of the network.
        patterns: As `patterns_of` returns them.
        source: The file, for the message.
        has_mixers: Whether the network has token mixers; they may be without weights, here and there.

    Raises:
        CheckpointError: A pattern matches nothing.
    """
    names = sorted({*weights, *network})
    for pattern in patterns:
        if not (pattern == MIXERS and has_mixers) and not any(matches(name, pattern) for name in names):
            shown = ", ".join(names[:_SHOWN])
            raise CheckpointError(
                f"--model.pretrained_skip {pattern} matches no tensor of '{source}' and none of the network; it takes "
                f"{MIXERS}, or patterns of names such as {shown}"
            )
    for name in [name for name in weights if any(matches(name, pattern) for pattern in patterns)]:
        del weights[name]
    return {name for name in network if any(matches(name, pattern) for pattern in patterns)}


def summary(*, loaded: int, fresh: Collection[str], left_out: Collection[str]) -> str:
    """Say in a line what was loaded, what starts fresh, and what was left out.

    Args:
        loaded: Number of tensors.
        fresh: Names of the network.
        left_out: Names of the file.
    """
    parts = [f"{loaded} tensors are loaded"]
    parts += [f"{len(fresh)} start fresh ({_some(fresh)})"] if fresh else []
    parts += [f"{len(left_out)} are left out ({_some(left_out)})"] if left_out else []
    return "; ".join(parts)


def hint(misfit: Mapping[str, Collection[str]]) -> str:
    """Return what to do where it is the token mixers that do not fit, and nothing else; empty otherwise."""
    names = [name for each in misfit.values() for name in each]
    fits_otherwise = bool(names) and all(matches(name, MIXERS) for name in names)
    return f"; --model.pretrained_skip {MIXERS} loads the rest and starts them fresh" if fits_otherwise else ""


def _some(names: Collection[str]) -> str:
    shown = [name[:80] for name in sorted(names)[:_SHOWN]]
    return repr(", ".join(shown))[1:-1] + (" ..." if len(names) > _SHOWN else "")
