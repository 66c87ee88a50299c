"""`poolformer predict CKPT IMAGE...`: words without options, as the options of the verb that they stand for."""

import glob
import json
import os
from collections.abc import Sequence

from ..checkpoint.published import EXPORTED, is_published, published
from ..data.listing import EXTENSIONS
from ..errors import ConfigError
from ..files.paths import is_url
from . import said

_IMAGES = "images are given as words, or by --data.predict"


def as_options(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of ``predict`` with options in the place of words.

    The first word that ends in .ckpt is the checkpoint, or the first word of all names published weights, as
    `poolformer.checkpoint.published` knows them; the others are images: files, folders, patterns, or .beton
    files. Images that cannot be read are left out, and said, unless ``--data.on_error`` says otherwise. Any other word
    stays.

    Raises:
        ConfigError: There are images of both kinds, images are given in both ways, or a word is an exported network.
    """
    heard = list(said.each(arguments))
    options = [word for one in heard if one.option for word in one.words]
    names = {one.option for one in heard if one.option}
    words = [word for one in heard if not one.option for word in one.words]
    if exported := next((word for word in words if word.lower().endswith(EXPORTED)), None):
        raise ConfigError(
            f"'{exported}' is an exported network: predict expects the checkpoint or the .safetensors that it was "
            "exported from; docs/deploying.md has the lines that run it without this package"
        )
    checkpoint = [] if "--ckpt_path" in names else [word for word in words if word.endswith(".ckpt")][:1]
    weights = [] if checkpoint or {"--ckpt_path", "--model.pretrained"} & names else words[:1]
    weights = [word for word in weights if is_published(word)]
    images = [word for word in words if word not in checkpoint and word not in weights and _names_images(word)]
    left = [word for word in words if word not in checkpoint and word not in weights and word not in images]
    found = [*options, *left, *(f"--ckpt_path={path}" for path in checkpoint)]
    if not images:
        return [*found, *weights]
    for option in ("--data", "--data.predict", "--data.class_path"):
        if option in names:
            raise ConfigError(f"'{images[0]}' and {option} are both given: {_IMAGES}")
    packed = [image for image in images if image.partition("?")[0].endswith(".beton")]
    if packed and len(packed) < len(images):
        loose = next(image for image in images if image not in packed)
        raise ConfigError(f"'{packed[0]}' is a .beton file and '{loose}' is none: predict them one after the other")
    found += ["--data", "FFCVData" if packed else "FolderData"]
    found.append(f"--data.predict={json.dumps(images) if len(images) > 1 else images[0]}")
    found += [] if "--data.on_error" in names else ["--data.on_error=skip"]
    return found + [option for word in weights for option in _of_published(word, options)]


def _of_published(word: str, options: Sequence[str]) -> list[str]:
    """Return the options that build the network of published weights and feed it; those that are given count.

    Raises:
        CheckpointError: Nothing says which backbone they are of, or their record would choose what is imported.
    """
    given = said.values(options, "--model.backbone")
    found = published(word, given[-1] if given else None, option="--model.backbone")
    from ..checkpoint.record import check_imports  # torch: 2 s

    names = {one.option for one in said.each(options)}
    model = {name: value for name, value in found.model.items() if f"--model.{name}" not in names}
    check_imports(model, path=word, vouched=(), remedy=_naming)
    model |= {"num_classes": len(found.class_names)} if found.class_names else {}
    values = {f"model.{name}": value for name, value in model.items() if value is not None}
    values |= {"model.pretrained": found.source, "data.image_size": found.image_size, "data.crop_pct": found.crop_pct}
    values |= {"data.orient": True} if found.orient else {}
    return [
        f"--{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in values.items()
        if f"--{name}" not in names
    ]


def _naming(foreign: list[str]) -> str:
    return f"pass --model.backbone or --model.mixer yourself, where you know what {foreign[0]} does"


def _names_images(word: str) -> bool:
    ending = word.partition("?")[0].lower()
    return (
        ending.endswith((".beton", *EXTENSIONS))
        or (not is_url(word) and (os.path.exists(os.path.expanduser(word)) or glob.has_magic(word)))
        or word.endswith("/")
    )
