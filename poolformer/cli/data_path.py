"""Files and folders given where the name of a data module belongs: which command was meant."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from .. import data
from ..data.listing import ARCHIVES, EXTENSIONS
from ..data.splits import split_kind, splits_among
from ..errors import ConfigError
from ..files.paths import is_url
from ..files.shell import quoted

_HELD_OUT = "--data.val_share 0.2"


def refuse(verb: str, value: str | None) -> None:
    """Refuse a path where a data module's name belongs, with the command to write.

    Args:
        verb: ``fit``, ``validate``, ``test`` or ``predict``.
        value: What ``--data`` is given; None for nothing. Names of data modules, and such as are there nowhere, pass.

    Raises:
        ConfigError: It is a folder, a .beton file, an archive, or an image.
    """
    if not value or value in data.__all__ or value.startswith(("poolformer.", "{")):
        return
    kind = _kind(value)
    if kind is None:
        return
    said = f"--data takes the name of a data module, and '{value}' is {kind}"
    if kind == "a folder" and not _names(value):
        raise ConfigError(f"{said} in which nothing is found")
    raise ConfigError(f"{said}: write {options_for(value, verb=verb)}")


def options_for(path: str, *, verb: str = "fit") -> str:
    """Return the options that read what lies at a path; for an archive, with the command before it."""
    if path.lower().endswith(ARCHIVES):
        stem = Path(path).name.partition(".")[0]
        if verb == "predict":  # images without classes, which are not packed
            return f"{_options(verb, 'FolderData', stem)}, after unpacking {quoted(path)} into {quoted(stem)}"
        beton = f"{stem}.beton"
        return f"{_options(verb, 'FFCVData', beton)}, after `poolformer pack {quoted(path)} {quoted(beton)}`"
    if path.lower().endswith(EXTENSIONS):
        folder = os.path.dirname(path) or "."
        return f"--data FolderData --data.predict {quoted(folder)} to predict, or a folder of class folders"
    if not os.path.isdir(path):
        return _options(verb, "FFCVData", path)
    names = _names(path)
    betons = [name for name in names if name.endswith(".beton")]
    if betons and (parts := _parts(betons)):
        return _options(verb, "FFCVData", *(os.path.join(path, name) for name in parts))
    folders = [name for name in names if os.path.isdir(os.path.join(path, name))]
    parts = _parts(splits_among(folders) or [name for name in folders if split_kind(name) == ("train", ())])
    return _options(verb, "FolderData", *([os.path.join(path, name) for name in parts] or [path]))


def _kind(value: str) -> str | None:
    if os.path.isdir(value):
        return "a folder"
    lowered = value.lower()
    for endings, kind in (((".beton",), "a .beton file"), (ARCHIVES, "an archive"), (EXTENSIONS, "an image")):
        # One that is missing is refused where it is opened, in the words for that.
        if lowered.endswith(endings) and (os.path.isfile(value) or is_url(value) or kind == "a .beton file"):
            return kind
    return None


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:  # said where it is read
        return []


def _parts(names: Iterable[str]) -> list[str]:
    """Return the part to train on and, where there is one, that to validate on."""
    kinds: dict[str, str] = {}
    for name in names:
        kind = split_kind(name.removesuffix(".beton"))
        if kind is not None:
            kinds.setdefault(kind[0], name)
    held = kinds.get("val", kinds.get("test"))
    return [name for name in (kinds.get("train"), held) if name] if "train" in kinds else []


def _options(verb: str, module: str, *paths: str) -> str:
    chosen = f"--data {module}"
    if verb == "predict":
        return f"{chosen} --data.predict {quoted(paths[-1])}"
    if verb != "fit":
        return f"{chosen} --data.{'val' if verb == 'validate' else 'test'} {quoted(paths[-1])}"
    held_out = f"--data.val {quoted(paths[1])}" if paths[1:] else _HELD_OUT
    return f"{chosen} --data.train {quoted(paths[0])} {held_out}"


def remedy(flags: Sequence[str]) -> str:
    """Return what to do where options of files, as ``--data.train PATH``, stand without a data module."""
    given = {}
    for index, word in enumerate(flags):
        option, equals, value = word.partition("=")
        if option.startswith("--data."):
            given[option] = value if equals else "".join(flags[index + 1 : index + 2])
    path = given.get("--data.train", "")
    if _kind(path) and not given.keys() & {"--data.val", "--data.val_share"}:
        return f"write {options_for(path)}"
    return f"add --config s12 or --data {'FFCVData' if path.endswith('.beton') else 'FolderData'}"
