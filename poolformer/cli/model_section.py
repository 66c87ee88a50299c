"""What configurations say about the model, where a later one or a flag chooses another backbone."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ..errors import PoolformerError
from ..network.frame_options import takes_mixer


def without_foreign_mixers(contents: Sequence[dict[str, Any]], flags: Sequence[str]) -> list[dict[str, Any]]:
    """Return configurations without a token mixer that is meant for another backbone than the one that is asked for.

    ``--config s12 --model.backbone identityformer_s12`` asks for a network with a mixer of its own: the pooling in
    ``s12.yaml`` is that of PoolFormer-S12. A mixer that the flags name, or a file beside the backbone, stays.
    """
    named = [_model(content).get("backbone") for content in contents]
    asked = _flag(flags, "--model.backbone") or next((name for name in reversed(named) if name), None)
    if not isinstance(asked, str) or _takes(asked):
        return list(contents)
    return [
        content if name == asked or "mixer" not in _model(content) else {**content, "model": _without(content, "mixer")}
        for content, name in zip(contents, named, strict=True)
    ]


def _takes(backbone: str) -> bool:
    try:
        return takes_mixer(backbone)
    except PoolformerError:  # said where it is built
        return True


def _model(content: dict[str, Any]) -> dict[str, Any]:
    section = content.get("model")
    return section if isinstance(section, dict) else {}


def _without(content: dict[str, Any], option: str) -> dict[str, Any]:
    return {name: value for name, value in _model(content).items() if name != option}


def _flag(flags: Sequence[str], option: str) -> str | None:
    values = [word.partition("=")[2] for word in flags if word.startswith(f"{option}=")]
    values += [value for word, value in pairwise(flags) if word == option]
    return values[-1] if values else None
