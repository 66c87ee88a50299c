"""What configurations say about the model, where a later one or a flag chooses another backbone, or adds an option."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from ..errors import PoolformerError
from ..network.frame_options import own_options, takes_mixer
from ..network.mixer_spec import stages
from . import said

# Options that take a name, or a mapping of a name and its options.
_NAMED = ("mixer", "optimizer")
_NAME = re.compile(r"(?!null$)[A-Za-z_][\w.:/-]*")


def with_names_in_mappings(contents: Sequence[dict[str, Any]], flags: Sequence[str]) -> list[dict[str, Any]]:
    """Return configurations in which a name is in a mapping where a flag adds an option to it.

    ``mixer: depthwise`` and ``--model.mixer.kernel_size 5`` are a mixer with an option; by the parser the option would
    take the name's place.
    """
    each = list(said.each(flags))
    added = [option for option in _NAMED if _are_added(option, each)]
    return [_with_mappings(content, added) for content in contents]


def with_names_from_before(contents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return configurations in which options of a mixer or optimiser without its name have that of the file before.

    ``model.mixer.pool_size: 5`` in a file adds to what stands before it, as ``--model.mixer.pool_size 5`` does.
    """
    before: dict[str, Any] = {}
    settled = []
    for content in contents:
        section = _model(content)
        given = {option: section[option] for option in _NAMED if section.get(option) is not None}
        for option, value in given.items():
            last = {"name": before[option]} if isinstance(before.get(option), str) else before.get(option)
            if isinstance(value, dict) and "name" not in value and isinstance(last, dict):
                given[option] = {**last, **value}
        settled.append({**content, "model": {**section, **given}} if given else content)
        before |= given
    return settled


def _with_mappings(content: dict[str, Any], options: Sequence[str]) -> dict[str, Any]:
    section = _model(content)
    named = {option: {"name": section[option]} for option in options if isinstance(section.get(option), str)}
    return {**content, "model": {**section, **named}} if named else content


def with_names_in_flags(flags: Sequence[str]) -> list[str]:
    """Return flags in which a name is in a mapping where a later one adds an option to it.

    Example:
        >>> with_names_in_flags(["--model.mixer", "depthwise", "--model.mixer.kernel_size", "5"])
        ['--model.mixer={"name": "depthwise"}', '--model.mixer.kernel_size', '5']
    """
    words: list[str] = []
    each = list(said.each(flags))
    for place, one in enumerate(each):
        option = (one.option or "").removeprefix("--model.")
        if option in _NAMED and _NAME.fullmatch(one.value or "") and _are_added(option, each[place + 1 :]):
            words.append(f"{one.option}={json.dumps({'name': one.value})}")
        else:
            words += one.words
    return words


def warn_of_dropped(flags: Sequence[str]) -> None:
    """Warn of options of a mixer or optimiser that a name behind them drops."""
    for option in _NAMED:
        before: list[str] = []
        for one in said.each(flags):
            if (one.option or "").startswith(f"--model.{option}."):
                before += one.words
            elif before and one.option == f"--model.{option}":
                rank_zero_warn(f"{' '.join(before)} has no effect, as {' '.join(one.words)} stands behind it")
                before = []


def _are_added(option: str, flags: Iterable[said.Said]) -> bool:
    return any((one.option or "").startswith(f"--model.{option}.") for one in flags)


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
