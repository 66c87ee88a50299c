"""What configurations say about the model, where a later one or a flag chooses another backbone."""

from collections.abc import Sequence
from typing import Any

from ..errors import PoolformerError
from ..network.frame_options import own_options, takes_mixer
from ..network.mixer_spec import stages
from . import said


def without_foreign_mixers(contents: Sequence[dict[str, Any]], flags: Sequence[str]) -> list[dict[str, Any]]:
    """Return configurations without a token mixer that is meant for another backbone than the one that is asked for.

    ``--config s12 --model.backbone identityformer_s12`` asks for a network with a mixer of its own: the pooling in
    ``s12.yaml`` is that of PoolFormer-S12. So it is with ``--model.backbone convformer_s18``, which could be built with
    pooling, too: what a file says of its own backbone goes with that. A mixer that the flags name, or a file beside the
    backbone, stays.
    """
    named = [_model(content).get("backbone") for content in contents]
    asked = _flag(flags, "--model.backbone") or next((name for name in reversed(named) if name), None)
    if not isinstance(asked, str):
        return list(contents)
    try:
        return [
            {**content, "model": _without(content, "mixer")} if _is_foreign(_model(content), asked) else content
            for content in contents
        ]
    except PoolformerError:  # said where it is built
        return list(contents)


def _is_foreign(section: dict[str, Any], asked: str) -> bool:
    mixer, beside = section.get("mixer"), section.get("backbone")
    if mixer is None or beside == asked:
        return False
    if not takes_mixer(asked):
        return True
    if not isinstance(beside, str):
        return False
    own = own_options(beside).get("mixer")
    return own is not None and stages(own) == stages(mixer) and stages(own) != stages(own_options(asked)["mixer"])


def _model(content: dict[str, Any]) -> dict[str, Any]:
    section = content.get("model")
    return section if isinstance(section, dict) else {}


def _without(content: dict[str, Any], option: str) -> dict[str, Any]:
    return {name: value for name, value in _model(content).items() if name != option}


def _flag(flags: Sequence[str], option: str) -> str | None:
    values = said.values(flags, option)
    return values[-1] if values else None
