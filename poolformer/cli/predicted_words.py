"""`poolformer predict CKPT IMAGE...`: words without options, as the options of the verb that they stand for."""

import glob
import json
import os
from collections.abc import Sequence

from ..data.listing import EXTENSIONS
from ..errors import ConfigError
from ..files.paths import is_url

_ALONE = ("-h", "--help", "--print_config")
_IMAGES = "images are given as words, or by --data.predict"


def as_options(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of ``predict`` with options in the place of words.

    The first word that ends in .ckpt is the checkpoint; the others are images: files, folders, patterns, or .beton
    files. Images that cannot be read are left out, and said, unless ``--data.on_error`` says otherwise. Any other word
    stays.

    Raises:
        ConfigError: There are images of both kinds, or images are given in both ways.
    """
    options, words, names = _split(arguments)
    checkpoint = [] if "--ckpt_path" in names else [word for word in words if word.endswith(".ckpt")][:1]
    images = [word for word in words if word not in checkpoint and _names_images(word)]
    left = [word for word in words if word not in checkpoint and word not in images]
    found = [*options, *left, *(f"--ckpt_path={path}" for path in checkpoint)]
    if not images:
        return found
    for option in ("--data", "--data.predict", "--data.class_path"):
        if option in names:
            raise ConfigError(f"'{images[0]}' and {option} are both given: {_IMAGES}")
    packed = [image for image in images if image.partition("?")[0].endswith(".beton")]
    if packed and len(packed) < len(images):
        loose = next(image for image in images if image not in packed)
        raise ConfigError(f"'{packed[0]}' is a .beton file and '{loose}' is none: predict them one after the other")
    found += ["--data", "FFCVData" if packed else "FolderData"]
    found.append(f"--data.predict={json.dumps(images) if len(images) > 1 else images[0]}")
    return found if "--data.on_error" in names else [*found, "--data.on_error=skip"]


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str], set[str]]:
    """Split into options with their values, words that belong to none, and the options' names."""
    options, words, names, takes_value = [], [], set(), False
    for argument in arguments:
        if argument.startswith("-") and argument != "-":
            name, equals, _ = argument.partition("=")
            names.add(name)
            options.append(argument)
            takes_value = not equals and not name.startswith(_ALONE) and not name.endswith(".help")
        elif takes_value:
            options.append(argument)
            takes_value = False
        else:
            words.append(argument)
    return options, words, names


def _names_images(word: str) -> bool:
    ending = word.partition("?")[0].lower()
    return (
        ending.endswith((".beton", *EXTENSIONS))
        or (not is_url(word) and (os.path.exists(os.path.expanduser(word)) or glob.has_magic(word)))
        or word.endswith("/")
    )
